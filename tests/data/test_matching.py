"""Labels stand for classes by name or as a person says; never by position."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.data.matching import Given, KnownTask, by_name, check_texts, fits, given_for
from forge.errors import ForgeError

TASK = KnownTask(("benign breast tissues", "malignant breast tumors"), ("benign", "malignant"))


@pytest.mark.parametrize(
    ("classes", "said", "found"),
    [
        (("benign", "malignant"), {}, dict(zip(("benign", "malignant"), TASK.labels, strict=True))),
        (("malignant", "Benign "), {}, {"malignant": TASK.labels[1], "Benign ": TASK.labels[0]}),
        (("malignant breast tumors",), {}, {"malignant breast tumors": TASK.labels[1]}),
        (("apples", "pears"), {}, {}),
        (("apples", "benign"), {"apples": TASK.labels[1]}, {"apples": TASK.labels[1], "benign": TASK.labels[0]}),
        (("benign",), {"benign": TASK.labels[1]}, {"benign": TASK.labels[1]}),
        (("apples",), {"apples": "a fruit"}, {}),
    ],
)
def test_by_name(classes: tuple[str, ...], said: dict[str, str], found: dict[str, str]) -> None:
    assert by_name(classes, TASK, said) == found


def test_a_name_that_could_be_two_has_none() -> None:
    swapped = KnownTask(("b", "a"), ("a", "b"))
    assert by_name(("a", "b"), swapped, {}) == {}


@given(st.permutations(["0", "1", "2", "10", "11"]))
def test_the_order_of_classes_says_nothing(order: list[str]) -> None:
    task = KnownTask(tuple(f"type {name}" for name in order), tuple(order))
    found = by_name(sorted(order), task, {})
    assert fits(found, sorted(order)) and all(found[name] == f"type {name}" for name in order)


def test_two_classes_of_one_label_do_not_fit() -> None:
    assert not fits(by_name(("benign", "BENIGN"), TASK, {}), ("benign", "BENIGN"))


def test_what_a_person_says() -> None:
    nfd = unicodedata.normalize("NFD", "bösartig")
    assert given_for(Given(pairs=("a=b=c",)), ["a", "x"], "here") == {"a": "b=c"}
    assert given_for(Given(pairs=(f"{nfd}={nfd}",)), ["bösartig"], "here") == {"bösartig": "bösartig"}
    assert given_for(Given(pairs=("other=text",)), ["a"], "here", ["other"]) == {}
    assert given_for(Given(("one", "two")), ["a", "b"], "here") == {"a": "one", "b": "two"}
    for wrong in (("c=text",), ("a",), ("a=one", "a=two")):
        with pytest.raises(ForgeError, match="names"):
            given_for(Given(pairs=wrong), ["a", "b"], "here")
    with pytest.raises(ForgeError, match=r"here has 2 classes \(a, b\), but there are 1 labels"):
        given_for(Given(("one",)), ["a", "b"], "here")
    with pytest.raises(ForgeError, match="--labels and --label"):
        Given(("one",), ("a=one",))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (("H&E", "H&amp;E"), "the same text to the model"),
        (("Benign", "benign"), "there twice"),
        (("x", "x"), "there twice"),
        (("0", "1"), "are numbers"),
        (("benign", " -1 "), "are numbers"),
    ],
)
def test_texts_that_teach_nothing(labels: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ForgeError, match=reason) as caught:
        check_texts(labels, ("a", "b"), "here")
    assert caught.value.hint
    check_texts(("grade 0", "grade 1"), ("0", "1"), "here")
