"""git forge add: take in a contribution that was trained elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from forge.console import note, say
from forge.recipe.layout import path_of


@click.command("add")
@click.argument("name")
@click.option(
    "--adapter",
    type=click.Path(path_type=Path),
    required=True,
    help="PEFT folder: adapter_config.json, adapter_model.safetensors.",
)
@click.option(
    "--distilled", type=click.Path(path_type=Path), required=True, help="distilled.safetensors of the same task."
)
@click.option(
    "--labels",
    multiple=True,
    metavar="TEXT",
    help="Label texts in the order of the class numbers. [default: the distilled set's]",
)
@click.option("--task", metavar="TEXT", help="What the task is called. [default: the distilled set's]")
@click.option("--replace", "replacing", is_flag=True, help="Replace contributions/NAME if it is there.")
def command(
    name: str, adapter: Path, distilled: Path, labels: tuple[str, ...], task: str | None, replacing: bool
) -> None:
    """Check that an adapter fits this repository's base, and put it into contributions/NAME.

    One that was trained with transformers, open_clip or timm on the same CLIP is renamed, which is exact.
    A card.toml in the adapter's folder is taken over. Nothing is written where anything is wrong.
    """
    from forge.operations.add import add
    from forge.operations.opening import open_repository

    repo = open_repository()
    added = add(repo, name, adapter, distilled, labels=labels, task=task, replacing=replacing, report=note)
    say(f"Took {added.parameters:,} parameters and {added.images} distilled images into {path_of(name)}.")
    if added.spelling is not None:
        names = f"Its modules had the names of {added.spelling}"
        say(f"{names}; the contribution has those of this base, and the same values.")
    say("Next: git forge commit")
