"""git forge export: a version of the model for other tools."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click


@click.command("export")
@click.argument("arguments", nargs=-1, required=True, metavar="[REV] DIR")
@click.option("--format", "form", type=click.Choice(["peft", "open_clip"]), required=True)
def command(arguments: tuple[str, ...], form: str) -> None:
    """Write the model of REV (HEAD) into the new folder DIR.

    peft: one LoRA that does what the recipe does; with Fusion the fused adapter, with Mixture the exact
    concatenation of all adapters. open_clip: a plain checkpoint with the recipe folded into the weights.
    """
    from forge.errors import ForgeError
    from forge.operations.loading import blob_reader, load_adapters, load_repository_base
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

    from forge.model.composing import merged_delta
    from forge.model.exporting import export_open_clip, export_peft

    base = load_repository_base(repo, item.base)
    adapters = load_adapters(base, item.contributions, blob_reader(repo, limits))
    members = [(adapters[entry.name], entry.coefficient) for entry in item.contributions]
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the target and moved in one step: DIR is whole or not there.
    with tempfile.TemporaryDirectory(prefix=".git-forge-", dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        if form == "peft":
            rank = export_peft(base, item.strategy, members, made)
            told = f"one LoRA of rank {rank} for the base {item.base.reference}"
        else:
            export_open_clip(base, merged_delta(item.strategy, members), made, final=folder)
            told = f"open_clip.create_model_and_transforms('local-dir:{folder}')"
        shutil.move(made, folder)
    click.echo(f"Wrote {folder}: {told}")
