"""git forge train: an adapter of the base, trained on private images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from forge.commands.reading import group_by_option, label_option, picture_options, read_options
from forge.console import say


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
    help="Share of DATA held back to choose the best epoch, unless DATA has a val split.",
)
@group_by_option
@picture_options
@click.option("--epochs", type=click.IntRange(1))
@click.option("--batch", type=click.IntRange(1))
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]))
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True))
@click.option("--schedule", type=click.Choice(["constant", "cosine"]))
@click.option("--weight-decay", type=click.FloatRange(0))
@click.option("--rank", type=click.IntRange(1, 4096))
@click.option("--alpha", type=click.FloatRange(0, min_open=True))
@click.option("--dropout", type=click.FloatRange(0, 1, max_open=True))
@click.option("--dora", is_flag=True, help="Train a DoRA: a LoRA with a magnitude for each output feature.")
@click.option("--horizontal-flip", is_flag=True, help="Mirror training images at random.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
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
    horizontal_flip: bool,
    seed: int,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Train a LoRA, or with --dora a DoRA, on DATA into contributions/NAME.

    The adapter changes W_q and W_v of every visual layer and the visual projection; the epoch that does best on
    the validation split is kept. Settings that are not given are the paper's for ViT-B/16, and quicker ones
    for small bases such as the embedded one. The data never leave this machine. Classes are matched by name with
    those of an earlier training and of --test.
    """
    import math
    from dataclasses import asdict, replace

    from forge.console import emit_json, progress
    from forge.data.matching import Given
    from forge.git.running import find_repository
    from forge.operations.bases import load_repository_base
    from forge.operations.contributing import (
        card_for,
        existing_card,
        rounded,
        warn_of_replacing,
        write_adapter,
        write_card,
    )
    from forge.operations.private_data import list_private_data, read_listed
    from forge.recipe.layout import ADAPTER_FILE, path_of
    from forge.repo.locks import contribution_lock, only_one
    from forge.repo.settings_file import load_settings

    repo = find_repository()
    settings = load_settings(repo.top)
    click.get_current_context().with_resource(only_one(contribution_lock(repo, name), f"git forge train {name}"))
    card = existing_card(repo, name)
    options = read_options(grey, skip_unreadable, group_by, card)
    listed = list_private_data(data, Given(labels, pairs), card, options, test)  # before anything heavy is loaded
    for line in warn_of_replacing(repo, name, ADAPTER_FILE):
        say(line, err=True)

    from forge.model import scoring, training

    base = load_repository_base(repo, settings.base)
    private = read_listed(base, listed, task or (card.task if card else name), validation, seed)
    say(*private.lines(), err=True)
    fresh = card_for(base, private.task, private.labels, card, private.classes, private.summary.for_card())
    defaults = training.default_settings(base.settings_family)
    wanted = replace(defaults, seed=seed, **{key: value for key, value in chosen.items() if value is not None})
    steps = wanted.epochs * math.ceil(len(private.train.targets) / wanted.batch)
    with progress(f"training {name}", steps) as advance:
        trained = training.train_adapter(
            base,
            private.train,
            private.validation,
            wanted,
            horizontal_flip=horizontal_flip,
            advance=lambda note: advance(1, at=note),
        )
    metrics: dict[str, object] = {
        "validation_accuracy": rounded(trained.validation.accuracy),
        "validation_images": len(private.validation.targets),
    }
    kind = "DoRA" if wanted.dora else "LoRA"
    record: dict[str, object] = {"adapter": kind, **asdict(wanted)}
    del record["dora"]
    record |= {"horizontal_flip": horizontal_flip, "validation_share": validation, "images": len(private.train.targets)}
    record |= {"group_by": options.group_by} if options.group_by is not None else {}
    kept = {key: value for key, value in fresh.metrics.items() if key.startswith("distilled_")}
    fresh = replace(fresh, training={**record, "best_epoch": trained.epoch}, metrics={**metrics, **kept})
    for line in write_adapter(repo, name, trained.tensors, trained.config, fresh):
        say(line, err=True)
    if private.test is not None:  # measured when the adapter is safe
        from forge.model.adapters import plain_delta, read_adapter

        adapter = read_adapter(trained.config, trained.tensors, base.tower, source=path_of(name))
        measured = scoring.evaluate(base, plain_delta(adapter), private.test)
        metrics |= {"test_accuracy": rounded(measured.accuracy), "test_images": measured.images}
        if measured.auc is not None:
            metrics["test_auc"] = rounded(measured.auc)
        write_card(repo, name, replace(fresh, metrics={**metrics, **kept}))
    if as_json:
        emit_json({"contribution": name, "adapter": kind, **metrics, "best_epoch": trained.epoch})
        return
    say(f"Trained {path_of(name)}, a {kind}, on {len(private.train.targets)} images, best epoch {trained.epoch}:")
    say("  " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in metrics.items()))
    say(f"Next: git forge distill {name} --data {data}")
