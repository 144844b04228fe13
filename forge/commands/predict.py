"""git forge predict: label probabilities of images under a version of the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.commands.reading import picture_options, read_options
from forge.console import emit_csv, emit_json, note, print_table

if TYPE_CHECKING:
    from forge.operations.predict import Predicted


@click.command("predict")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--labels", multiple=True, metavar="TEXT", help="The label texts to choose among, one option each.")
@click.option("--contribution", metavar="NAME", help="Use the labels of that contribution.")
@click.option("--rev", default="HEAD", show_default=True, help="The version of the model.")
@picture_options
@click.option("--csv", "style", flag_value="csv", help="Print CSV, image by image.")
@click.option("--json", "style", flag_value="json", help="Print JSON, for scripts.")
def command(
    images: tuple[Path, ...],
    labels: tuple[str, ...],
    contribution: str | None,
    rev: str,
    grey: tuple[float, float] | None,
    skip_unreadable: bool,
    style: str | None,
) -> None:
    """Print the probability of every label for each of IMAGES. Not a medical device.

    An image may be a folder, which stands for all below it, or a .csv or .tsv with a column path.
    """
    from forge.operations.opening import open_repository
    from forge.operations.predict import predict

    options = read_options(grey, skip_unreadable)
    predicted = predict(
        open_repository(), rev, images, labels=labels, contribution=contribution, options=options, report=note
    )
    if style == "csv":
        emit_csv(_csv(predicted))
    elif style == "json":
        pairs = ((path, dict(zip(predicted.labels, row, strict=True))) for path, row in predicted.rows)
        emit_json([{"image": str(path), "probabilities": probabilities} for path, probabilities in pairs])
    else:
        table = [[str(path), *(f"{value:.3f}" for value in row)] for path, row in predicted.rows]
        print_table(["image", *predicted.labels], table, right=set(range(1, len(predicted.labels) + 1)))


def _csv(predicted: Predicted) -> Iterator[list[object]]:
    yield ["image", *predicted.labels]
    for path, row in predicted.rows:
        yield [path, *(f"{value:.6f}" for value in row)]
