"""git forge evaluate: ACC and AUC of versions of the model on real images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.commands.reading import label_option, picture_options, read_options

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
    from forge.console import emit_json, print_table
    from forge.data.matching import Given
    from forge.errors import ForgeError
    from forge.git.running import find_repository

    if (labels or pairs) and len(folders) > 1:
        raise ForgeError(
            "--labels and --label speak of one data set, but there are several --data", hint="evaluate one by one"
        )
    repo = find_repository()

    from forge.operations.evaluate import evaluate_models

    asked = revs or (() if alone else ("HEAD",))
    rows = evaluate_models(repo, asked, alone, folders, Given(labels, pairs), read_options(grey, skip_unreadable))
    if as_json:
        emit_json([{**row, "data": str(row["data"])} for row in rows])
        return
    names = [_short(path) for path in folders]
    table: dict[str, list[str]] = {}
    for row in rows:
        cells = table.setdefault(row["model"], [""] * len(folders))  # empty where a data set fits no task
        auc = "-" if row["auc"] is None else f"{row['auc']:.3f}"
        cells[folders.index(row["data"])] = f"{row['accuracy']:.3f} / {auc}"
    headers = ["ACC / AUC", *names]
    if len(folders) > 1:
        headers.append("average")
        for model, cells in table.items():
            cells.append(_average([row for row in rows if row["model"] == model]))
    print_table(headers, [[model, *cells] for model, cells in table.items()], right=set(range(1, len(headers))))


def _short(path: Path) -> str:
    """What tells data sets apart: breast of .../breast/test."""
    return path.parent.name if path.name in ("test", "val", "train") and path.parent.name else path.name


def _average(rows: list[Row]) -> str:
    accuracy = sum(row["accuracy"] for row in rows) / len(rows)
    areas = [row["auc"] for row in rows if row["auc"] is not None]
    return f"{accuracy:.3f} / " + (f"{sum(areas) / len(areas):.3f}" if len(areas) == len(rows) else "-")
