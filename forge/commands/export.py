"""git forge export: a version of the model for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from forge.console import say
from forge.recipe.catalogue import STRATEGIES

_ADAPTERS = "; ".join(f"with {each.title} {each.exported}" for each in STRATEGIES.values() if each.one_model)
_SEVERAL = " or ".join(each.name for each in STRATEGIES.values() if not each.one_model)
_HELP = f"""Write the model of REV (HEAD) into the new folder DIR.

peft: one LoRA or DoRA that does what the recipe does; {_ADAPTERS}. open_clip: a plain checkpoint with the recipe
folded into the weights. A model with the strategy {_SEVERAL} is several models, which neither can hold.

The same commit is the same bytes whenever, wherever and by whomever it is exported.
"""


@click.command("export", help=_HELP)
@click.argument("arguments", nargs=-1, required=True, metavar="[REV] DIR")
@click.option("--format", "form", type=click.Choice(["peft", "open_clip"]), required=True)
@click.option("--task", metavar="TEXT", help="Of a task-aware model: the weights it has for this task.")
@click.option("--bom", is_flag=True, help="Also write bom.cdx.json: what the model is made of, as CycloneDX ML-BOM.")
def command(arguments: tuple[str, ...], form: str, task: str | None, bom: bool) -> None:
    """As _HELP says."""
    from forge.operations.export import export_model
    from forge.operations.opening import open_repository

    if len(arguments) > 2:
        raise click.UsageError("give a REV and a DIR, or a DIR alone")
    rev, target = ("HEAD", arguments[0]) if len(arguments) == 1 else arguments
    folder = Path(target)
    done = export_model(open_repository(), rev, folder, form, task=task, bill=bom)
    place = f"local-dir:{folder}"
    if done.adapter is not None:
        kind, rank = done.adapter
        say(f"Wrote {folder}: one {kind} of rank {rank} for the base {done.base.reference}")
    else:
        say(f"Wrote {folder}: open_clip.create_model_and_transforms({place!r})")
    if done.words is not None:
        say(f"with open_clip.get_tokenizer({place!r}, bpe_path={str(folder / done.words)!r})")
