"""git forge predict: label probabilities of images under a version of the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from forge.commands.reading import picture_options, read_options


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
    from forge.console import emit_csv, emit_json, print_table
    from forge.git.running import find_repository
    from forge.operations.predict import choose_texts, predict

    repo = find_repository()
    texts, options = choose_texts(repo, rev, labels, contribution, read_options(grey, skip_unreadable))
    found = predict(repo, rev, images, texts, options)
    if style == "csv":

        def rows() -> Iterator[list[object]]:
            yield ["image", *texts]
            for path, row in found:
                yield [path, *(f"{value:.6f}" for value in row)]

        emit_csv(rows())
    elif style == "json":
        emit_json([{"image": str(path), "probabilities": dict(zip(texts, row, strict=True))} for path, row in found])
    else:
        table = [[str(path), *(f"{value:.3f}" for value in row)] for path, row in found]
        print_table(["image", *texts], table, right=set(range(1, len(texts) + 1)))
