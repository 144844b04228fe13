"""git forge textconv: what git runs for `diff=forge` (diff.forge.textconv)."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("textconv")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Print FILE (safetensors or a forge item) as readable text for git diff."""
    from forge.formats.summary import summarise

    sys.stdout.buffer.write(summarise(file))
