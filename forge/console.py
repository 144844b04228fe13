"""What people see: words and progress, tables and JSON; the one place where text leaves for a terminal.

Names, labels, paths, subjects and what git says come from other people: everything is made `printable` here, so that
no caller has to think of it. rich is imported only where a terminal is there to show it on.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from forge import processes
from forge.text import aligned_lines, printable

T = TypeVar("T")


class Advance(Protocol):
    """Says that `steps` more are done; `fields` are figures to show, such as loss=0.31."""

    def __call__(self, steps: int = 1, **fields: object) -> None: ...


class Report(Protocol):
    """Takes lines that a person may want to read while an operation is at work; nothing depends on them."""

    def __call__(self, *lines: str) -> None: ...


def silent(*lines: str) -> None:
    """A Report that nobody reads."""


def note(*lines: str) -> None:
    """A Report on standard error: what a verb says beside its result."""
    if lines:
        say(*lines, err=True)


def say(*lines: str, err: bool = False) -> None:
    """Lines on standard output, or with `err` on standard error; none at all is an empty line.

    A line end within a line is shown escaped: a name that holds one cannot look like a line of ours. Of several
    processes that share the work the main one speaks.
    """
    if not processes.is_heard():
        return
    import click  # what git starts for a file or a commit says nothing as a rule, and does without

    click.echo("\n".join(map(printable, lines)), err=err)


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Advance]:
    """A progress bar on standard error for the time of the block; nothing where that is not a terminal."""
    if not sys.stderr.isatty() or not processes.is_main():
        yield _no_bar
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(printable(label), total=total, figures="")

        def advance(steps: int = 1, **fields: object) -> None:
            if fields:
                bars.update(task, advance=steps, figures=_figures(fields))
            else:
                bars.update(task, advance=steps)

        yield advance


def track(iterable: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
    """The items of `iterable`, with a progress bar."""
    with progress(label, total) as advance:
        for item in iterable:
            yield item
            advance()


def print_table(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Collection[int] = (),
    title: str | None = None,
) -> None:
    """A table on standard output: with rich on a terminal, else plain aligned text without colours.

    right: indices of the columns to align right (numbers).
    """
    if not sys.stdout.isatty():
        heading = f"{printable(title)}\n" if title else ""
        sys.stdout.write(heading)
        sys.stdout.writelines(aligned_lines(headers, rows, right))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=printable(title) if title else None, title_justify="left")
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index in right else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: names may hold rich's markup
    Console(highlight=False).print(table)


def emit_json(value: object) -> None:
    """`value` as indented JSON on standard output, for scripts; what a terminal would obey stands escaped in it."""
    sys.stdout.write("\n".join(_json_lines(value)) + "\n")


def emit_json_list(values: Iterable[object]) -> None:
    """As emit_json of the list of them; each is written as soon as it is there, and let go of."""
    before = "[\n"
    for value in values:
        sys.stdout.write(before + "\n".join(f"  {line}" for line in _json_lines(value)))
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


def emit_csv(rows: Iterable[Sequence[object]]) -> None:
    """Rows on standard output as CSV, each as soon as it is there; what a terminal would obey stands escaped."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    for row in rows:
        writer.writerow([printable(cell) for cell in row])


def _json_lines(value: object) -> list[str]:
    import json

    plain = (sys.stdout.encoding or "utf-8").lower() not in ("utf-8", "utf8")  # what it lacks could not be read back
    text = json.dumps(value, indent=2, ensure_ascii=plain, allow_nan=False)
    return [_json_escaped(line) for line in text.split("\n")]


def _json_escaped(line: str) -> str:
    """json.dumps escapes the ASCII controls alone; the others can stand in strings only, where \\u does the same."""
    if line.isprintable():
        return line
    import json

    return "".join(c if printable(c) == c else json.dumps(c)[1:-1] for c in line)


def _figures(fields: dict[str, object]) -> str:
    shown = (f"{value:.4g}" if isinstance(value, float) else printable(value) for value in fields.values())
    return "  ".join(f"{name} {value}" for name, value in zip(fields, shown, strict=True))


def _no_bar(steps: int = 1, **fields: object) -> None:
    pass
