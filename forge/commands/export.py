"""git forge export: a version of the model for other tools."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from forge.console import say


@click.command("export")
@click.argument("arguments", nargs=-1, required=True, metavar="[REV] DIR")
@click.option("--format", "form", type=click.Choice(["peft", "open_clip"]), required=True)
@click.option("--task", metavar="TEXT", help="Of a task-aware model: the weights it has for this task.")
def command(arguments: tuple[str, ...], form: str, task: str | None) -> None:
    """Write the model of REV (HEAD) into the new folder DIR.

    peft: one LoRA or DoRA that does what the recipe does; with Fusion the fused adapter, with Mixture the exact
    concatenation of all adapters. open_clip: a plain checkpoint with the recipe folded into the weights. A model
    with the strategy mixture-output is several models, which neither can hold.
    """
    from forge.errors import ForgeError
    from forge.operations.loading import blob_reader, load_adapter, load_adapters, load_model
    from forge.repo.git import find_repository
    from forge.repo.places import read_item, read_settings_of

    if len(arguments) > 2:
        raise click.UsageError("give a REV and a DIR, or a DIR alone")
    rev, target = ("HEAD", arguments[0]) if len(arguments) == 1 else arguments
    folder = Path(target)
    if folder.exists():
        raise ForgeError(f"{folder} exists already", hint="give the name of a new folder")
    repo = find_repository()
    limits = read_settings_of(repo, rev).limits
    item = read_item(repo, rev)
    if task is None and item.tasks:
        raise ForgeError(
            "this model is task-aware: it has weights of their own for each task, and an export holds one set",
            hint=f"choose with --task: {', '.join(item.tasks)}",
        )
    if task is not None and task not in item.tasks:
        there = ", ".join(item.tasks) or "none, it is not task-aware"
        raise ForgeError(f"this model has no weights of their own for the task {task!r}", hint=f"it has: {there}")

    from forge.model.exporting import export_open_clip, export_peft, one_delta

    loaded = load_model(repo, rev, limits)
    base, score = loaded.base, item.score(task) if task is not None else None
    delta = one_delta(loaded.model.parts_for(score.labels) if score is not None else loaded.model.shared)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the target and moved in one step: DIR is whole or not there.
    with tempfile.TemporaryDirectory(prefix=".git-forge-", dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        if form == "peft":
            read = blob_reader(repo, limits)
            adapters = load_adapters(base, item.contributions, read)
            members = [
                (adapters[entry.name], entry.coefficient if task is None else entry.tasks[task])
                for entry in item.contributions
            ]
            residual = None
            if item.consolidation is not None:
                config, weights = item.consolidation.config, item.consolidation.adapter
                blobs = read([config, weights])
                residual = load_adapter(base, blobs[config], blobs[weights], "consolidation")
            kind, rank = export_peft(base, item.strategy, members, made, residual=residual)
            told = f"one {kind} of rank {rank} for the base {item.base.reference}"
        else:
            export_open_clip(base, delta, made, final=folder)
            told = f"open_clip.create_model_and_transforms('local-dir:{folder}')"
        shutil.move(made, folder)
    say(f"Wrote {folder}: {told}")
