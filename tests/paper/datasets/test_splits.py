"""Dividing units into splits: whole units, every class in every split, the shares of the paper's data sets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.paper.datasets.splits import LabelledFile, at_most, divide
from forge.errors import ForgeError


def files_of(units: dict[str, int], each: int = 1) -> list[LabelledFile]:
    return [LabelledFile(Path(f"{unit}/{n}"), target, unit) for unit, target in units.items() for n in range(each)]


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        # BreakHis: 24 benign patients, 57 malignant ones (58 slides, two of one patient).
        ({0: 24, 1: 57}, {"train": [15, 36], "validation": [2, 4], "test": [7, 17]}),
        # LC25000: 10,500 images for training, as the paper says, before some are held back for validation.
        ({0: 5000, 1: 5000, 2: 5000}, {"train": [3150] * 3, "validation": [350] * 3, "test": [1500] * 3}),
        ({0: 3}, {"train": [1], "validation": [1], "test": [1]}),
    ],
    ids=["BreakHis", "LC25000", "smallest"],
)
def test_the_shares_of_the_real_data_sets(units: dict[int, int], expected: dict[str, list[int]]) -> None:
    files = files_of({f"{target}-{n}": target for target, count in units.items() for n in range(count)})
    parts = divide(files, ["label"] * len(units), test=0.3, validation=0.1, seed=1, source="data")
    counts = {split: Counter(file.target for file in part) for split, part in parts.items()}
    assert {split: [count[target] for target in units] for split, count in counts.items()} == expected


@given(
    st.lists(st.integers(3, 12), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    st.integers(0, 2**32),
)
def test_whole_units_each_file_once_and_every_class_wherever_it_is_asked_for(
    counts: list[int], test: float, validation: float, seed: int
) -> None:
    units = {f"{n}-{target}": target for target, count in enumerate(counts) for n in range(count)}
    files = files_of(units, each=2)
    labels = [f"label {target}" for target in range(len(counts))]
    parts = divide(files, labels, test=test, validation=validation, seed=seed, source="data")
    assert sorted(file.path for part in parts.values() for file in part) == sorted(file.path for file in files)
    asked = {"train"} | ({"test"} if test else set()) | ({"validation"} if validation else set())
    for split, part in parts.items():
        assert {file.target for file in part} == (set(range(len(counts))) if split in asked else set())
        for other, rest in parts.items():
            assert split == other or not {file.unit for file in part} & {file.unit for file in rest}
    backwards = divide(files[::-1], labels, test=test, validation=validation, seed=seed, source="data")
    assert all(set(parts[split]) == set(backwards[split]) for split in parts)


def test_the_test_set_does_not_depend_on_the_validation_share() -> None:
    files = files_of({f"{n}": n % 2 for n in range(40)})
    tests = [
        divide(files, ["a", "b"], test=0.3, validation=share, seed=3, source="data")["test"] for share in (0, 0.1, 0.4)
    ]
    assert tests[0] == tests[1] == tests[2]


def test_seeds_give_other_divisions() -> None:
    files = files_of({f"{n}": 0 for n in range(40)})
    found = {
        tuple(f.unit for f in divide(files, ["a"], test=0.3, validation=0, seed=seed, source="data")["test"])
        for seed in range(5)
    }
    assert len(found) == 5


def test_too_few_units_are_refused() -> None:
    with pytest.raises(ForgeError, match=r"my data: 2 unit\(s\) of 'rare tumor' cannot be divided into 3 splits"):
        divide(
            files_of({"a": 0, "b": 0, "c": 0, "d": 1, "e": 1}), ["tissue", "rare tumor"],
            test=0.3, validation=0.1, seed=0, source="my data",
        )  # fmt: skip


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_senseless_shares_are_refused(share: float) -> None:
    for shares in ({"test": share, "validation": 0.1}, {"test": 0.3, "validation": share}):
        with pytest.raises(ForgeError, match="cannot be held back"):
            divide(files_of({"a": 0, "b": 0, "c": 0}), ["label"], seed=0, source="data", **shares)


def test_a_cap_takes_a_seeded_choice_of_each_class() -> None:
    files = files_of({f"{n:02}": n % 2 for n in range(20)} | {"only": 2})
    chosen = at_most(files, 4, seed=0)
    assert Counter(file.target for file in chosen) == {0: 4, 1: 4, 2: 1}
    assert chosen == [file for file in files if file in chosen]  # in their order
    assert chosen == at_most(files, 4, seed=0) != at_most(files, 4, seed=1)
    assert at_most(files, None, seed=0) == files
