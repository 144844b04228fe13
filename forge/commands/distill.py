"""git forge distill: a few synthetic images that stand for the private ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from forge.commands.reading import group_by_option, label_option, picture_options, read_options
from forge.console import say

METHODS = ("dm", "dm-dsa", "dc-dsa", "teacher-points")  # those of forge.model.distill_settings, without torch


@click.command("distill")
@click.argument("name")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The images that NAME was trained on.")
@click.option("--labels", multiple=True, metavar="TEXT", help="A label text per class. [default: those of the card]")
@label_option
@click.option("--task", metavar="TEXT", help="What the task is called. [default: that of the card]")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="See above. [default: teacher-points for small bases such as the embedded one, dm-dsa for others]",
)
@click.option("--ipc", type=click.IntRange(1), help="Synthetic images per class. [default: 20]")
@click.option("--steps", type=click.IntRange(1))
@click.option("--real-batch", type=click.IntRange(1), help="Real images per class and step.")
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
    """Distil DATA into contributions/NAME: a few synthetic images per class that teach the task.

    \b
    Methods:
      teacher-points  statistics of several layers, matched on the way from the base to NAME's adapter
      dm-dsa          distribution matching with siamese augmentation, the paper's Algorithm 1
      dm              the same without augmentation
      dc-dsa          gradient matching (dataset condensation) with siamese augmentation

    The images start from noise; only with teacher-points has it the mean and deviation of the colours of DATA.
    Can be interrupted; the same command continues. The result is judged by a fresh adapter that is trained on
    it alone and scored on the validation split. What is released is listed in the card.
    """
    from dataclasses import replace

    from forge.console import emit_json, progress
    from forge.data.matching import Given
    from forge.errors import ForgeError
    from forge.git.running import find_repository
    from forge.operations.bases import load_repository_base
    from forge.operations.contributing import (
        card_for,
        check_same_task,
        existing_card,
        rounded,
        warn_of_replacing,
        write_distilled,
    )
    from forge.operations.own_adapter import own_adapter, own_adapter_id
    from forge.operations.private_data import list_private_data, read_listed
    from forge.recipe.card import validation_split
    from forge.recipe.layout import DISTILLED_FILE, path_of
    from forge.repo.locks import contribution_lock, only_one, unfinished_lock
    from forge.repo.made_with import KEY
    from forge.repo.settings_file import load_settings

    repo = find_repository()
    settings = load_settings(repo.top)
    for file in (contribution_lock(repo, name), unfinished_lock(repo, name)):
        click.get_current_context().with_resource(only_one(file, f"git forge distill {name}"))
    card = existing_card(repo, name)
    options = read_options(grey, skip_unreadable, group_by, card)
    listed = list_private_data(data, Given(labels, pairs), card, options)  # before anything heavy is loaded
    check_same_task(repo, name, card, listed.labelling)
    for line in warn_of_replacing(repo, name, DISTILLED_FILE):
        say(line, err=True)

    from forge.model import distillation
    from forge.operations.unfinished import Unfinished

    trained_share, trained_seed = validation_split(card)
    validation = validation or trained_share
    seed = trained_seed if seed is None else seed
    base = load_repository_base(repo, settings.base)
    defaults = distillation.default_settings(base.settings_family, method)
    chosen = {key: value for key, value in chosen.items() if value is not None}
    for key in chosen.keys() - distillation.used_settings(defaults).keys():
        option = "--" + key.replace("_", "-")
        raise click.UsageError(f"{option} means nothing to the method {defaults.method}")
    adapter = own_adapter(repo, name, base, settings.limits) if defaults.needs_adapter else None
    if defaults.needs_adapter and adapter is None:
        raise ForgeError(
            f"the method {defaults.method} starts from the adapter, but {path_of(name)} has none",
            hint=f"run git forge train {name} --data {data} first, or choose another --method",
        )
    made_with = {KEY: own_adapter_id(repo, name, settings.limits)} if adapter is not None else {}
    private = read_listed(base, listed, task or (card.task if card else name), validation, seed)
    say(*private.lines(), err=True)
    fresh = card_for(base, private.task, private.labels, card, private.classes, private.summary.for_card())
    wanted = replace(defaults, seed=seed, **chosen)
    unfinished = Unfinished.of(repo, name, base, private, wanted, adapter)
    if restart:
        unfinished.forget()
    resume = unfinished.read()
    if resume is not None:
        say(f"Continuing an interrupted run at step {resume.step} of {wanted.steps}.", err=True)
    try:
        with unfinished.saving() as save, progress(f"distilling {name}", wanted.steps) as advance:
            if resume is not None:
                advance(resume.step)
            distilled = distillation.distil(
                base,
                private.train,
                private.validation,
                wanted,
                adapter=adapter,
                resume=resume,
                save=save,
                advance=lambda note: advance(int(note.startswith("loss")), at=note),
            )
    except KeyboardInterrupt:
        if unfinished.path.is_file():
            say("The run so far is kept: the same command continues it.", err=True)
        raise
    assert distilled.score is not None
    figures = {
        "distilled_images": len(distilled.images),
        "distilled_validation_accuracy": rounded(distilled.score.accuracy),
    }
    record = {**distillation.used_settings(wanted), "validation_share": validation, **made_with}
    privacy = privacy_statement(wanted.method, fresh.privacy)
    fresh = replace(fresh, distillation=record, metrics={**fresh.metrics, **figures}, privacy=privacy)
    for line in write_distilled(repo, name, distilled, fresh, wanted.method):
        say(line, err=True)
    unfinished.forget()
    if as_json:
        emit_json({"contribution": name, **figures})
        return
    say(f"Distilled {len(private.train.targets)} images into {len(distilled.images)} in {path_of(name)}:")
    say(f"  a fresh adapter trained on them alone reaches {rounded(distilled.score.accuracy)} validation accuracy")
    say("Next: git forge commit")


def privacy_statement(method: str, written: Mapping[str, Any]) -> dict[str, Any]:
    """[privacy] of the card: what these images release is stated anew, what else was `written` there is kept."""
    released = "the adapter's weights, the synthetic images, their number per class, "
    released += "the figures and the names of classes in this card"
    start = "noise, independent of the private images"
    if method == "teacher-points":
        released += ", the mean and deviation of the private training images per colour channel"
        start = (
            "noise with the mean and deviation of the private training images per colour channel, "
            "which are released by it"
        )
    guarantee = "none: no differential privacy was applied"
    return {"released": released, "start": start, "guarantee": guarantee} | {
        key: value for key, value in written.items() if key not in ("released", "start")
    }
