"""git forge distill: a few synthetic images that stand for the private ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from forge.commands.reading import given_labels, group_by_option, label_option, picture_options, read_options
from forge.commands.several import precision_option, processes_option
from forge.console import emit_json, note, say
from forge.recipe.catalogue import DISTILLATION_METHODS, default_distillation
from forge.recipe.layout import path_of

_SMALL, _PAPER = (default_distillation(family).name for family in ("small", "paper"))
_METHODS = "\n".join(f"  {method.name:<14}  {method.help}" for method in DISTILLATION_METHODS.values())
_HELP = f"""Distil DATA into contributions/NAME: a few synthetic images per class that teach the task.

\b
Methods:
{_METHODS}

The images start from noise. Can be interrupted; the same command continues. The result is judged by a fresh
adapter that is trained on it alone and scored on the validation split. What is released, and what that noise
has of DATA, is listed in the card.
"""


@click.command("distill", help=_HELP)
@click.argument("name")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The images that NAME was trained on.")
@click.option("--labels", multiple=True, metavar="TEXT", help="A label text per class. [default: those of the card]")
@label_option
@click.option("--task", metavar="TEXT", help="What the task is called. [default: that of the card]")
@click.option(
    "--method",
    type=click.Choice(list(DISTILLATION_METHODS)),
    help=f"See above. [default: {_SMALL} for small bases such as the embedded one, {_PAPER} for others]",
)
@click.option("--ipc", type=click.IntRange(1), help="Synthetic images per class. [default: 20]")
@click.option("--steps", type=click.IntRange(1))
@click.option(
    "--real-batch",
    type=click.IntRange(1),
    help="Real images per class and step; of teacher-points per class and point.",
)
@click.option("--optimizer", type=click.Choice(["sgd", "adam"]), help="Of the pixels.")
@click.option("--pixel-rate", type=click.FloatRange(0, min_open=True))
@click.option("--redraw", type=click.IntRange(1), help="Steps between draws of the random adapter; the paper's is 1.")
@click.option("--points", type=click.IntRange(1), help="How many points teacher-points computes statistics at.")
@click.option("--judge-steps", type=click.IntRange(1), help="Steps of the fresh adapter that judges the result.")
@click.option("--judge-points", type=click.IntRange(1), help="Moments of the run that are judged; the best is kept.")
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of DATA held back. [default: as in training]",
)
@group_by_option
@picture_options
@click.option("--seed", type=click.IntRange(0), help="[default: as in training]")
@precision_option
@processes_option
@click.option("--restart", is_flag=True, help="Forget an interrupted run instead of continuing it.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    name: str,
    data: Path,
    labels: tuple[str, ...],
    pairs: tuple[str, ...],
    task: str | None,
    validation: float | None,
    group_by: str | None,
    grey: tuple[float, float] | None,
    skip_unreadable: bool,
    seed: int | None,
    restart: bool,
    as_json: bool,
    method: str | None,
    **chosen: Any,
) -> None:
    """As _HELP says."""
    from forge.operations.distill import UnusedSettingError, distill
    from forge.operations.opening import open_repository

    try:
        distilled = distill(
            open_repository(),
            name,
            data,
            given=given_labels(labels, pairs),
            task=task,
            method=method,
            validation=validation,
            options=read_options(grey, skip_unreadable, group_by),
            seed=seed,
            settings={key: value for key, value in chosen.items() if value is not None},
            restart=restart,
            report=note,
        )
    except UnusedSettingError as error:
        option = "--" + error.setting.replace("_", "-")
        raise click.UsageError(f"{option} means nothing to the method {error.method}") from None
    if as_json:
        figures = {"distilled_images": distilled.distilled_images, "distilled_validation_accuracy": distilled.accuracy}
        emit_json({"contribution": distilled.contribution, **figures})
        return
    say(f"Distilled {distilled.images} images into {distilled.distilled_images} in {path_of(name)}:")
    say(f"  a fresh adapter trained on them alone reaches {distilled.accuracy} validation accuracy")
    say("Next: git forge commit")
