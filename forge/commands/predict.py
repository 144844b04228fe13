"""git forge predict: label probabilities of images under a version of the model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("predict")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--labels", multiple=True, metavar="TEXT", help="The label texts to choose among, one option each.")
@click.option("--contribution", metavar="NAME", help="Use the labels of that contribution.")
@click.option("--rev", default="HEAD", show_default=True, help="The version of the model.")
@click.option("--json", "as_json", is_flag=True)
def command(
    images: tuple[Path, ...], labels: tuple[str, ...], contribution: str | None, rev: str, as_json: bool
) -> None:
    """Print the probability of every label for each of IMAGES. Not a medical device."""
    from forge.console import emit_json, print_table
    from forge.errors import ForgeError
    from forge.operations.loading import blob_reader, load_model
    from forge.operations.task_labels import known_tasks, labels_of
    from forge.repo.card import check_labels
    from forge.repo.git import find_repository
    from forge.repo.places import read_item, read_settings_of

    repo = find_repository()
    limits = read_settings_of(repo, rev).limits
    item = read_item(repo, rev)
    tasks = known_tasks(item)
    if labels:
        texts = check_labels(labels, "--labels")
    elif contribution:
        texts = labels_of(item, contribution, blob_reader(repo, limits), limits)
    elif len(tasks) == 1:
        texts = next(iter(tasks.values()))
    else:
        raise ForgeError(
            "which labels? This version knows " + (", ".join(tasks) or "no task yet"),
            hint="give --labels TEXT --labels TEXT ..., or --contribution NAME",
        )

    import torch

    from forge.model.images import load_picture
    from forge.model.scoring import probabilities

    model = load_model(repo, rev, limits)
    pixels = model.base.normalise(torch.stack([load_picture(path, model.base) for path in images]))
    table = probabilities(model.base, model.model, pixels, texts)
    if as_json:
        emit_json(
            [
                {"image": str(path), "probabilities": dict(zip(texts, map(float, row), strict=True))}
                for path, row in zip(images, table, strict=True)
            ]
        )
        return
    rows = [[str(path), *(f"{value:.3f}" for value in row)] for path, row in zip(images, table, strict=True)]
    print_table(["image", *texts], rows, right=set(range(1, len(texts) + 1)))
