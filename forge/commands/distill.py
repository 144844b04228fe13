"""git forge distill: a few synthetic images that stand for the private ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("distill")
@click.argument("name")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The images that NAME was trained on.")
@click.option("--labels", multiple=True, metavar="TEXT", help="A label text per class. [default: those of the card]")
@click.option("--task", metavar="TEXT", help="What the task is called. [default: that of the card]")
@click.option("--ipc", type=click.IntRange(1), help="Synthetic images per class. [default: 20]")
@click.option("--steps", type=click.IntRange(1))
@click.option("--real-batch", type=click.IntRange(1), help="Real images per class and step.")
@click.option("--optimizer", type=click.Choice(["sgd", "adam"]), help="Of the pixels.")
@click.option("--pixel-rate", type=click.FloatRange(0, min_open=True))
@click.option("--redraw", type=click.IntRange(1), help="Steps between draws of the random adapter; the paper's is 1.")
@click.option("--judge-steps", type=click.IntRange(1), help="Steps of the fresh adapter that judges the result.")
@click.option("--judge-points", type=click.IntRange(1), help="Moments of the run that are judged; the best is kept.")
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of DATA held back. [default: as in training]",
)
@click.option("--seed", type=click.IntRange(0), help="[default: as in training]")
@click.option("--restart", is_flag=True, help="Forget an interrupted run instead of continuing it.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    name: str,
    data: Path,
    labels: tuple[str, ...],
    task: str | None,
    validation: float | None,
    seed: int | None,
    restart: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Distil DATA into contributions/NAME by distribution matching (DM with DSA), starting from noise.

    Can be interrupted; the same command continues. The result is judged by a fresh adapter that is trained on
    it alone and scored on the validation split. What is released are these images and their class counts.
    """
    from dataclasses import asdict, replace

    from forge.console import emit_json, progress
    from forge.operations.contributing import card_for, existing_card, rounded, write_distilled
    from forge.operations.loading import load_repository_base
    from forge.repo.contribution import path_of
    from forge.repo.git import find_repository
    from forge.repo.settings import load_settings

    repo = find_repository()
    settings = load_settings(repo.top)
    card = existing_card(repo, name)

    from forge.model import distillation
    from forge.operations.private_data import read_private_data
    from forge.operations.unfinished import Unfinished

    trained = card.training if card else {}
    validation = validation or float(trained.get("validation_share", 0.2))
    seed = int(trained.get("seed", 0)) if seed is None else seed
    base = load_repository_base(repo, settings.base)
    private = read_private_data(base, data, labels, card, task or (card.task if card else name), validation, seed)
    defaults = distillation.default_settings(base.settings_family)
    wanted = replace(defaults, seed=seed, **{key: value for key, value in chosen.items() if value is not None})
    unfinished = Unfinished.of(repo, name, base, private, wanted)
    if restart:
        unfinished.forget()
    resume = unfinished.read()
    if resume is not None:
        click.echo(f"Continuing an interrupted run at step {resume.step} of {wanted.steps}.", err=True)
    try:
        with unfinished.saving() as save, progress(f"distilling {name}", wanted.steps) as advance:
            if resume is not None:
                advance(resume.step)
            distilled = distillation.distil(
                base,
                private.train,
                private.validation,
                wanted,
                resume=resume,
                save=save,
                advance=lambda note: advance(int(note.startswith("loss")), at=note),
            )
    except KeyboardInterrupt:
        if unfinished.path.is_file():
            click.echo("The run so far is kept: the same command continues it.", err=True)
        raise
    assert distilled.score is not None
    figures = {
        "distilled_images": len(distilled.images),
        "distilled_validation_accuracy": rounded(distilled.score.accuracy),
    }
    fresh = card_for(base, private.task, private.labels, card)
    privacy = {
        "released": "the adapter's weights, the synthetic images, their number per class, the figures in this card",
        "start": "noise, independent of the private images",
        "guarantee": "none: no differential privacy was applied",
        **fresh.privacy,
    }
    record = {"method": "DM with DSA", **asdict(wanted), "validation_share": validation}
    fresh = replace(fresh, distillation=record, metrics={**fresh.metrics, **figures}, privacy=privacy)
    write_distilled(repo, name, distilled, fresh, "DM with DSA")
    unfinished.forget()
    if as_json:
        emit_json({"contribution": name, **figures})
        return
    click.echo(f"Distilled {len(private.train.targets)} images into {len(distilled.images)} in {path_of(name)}:")
    click.echo(
        f"  a fresh adapter trained on them alone reaches {rounded(distilled.score.accuracy)} validation accuracy"
    )
    click.echo("Next: git forge commit")
