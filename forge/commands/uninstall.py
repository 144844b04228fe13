"""git forge uninstall: what install has put there is taken out, what was there before is put back."""

from __future__ import annotations

import click

from forge.console import say


@click.command("uninstall")
@click.option("--local", "scope", flag_value="local", default=True, help="This clone, hooks included (default).")
@click.option("--global", "scope", flag_value="global", help="Your own git settings.")
def command(scope: str) -> None:
    """Take out the settings and hooks of git forge. Contributions, forge items and history stay.

    A clone remembers it: no other command sets it up again, but for `git forge install`.
    """
    from forge.operations.opening import open_repository
    from forge.operations.uninstall import uninstall, uninstall_for_user

    if scope == "global":
        uninstall_for_user()
        say("git forge is out of your git settings.")
        return
    repo = open_repository()
    shared_hooks = uninstall(repo)
    say(f"git forge is out of the settings and hooks of {repo.top}.")
    if shared_hooks is not None:
        say(f"The hooks were in {shared_hooks}, for all your repositories (core.hooksPath): the next git forge command")
        say("in another clone of a model puts them there again.")
