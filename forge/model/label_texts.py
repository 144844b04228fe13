"""Label texts as a base reads them: as rows of tokens, cut at the length of its context."""

from __future__ import annotations

from collections.abc import Sequence

from forge.errors import ForgeError
from forge.model.base import BaseModel


def check_label_texts(base: BaseModel, labels: Sequence[str], source: str) -> dict[str, str]:
    """What the base reads of the labels that it cuts, by label. Raises ForgeError where two are the same to it."""
    rows = [tuple(row) for row in base.tokenizer(list(labels)).tolist()]
    seen: dict[tuple[int, ...], str] = {}
    for label, row in zip(labels, rows, strict=True):
        if row in seen:
            raise ForgeError(
                f"{source}: {seen[row]!r} and {label!r} are the same text to this base, which reads {len(row)} tokens",
                hint="say early in each text what tells the classes apart, with --label CLASS=TEXT",
            )
        seen[row] = label
    return {label: read for label, row in zip(labels, rows, strict=True) if (read := _read(base, label, row)) != label}


def _read(base: BaseModel, label: str, row: tuple[int, ...]) -> str:
    """The shortest beginning of a label that gives its tokens: the label itself where nothing is cut."""

    def same(text: str) -> bool:
        return tuple(base.tokenizer([text]).tolist()[0]) == row

    if not same(f"{label} and more"):
        return label
    read = label
    for end in range(len(label) - 1, 0, -1):
        if not same(label[:end]):
            break
        read = label[:end]
    return read if read.rstrip() != label.rstrip() else label
