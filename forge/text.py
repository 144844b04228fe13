"""Plain text: aligned columns and untrusted strings, for terminals, pipes and textconv alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence


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
    headers: Sequence[str], rows: Sequence[Sequence[object]], right: Collection[int] = ()
) -> Iterator[str]:
    """As `aligned`, line by line: a column as wide as its widest cell may fill most of a large table."""
    table = [[printable(cell) for cell in row] for row in [headers, *rows]]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            " " * (width - _width(cell)) + cell if index in right else cell + " " * (width - _width(cell))
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip() + "\n"


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
