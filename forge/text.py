"""Plain text: aligned columns and untrusted strings, for terminals, pipes and textconv alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import IO

_HELD = 4 << 20  # characters of a table


def printable(value: object) -> str:
    """`value` as one line that no terminal obeys: control characters are shown escaped.

    Labels, names and metadata come from other people's files; an escape sequence in them must not act.
    """
    text = value if isinstance(value, str) else str(value)
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def printable_lines(text: str) -> str:
    """`text` of several lines, each as `printable` gives it; line ends stay."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "\n".join(map(printable, text.split("\n")))


def figure(value: float | None) -> str:
    """Three decimals, "-" for what is not known."""
    return "-" if value is None else f"{value:.3f}"


def same_text(text: str) -> str:
    """`text` apart from what CLIP's tokenisers do not see: case, spaces, HTML's entities, how an accent is encoded."""
    import html

    plain = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
    return " ".join(plain.split()).casefold()


def same_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """What label sets have in common that are one to a model, in whatever order."""
    return tuple(sorted(map(same_text, labels)))


def aligned(headers: Sequence[str], rows: Sequence[Sequence[object]], right: Collection[int] = ()) -> str:
    """Rows as columns two spaces apart, without trailing spaces; ends in a newline.

    right: indices of the columns to align right (numbers).
    """
    return "".join(aligned_lines(headers, rows, right))


def aligned_lines(
    headers: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[int] = ()
) -> Iterator[str]:
    """As `aligned`, line by line: a column as wide as its widest cell may fill most of a large table.

    Of rows that come one by one, no more than a few mebibytes are held: the widths are known after the last of them.
    """
    widths = [0] * len(headers)
    with _Kept() as kept:
        for row in chain([headers], rows):
            cells = [printable(cell) for cell in row]
            widths = [max(width, _width(cell)) for width, cell in zip(widths, cells, strict=True)]
            kept.add(cells)
        for cells in kept.all():
            padded = [
                " " * (width - _width(cell)) + cell if index in right else cell + " " * (width - _width(cell))
                for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ]
            yield "  ".join(padded).rstrip() + "\n"


class _Kept:
    """Rows of printable cells, in their order; in a file of the system's once they are many."""

    def __init__(self) -> None:
        self._rows: list[list[str]] = []
        self._characters = 0
        self._file: IO[str] | None = None

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, cells: list[str]) -> None:
        self._rows.append(cells)
        self._characters += sum(map(len, cells))
        if self._characters > _HELD:
            from tempfile import TemporaryFile  # loads much, for tables that are seldom so large

            if self._file is None:
                self._file = TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115
            # What is printable holds neither tabs nor line ends.
            self._file.writelines("\t".join(row) + "\n" for row in self._rows)
            self._rows, self._characters = [], 0

    def all(self) -> Iterator[list[str]]:
        if self._file is not None:
            self._file.seek(0)
            yield from (line[:-1].split("\t") for line in self._file)
        yield from self._rows


def _shown(character: str) -> str:
    # Format characters (Cf) include the bidirectional overrides, which reorder what is read.
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return character.encode("unicode_escape", "backslashreplace").decode() if hidden else character


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    marks = sum(unicodedata.combining(character) > 0 for character in text)
    return len(text) + wide - marks
