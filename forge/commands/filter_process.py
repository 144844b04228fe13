"""git forge filter-process: what git runs for `filter=forge` (filter.forge.process)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from forge.formats.safetensors import Limits


@click.command("filter-process")
def command() -> None:
    """Serve git's long-running filter protocol on standard input and output."""
    from forge.clone.filter_process import serve

    # Standard output carries the protocol and nothing else: a stray print must not corrupt it.
    replies, sys.stdout = sys.stdout, sys.stderr
    serve(sys.stdin.buffer, replies.buffer, sys.stderr, _limits)


def _limits() -> Limits:
    """The limits in forge.toml; git starts a filter in the top folder of the work tree."""
    from forge.errors import ForgeError
    from forge.formats.safetensors import Limits
    from forge.repo.settings_file import load_settings

    try:
        return Limits(file=load_settings(Path.cwd()).limits.file_bytes)
    except ForgeError:
        return Limits()  # a forge.toml that is broken, or not there yet, must not stop git
