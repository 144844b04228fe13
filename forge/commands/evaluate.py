"""git forge evaluate: ACC and AUC of versions of the model on real images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forge.commands.reading import given_labels, label_option, picture_options, read_options
from forge.commands.several import processes_option
from forge.console import emit_json, note, print_table

if TYPE_CHECKING:
    from forge.operations.evaluate import Row


@click.command("evaluate")
@click.argument("revs", nargs=-1, metavar="[REV]...")
@click.option(
    "--data",
    "folders",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Image folder (one sub-folder a class), .csv or .tsv (path, label), or .npz; once per task.",
)
@click.option("--contribution", "alone", multiple=True, metavar="NAME", help="That contribution alone, too.")
@click.option("--labels", multiple=True, metavar="TEXT", help="A label text per class, in the classes' sorted order.")
@label_option
@picture_options
@processes_option
@click.option("--json", "as_json", is_flag=True)
def command(
    revs: tuple[str, ...],
    folders: tuple[Path, ...],
    alone: tuple[str, ...],
    labels: tuple[str, ...],
    pairs: tuple[str, ...],
    grey: tuple[float, float] | None,
    skip_unreadable: bool,
    as_json: bool,
) -> None:
    """Measure the models of REV... on labelled images that they have not seen.

    Without REV it is HEAD, or only the named contributions of HEAD. ACC is the share of right answers; AUC is
    one-vs-rest, averaged over the classes. A REV whose forge item is empty is the base itself. Each DATA finds its
    task by the names of its classes: those of the labels, or those of the images that a contribution was trained on.
    Where they are neither, say which label each is with --label.
    """
    from forge.operations.evaluate import evaluate_models
    from forge.operations.opening import open_repository

    rows = evaluate_models(
        open_repository(),
        revs,
        folders,
        alone=alone,
        given=given_labels(labels, pairs),
        options=read_options(grey, skip_unreadable),
        report=note,
    )
    if as_json:
        emit_json([row_as_json(row) for row in rows])
    else:
        _print(rows, folders)


def row_as_json(row: Row) -> dict[str, Any]:
    """A row as --json has it."""
    return {**vars(row), "data": str(row.data)}


def _print(rows: Sequence[Row], folders: Sequence[Path]) -> None:
    from forge.commands.tables import accuracy_and_area

    table: dict[str, list[str]] = {}
    for row in rows:
        cells = table.setdefault(row.model, [""] * len(folders))  # empty where a data set fits no task
        cells[folders.index(row.data)] = accuracy_and_area(row.accuracy, row.auc)
    headers = ["ACC / AUC", *map(_short, folders)]
    if len(folders) > 1:
        headers.append("average")
        for model, cells in table.items():
            cells.append(_average([row for row in rows if row.model == model]))
    print_table(headers, [[model, *cells] for model, cells in table.items()], right=set(range(1, len(headers))))


def _short(path: Path) -> str:
    """What tells data sets apart: breast of .../breast/test."""
    return path.parent.name if path.name in ("test", "val", "train") and path.parent.name else path.name


def _average(rows: Sequence[Row]) -> str:
    from forge.commands.tables import accuracy_and_area

    areas = [row.auc for row in rows if row.auc is not None]
    return accuracy_and_area(
        sum(row.accuracy for row in rows) / len(rows), sum(areas) / len(areas) if len(areas) == len(rows) else None
    )
