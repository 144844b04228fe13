"""git forge hook: what the shell hooks of a clone call."""

from __future__ import annotations

import sys

import click

from forge.console import note


@click.command("hook", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(name: str, args: tuple[str, ...]) -> None:
    """Do what git's hook NAME asks for; ARGS are those that git gave to the hook."""
    from forge.operations.hook import run_hook

    run_hook(name, args, sys.stdin, note)
