"""Labels that mean something else: found where they are swapped, and not where images are merely hard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.model.contradiction import Counts, confusion, find_relabelling

NOBODY = np.zeros((2, 2), np.int64)


def counts(*rows: list[int]) -> Counts:
    return np.array(rows, np.int64)


def test_a_confusion_is_counted_one_by_one() -> None:
    targets, answers = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    expected = np.zeros((3, 3), np.int64)
    for target, answer in zip(targets, answers, strict=True):
        expected[target, answer] += 1
    assert (confusion(targets, answers, 3) == expected).all()


# [the newcomer's label, what the others' model says] and [the others' label, what the newcomer's model says].
HONEST = [
    ("both agree", counts([18, 2], [3, 17]), counts([19, 1], [2, 18])),
    ("hard images: no better than a coin", counts([10, 10], [9, 11]), counts([12, 8], [10, 10])),
    ("another stain: all is called one thing", counts([20, 0], [20, 0]), counts([0, 20], [0, 20])),
    ("worse than a coin, but not clearly", counts([7, 13], [12, 8]), counts([10, 10], [10, 10])),
    ("only the newcomer's adapter is odd, its images are not", counts([19, 1], [1, 19]), counts([1, 19], [19, 1])),
    ("three classes, two of which are alike", counts([20, 0, 0], [0, 10, 10], [0, 9, 11]),
     counts([20, 0, 0], [0, 11, 9], [0, 12, 8])),
    ("nothing is known", NOBODY, NOBODY),
]  # fmt: skip
SWAPPED = [
    ("swapped", counts([2, 18], [17, 3]), counts([1, 19], [18, 2]), (1, 0)),
    ("swapped, and nobody to ask back", counts([2, 18], [17, 3]), NOBODY, (1, 0)),
    ("labels of the images alone, the adapter is right", counts([2, 18], [17, 3]), counts([18, 2], [3, 17]), (1, 0)),
    ("swapped, and only both together are clear", counts([6, 14], [13, 7]), counts([4, 16], [14, 6]), (1, 0)),
    ("two of three", counts([19, 0, 1], [0, 1, 19], [0, 20, 0]), counts([20, 0, 0], [0, 2, 18], [1, 18, 1]), (0, 2, 1)),
    # The newcomer's label 1 is what the others call 0, its 2 is their 1, its 0 their 2.
    ("turned round", counts([0, 0, 20], [20, 0, 0], [0, 20, 0]), counts([0, 20, 0], [0, 0, 20], [20, 0, 0]), (1, 2, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("what", "of_newcomer", "of_others"), HONEST, ids=[row[0] for row in HONEST])
def test_nothing_is_said_of_the_honest(what: str, of_newcomer: Counts, of_others: Counts) -> None:
    assert find_relabelling(of_newcomer, of_others) is None


@pytest.mark.parametrize(("what", "of_newcomer", "of_others", "calls"), SWAPPED, ids=[row[0] for row in SWAPPED])
def test_other_meanings_are_named(what: str, of_newcomer: Counts, of_others: Counts, calls: tuple[int, ...]) -> None:
    found = find_relabelling(of_newcomer, of_others)
    assert found is not None and found.calls == calls
    assert found.otherwise > found.same and found.images <= of_newcomer.sum() + of_others.sum()


@given(st.integers(2, 10), st.integers(0, 2**32 - 1))
def test_answers_by_chance_contradict_nobody(classes: int, seed: int) -> None:
    """A model that knows nothing about the other's images; 20 images a class."""
    random = np.random.default_rng(seed)
    targets = np.arange(classes).repeat(20)
    both = [confusion(targets, random.integers(0, classes, len(targets)), classes) for _ in range(2)]
    found = find_relabelling(both[0], both[1])
    assert found is None or classes == 2  # with two classes, one in a thousand of all coins


@given(st.integers(2, 6), st.integers(0, 2**32 - 1), st.floats(0.8, 1.0))
def test_any_other_order_of_labels_is_found(classes: int, seed: int, right: float) -> None:
    """Both parties are right about `right` of all images; the newcomer's labels are in another order."""
    random = np.random.default_rng(seed)
    calls = random.permutation(classes)
    if (calls == np.arange(classes)).all():
        calls = np.roll(calls, 1)
    truth = np.arange(classes).repeat(20)

    def seen() -> np.ndarray:
        guess = random.integers(0, classes, len(truth))
        return np.where(random.random(len(truth)) < right, truth, guess)

    of_newcomer = confusion(calls[truth], seen(), classes)
    of_others = confusion(truth, calls[seen()], classes)
    found = find_relabelling(of_newcomer, of_others)
    assert found is not None and found.calls == tuple(calls)
