"""The tables that several verbs print: scores before and after, and ACC with AUC, always with three decimals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from forge.text import figure

# Headers, rows, and the indices of the columns of numbers.
Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]], tuple[int, ...]]


@dataclass(frozen=True)
class BeforeAfter:
    """A figure of two models; None where it is not known of one."""

    before: float | None
    after: float | None

    def cells(self) -> tuple[str, str]:
        return figure(self.before), figure(self.after)


@dataclass(frozen=True)
class ScoreRow:
    """Two models on the same images, whose number may not be known."""

    name: str
    accuracy: BeforeAfter
    cross_entropy: BeforeAfter
    images: int | None = None


def score_table(
    what: str, before: str, after: str, rows: Sequence[ScoreRow], *, images: Literal["first", "last"] | None = None
) -> Table:
    """Accuracy and cross-entropy of two models, a row for each of `rows`.

    what: the header of their names. before, after: the two models, in the headers of their figures. images: whether
    the number of images comes first, last or not at all.
    """
    headers = [f"Accuracy {before}".rstrip(), after, f"Cross-entropy {before}".rstrip(), after]
    cells = [[*row.accuracy.cells(), *row.cross_entropy.cells()] for row in rows]
    if images is not None:
        place = 0 if images == "first" else len(headers)
        headers.insert(place, "Images")
        for row, figures in zip(rows, cells, strict=True):
            figures.insert(place, "-" if row.images is None else str(row.images))
    named = [(row.name, *figures) for row, figures in zip(rows, cells, strict=True)]
    return (what, *headers), named, tuple(range(1, len(headers) + 1))


def accuracy_and_area(accuracy: float, auc: float | None) -> str:
    """ACC / AUC in one cell."""
    return f"{accuracy:.3f} / {figure(auc)}"
