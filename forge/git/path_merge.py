"""What a merge must make of a whole file, by the rule of three-way merges alone; nothing is read, no driver is called.

Only one side changed it since the merge base: that side's. Both did: whoever merged has decided, and answers for it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

File = tuple[str, str]  # mode as git has it ("100644"), and the id of the object
FileOf = Callable[[str, str], File | None]  # (commit, path): the file; None where there is none
BasesOf = Callable[[str, tuple[str, ...]], tuple[str, ...]]  # the merge bases of a commit and what others merged to

MAX_BASES = 16
MAX_DEPTH = 8  # of merge bases of merge bases: a history that goes deeper was made to


class Unsettled(Enum):
    """Both sides changed the file, each in its own way: no rule says what a merge makes of it."""

    UNSETTLED = "unsettled"


UNSETTLED = Unsettled.UNSETTLED


def settled(
    path: str, sides: tuple[str, ...], file_of: FileOf, bases_of: BasesOf, depth: int = MAX_DEPTH
) -> File | Unsettled | None:
    """What merging `sides` (commits), one after the other, makes of a file; None where it is not there afterwards.

    Where two commits have several merge bases, those are merged in the same way first, as git does.
    """
    result: File | Unsettled | None = file_of(sides[0], path)
    for number, side in enumerate(sides[1:], 1):
        other = file_of(side, path)
        if result == other:
            continue
        bases = bases_of(side, sides[:number])
        base: File | Unsettled | None = None  # histories with nothing in common: each side has added what it has
        if len(bases) > MAX_BASES or (len(bases) > 1 and depth == 0):
            base = UNSETTLED
        elif bases:
            base = settled(path, bases, file_of, bases_of, depth - 1)
        if base is not UNSETTLED and result == base:
            result = other
        elif base is UNSETTLED or other != base:
            return UNSETTLED
    return result
