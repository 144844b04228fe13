"""git forge train: an adapter of the base, trained on private images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from forge.commands.reading import given_labels, group_by_option, label_option, picture_options, read_options
from forge.commands.several import precision_option, processes_option
from forge.console import emit_json, note, say
from forge.recipe.catalogue import AUGMENT_CHOICES
from forge.recipe.layout import path_of


@click.command("train")
@click.argument("name")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Image folder (one sub-folder a class), .csv or .tsv (path, label, patient, split), or .npz.",
)
@click.option(
    "--labels",
    multiple=True,
    metavar="TEXT",
    help="A label text per class, in the classes' sorted order. [default: the classes' names]",
)
@label_option
@click.option("--task", metavar="TEXT", help="What the task is called. [default: NAME]")
@click.option("--test", type=click.Path(path_type=Path), help="Held-out data: its ACC and AUC go into the card.")
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of DATA held back to measure every epoch on, unless DATA has a val split.",
)
@group_by_option
@picture_options
@click.option("--epochs", type=click.IntRange(1), help="How often every image is seen. [default: as --steps says]")
@click.option("--steps", type=click.IntRange(1), help="How many batches at least, in whole epochs.")
@click.option("--batch", type=click.IntRange(1))
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]))
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True))
@click.option("--schedule", type=click.Choice(["constant", "cosine"]))
@click.option("--weight-decay", type=click.FloatRange(0))
@click.option("--rank", type=click.IntRange(1, 4096))
@click.option("--alpha", type=click.FloatRange(0, min_open=True))
@click.option("--dropout", type=click.FloatRange(0, 1, max_open=True))
@click.option("--dora", is_flag=True, help="Train a DoRA: a LoRA with a magnitude for each output feature.")
@click.option(
    "--augment",
    type=click.Choice(AUGMENT_CHOICES),
    help="Vary training images: mirror them, or all flips and stains; auto: as far as the base still tells them apart.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@precision_option
@processes_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    name: str,
    data: Path,
    labels: tuple[str, ...],
    pairs: tuple[str, ...],
    task: str | None,
    test: Path | None,
    validation: float,
    group_by: str | None,
    grey: tuple[float, float] | None,
    skip_unreadable: bool,
    seed: int,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Train a LoRA, or with --dora a DoRA, on DATA into contributions/NAME.

    The adapter changes W_q and W_v of every visual layer and the visual projection. Settings that are not given are
    the paper's for ViT-B/16, whose best epoch on the validation split is kept; for small bases such as the embedded
    one they are 160 steps or 3 epochs, whichever is more, on images varied where that does no harm, and the last
    epoch is kept unless validation clearly speaks against it. The data never leave this machine. Classes are matched
    by name with those of an earlier training and of --test.
    """
    from forge.operations.opening import open_repository
    from forge.operations.train import train

    trained = train(
        open_repository(),
        name,
        data,
        given=given_labels(labels, pairs),
        task=task,
        test=test,
        validation=validation,
        options=read_options(grey, skip_unreadable, group_by),
        seed=seed,
        settings={key: value for key, value in chosen.items() if value is not None},
        report=note,
    )
    if as_json:
        named = {"contribution": trained.contribution, "adapter": trained.adapter}
        emit_json({**named, **trained.metrics, "best_epoch": trained.best_epoch})
        return
    what = f"{path_of(name)}, a {trained.adapter}, on {trained.images} images"
    say(f"Trained {what}, best epoch {trained.best_epoch}:")
    say("  " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in trained.metrics.items()))
    say(f"Next: git forge distill {name} --data {data}")
