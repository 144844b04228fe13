"""Whether two parties that use the same labels mean other things by them, told from who says what of whose images.

A contribution whose labels are swapped does not look wrong from within: its adapter is right about its own images. It
shows where it meets another one with the same labels: each calls the other's images by the wrong names, and both by
the same wrong names. Images of another hospital that are merely hard give many wrong answers, but no such pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]  # [classes, classes]

CHANCE = 1e-3  # of seeing so clear a pattern among images on which both readings are a toss-up
LEAST_SHARE = 0.5  # of all images that the other reading must explain


@dataclass(frozen=True)
class Relabelling:
    """How one party's labels read to the other: `calls[i]` is what it calls the other's class i.

    images: those that one party has called one of its labels. same and otherwise: how many of them agree when the
    labels are taken as they are, and when they are taken as `calls` has it.
    """

    calls: tuple[int, ...]
    images: int
    same: int
    otherwise: int


def confusion(targets: NDArray[Any], answers: NDArray[Any], classes: int) -> Counts:
    """Counts [target, answer] of images whose labels and answers are [n] class numbers."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.asarray(targets), np.asarray(answers)), 1)
    return counts


def find_relabelling(of_newcomer: Counts, of_others: Counts) -> Relabelling | None:
    """How a newcomer's labels are to be read, where they clearly mean something else than the others'; else None.

    of_newcomer: [the newcomer's label, what the others' model says] on the newcomer's distilled images. of_others:
    [the others' label, what the newcomer's model says] on theirs; all zero where they have none. Both use one order of
    classes. Clear is what either shows by itself on the newcomer's images, or both show together.
    """
    by_others = of_newcomer.T  # [others' class, newcomer's class], as of_others
    for counts, each in ((by_others, (by_others,)), (by_others + of_others, (by_others, of_others))):
        calls = _best(counts)
        relabelling = _read(counts, calls)
        if relabelling.calls == tuple(range(len(calls))) or not _is_clear(counts, calls):
            continue
        if all(_read(one, calls).otherwise >= _read(one, calls).same for one in each):
            return relabelling
    return None


def _best(counts: Counts) -> tuple[int, ...]:
    """The one-to-one reading of labels under which the most images agree; as they are where that is as good."""
    from scipy.optimize import linear_sum_assignment

    same = np.eye(len(counts)) * 0.5  # half an image: it decides ties, and nothing else
    _, columns = linear_sum_assignment(counts + same, maximize=True)
    return tuple(int(column) for column in columns)


def _read(counts: Counts, calls: tuple[int, ...]) -> Relabelling:
    rows = np.arange(len(counts))
    return Relabelling(calls, int(counts.sum()), int(np.trace(counts)), int(counts[rows, list(calls)].sum()))


def _is_clear(counts: Counts, calls: tuple[int, ...]) -> bool:
    """A one-sided sign test over the images that agree under one of the two readings only."""
    from scipy.stats import binom

    changed = [row for row, column in enumerate(calls) if row != column]
    otherwise = int(sum(counts[row, calls[row]] for row in changed))
    same = int(sum(counts[row, row] for row in changed))
    if _read(counts, calls).otherwise < LEAST_SHARE * counts.sum():
        return False
    return bool(binom.sf(otherwise - 1, otherwise + same, 0.5) < CHANCE)
