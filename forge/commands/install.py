"""git forge install: the settings and hooks of one clone, or the settings of one user."""

from __future__ import annotations

import click


@click.command("install")
@click.option("--local", "scope", flag_value="local", default=True, help="This clone, hooks included (default).")
@click.option("--global", "scope", flag_value="global", help="Your own git settings, for every clone; no hooks.")
@click.option("--force", is_flag=True, help="Replace settings of the same name that git forge did not write.")
def command(scope: str, force: bool) -> None:
    """Set up filter, diff and merge drivers, and the hooks. Doing it again changes nothing.

    Hooks that are there already are kept and run before ours.
    """
    from forge.repo import clone_setup
    from forge.repo.git import find_repository

    if scope == "global":
        clone_setup.install(None, "global", force)
        click.echo("git forge is set up in your git settings.")
        return
    repo = find_repository()
    chained = clone_setup.install(repo, "local", force)
    click.echo(f"git forge is set up in {repo.top}.")
    for name in chained:
        click.echo(f"The {name} hook that was there runs before ours.")
