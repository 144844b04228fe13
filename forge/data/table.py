"""A data set as a table: a .csv or .tsv with the columns path and label, and perhaps patient and split."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forge.data.names import split_called
from forge.errors import ForgeError

SUFFIXES = (".csv", ".tsv")
COLUMNS = ("path", "label", "patient", "split")
_HINT = "the first line names the columns: path and label, and perhaps patient and split"


@dataclass(frozen=True)
class Row:
    """One picture; path is absolute or below the table's folder. label is empty in a table without one."""

    path: Path
    label: str
    patient: str | None
    split: str | None


def read_table(file: Path, *, labelled: bool = True) -> list[Row]:
    """The rows of a table, in its order. Raises ForgeError naming the file and the line of what is wrong."""
    text = _text(file)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(file, text), strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ForgeError(f"{file}, line {reader.line_num}: {error}", hint="write it as plain CSV in UTF-8") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise ForgeError(f"{file} is empty", hint=_HINT)
    columns = _columns(file, lines[0][1], labelled)
    if len(lines) == 1:
        raise ForgeError(f"{file} names no images", hint=_HINT)
    rows: list[Row] = []
    seen: dict[Path, int] = {}
    for number, cells in lines[1:]:
        row = _row(file, number, cells, columns)
        if row.path in seen:
            raise ForgeError(
                f"{file}, line {number}: {row.path} is in line {seen[row.path]} as well", hint="name each image once"
            )
        seen[row.path] = number
        rows.append(row)
    return rows


def check_patients(rows: Sequence[Row], file: Path) -> None:
    """Refuse a patient who has images in two splits."""
    splits: dict[str, str] = {}
    both = set()
    for row in rows:
        if row.patient is not None and row.split is not None and splits.setdefault(row.patient, row.split) != row.split:
            both.add(row.patient)
    if both:
        raise ForgeError(
            f"{file}: {len(both)} patient(s) have images in more than one split: {', '.join(sorted(both)[:3])}",
            hint="keep each patient in one split",
        )


def _row(file: Path, number: int, cells: Sequence[str], columns: dict[str, int]) -> Row:
    values = {name: cells[place] if place < len(cells) else "" for name, place in columns.items()}
    for name, value in values.items():
        if not value:
            raise ForgeError(f"{file}, line {number}: {name} is empty", hint="fill in every cell of the columns it has")
    split = split_called(values["split"]) if "split" in values else None
    if "split" in values and split is None:
        raise ForgeError(f"{file}, line {number}: {values['split']!r} is no split", hint="write train, val or test")
    return Row(file.parent / values["path"], values.get("label", ""), values.get("patient"), split)


def _columns(file: Path, header: Sequence[str], labelled: bool) -> dict[str, int]:
    names = [name.casefold() for name in header]
    for name in COLUMNS:
        if names.count(name) > 1:
            raise ForgeError(f"{file} has the column {name} twice", hint=_HINT)
    for name in ("path", "label") if labelled else ("path",):
        if name not in names:
            raise ForgeError(f"{file} has no column {name}; it has: {', '.join(header)}", hint=_HINT)
    columns = COLUMNS if labelled else ("path",)
    return {name: names.index(name) for name in columns if name in names}


def _delimiter(file: Path, text: str) -> str:
    """A tab in a .tsv; in a .csv what its header has: spreadsheets write ; where the comma is the decimal point."""
    if file.suffix.lower() == ".tsv":
        return "\t"
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ForgeError(
            f"{file} is not UTF-8: {error.reason} at byte {error.start}", hint="save it as UTF-8"
        ) from error
    except OSError as error:
        raise ForgeError(f"{file} cannot be read: {error.strerror}", hint="check the path") from error
