"""Names of splits, junk and classes, as tables."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.data.names import is_junk_folder, is_number, sorted_classes, split_called
from forge.text import same_labels, same_text


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Train", "train"), ("TRAINING", "train"), ("training set", "train"), ("01_train", "train"),
        ("trainset", "train"), ("train_images", "train"), ("TrainData", "train"),
        ("val", "val"), ("Valid", "val"), ("validation", "val"), ("dev", "val"), ("val-set", "val"),
        ("test", "test"), ("Testing", "test"), ("test_data", "test"), ("tst", "test"),
        ("benign", None), ("tested positive", None), ("trainee", None), ("contest", None), ("invalid", None),
        ("test negative", None), ("", None), ("images", None), ("0", None),
    ],
)  # fmt: skip
def test_splits_in_other_spellings(name: str, split: str | None) -> None:
    assert split_called(name) == split


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints", "@eaDir", ".Trash-1000", "__MACOSX", "lost+found", "$RECYCLE.BIN", ".git", "#recycle"],
)
def test_what_programs_leave_behind(name: str) -> None:
    assert is_junk_folder(name) and not is_junk_folder("benign")


def test_classes_that_are_numbers_are_in_the_order_of_numbers() -> None:
    assert sorted_classes(map(str, range(12))) == [str(number) for number in range(12)]
    assert sorted_classes(["-1", "7", "+3", "02"]) == ["-1", "02", "+3", "7"]
    assert sorted_classes(["grade 10", "grade 9", "10"]) == ["10", "grade 10", "grade 9"]


@given(st.integers(-(10**17), 10**17))
def test_numbers(number: int) -> None:
    assert is_number(f" {number} ") and not is_number(f"{number} cells") and not is_number(f"{number}.5")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Benign", "benign"),
        (" benign   tissue ", "benign tissue"),
        ("H&E", "H&amp;E"),
        ("H&E", "H&amp;amp;E"),
        ("bösartig", unicodedata.normalize("NFD", "bösartig")),
    ],
)
def test_texts_that_people_take_for_the_same(one: str, other: str) -> None:
    assert same_text(one) == same_text(other)
    assert same_labels([one, "x"]) == same_labels(["X", other])
    assert same_text(one) != same_text(one + "e")
