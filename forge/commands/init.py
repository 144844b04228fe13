"""git forge init: make the current git repository a model repository."""

from __future__ import annotations

import click

from forge.console import say
from forge.recipe.catalogue import DEFAULT_STRATEGY, STRATEGIES, described
from forge.recipe.settings import PRESETS


@click.command("init")
@click.option(
    "--base",
    "reference",
    default="embedded",
    show_default=True,
    metavar="REF",
    help="NAME/TAG of open_clip, NAME/TAG=FILE.safetensors, a folder with open_clip_config.json, hf-hub:ORG/NAME, or "
    "embedded.",
)
@click.option(
    "--strategy",
    type=click.Choice(list(STRATEGIES)),
    default=DEFAULT_STRATEGY,
    show_default=True,
    help=f"How adapters become a model: {described(STRATEGIES.values())}.",
)
@click.option(
    "--settings",
    "preset",
    type=click.Choice(list(PRESETS)),
    default="best",
    show_default=True,
    help="How coefficients are searched: as does best here, or as in the MedForge paper.",
)
@click.option(
    "--task-aware", is_flag=True, help="Search coefficients for every task's labels, besides the shared ones."
)
@click.option(
    "--license", "license_", metavar="EXPR", help="The model's licence, an SPDX expression such as Apache-2.0."
)
def command(reference: str, strategy: str, preset: str, task_aware: bool, license_: str | None) -> None:
    """Write forge.toml, an empty forge item and .gitattributes, set up the clone, and commit.

    The base is the frozen CLIP model that all contributions share; its fingerprint goes into forge.toml, and so
    do the settings, where they can be changed at any time.
    """
    from forge.operations.init import init
    from forge.operations.opening import open_repository

    repo = open_repository()
    started = init(repo, reference, strategy=strategy, preset=preset, task_aware=task_aware, license_=license_)
    base = started.base
    chosen = f"strategy {strategy}{', task-aware' if task_aware else ''}, {preset} settings"
    say(f"Started a model on {base.reference} ({base.fingerprint[:19]}…), {chosen}.")
    say(f"The base: {started.description}.")
    if started.place is not None:
        others = "others say where they keep it: git config forge.base <PLACE>"
        say(f"This clone finds the base at {started.place}; {others}")
    say("Next: git switch -c my-hospital, then git forge train NAME --data FOLDER")
