"""git forge hook: what the shell hooks of a clone call."""

from __future__ import annotations

import sys

from forge.console import note


def command(name: str = "", *args: str) -> None:
    """Do what git's hook `name` asks for; `args` are those that git gave to the hook."""
    from forge.operations.hook import run_hook

    run_hook(name, args, sys.stdin, note)
