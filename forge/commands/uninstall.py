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
    from forge.clone import hooks as hook_files
    from forge.clone import setup as clone_setup
    from forge.git.running import find_repository

    if scope == "global":
        clone_setup.uninstall(None, "global")
        say("git forge is out of your git settings.")
        return
    repo = find_repository()
    shared = hook_files.hooks_folder_of_all(repo)
    if repo.top != repo.git_dir:  # a server is set up by hand only
        clone_setup.leave_out(repo)
    clone_setup.uninstall(repo, "local")
    say(f"git forge is out of the settings and hooks of {repo.top}.")
    if shared is not None:
        say(f"The hooks were in {shared}, for all your repositories (core.hooksPath): the next git forge command")
        say("in another clone of a model puts them there again.")
