"""git forge install: the settings and hooks of one clone, the settings of one user, or the hook of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forge.console import say

if TYPE_CHECKING:
    from forge.git.running import Repository


@click.command("install")
@click.option("--local", "scope", flag_value="local", default=True, help="This clone, hooks included (default).")
@click.option("--global", "scope", flag_value="global", help="Your own git settings, for every clone; no hooks.")
@click.option("--server", "scope", flag_value="server", help="A bare repository that is pushed to: check every push.")
@click.option("--force", is_flag=True, help="Replace settings of the same name that git forge did not write.")
def command(scope: str, force: bool) -> None:
    """Set up filter, diff and merge drivers, and the hooks. Doing it again changes nothing.

    Hooks that are there already are kept and run before ours.

    In a clone with a remote, lfs.url and lfs.pushurl are set to what git-lfs makes of the remote's URL, unless they are
    set already, so that no branch's .lfsconfig sends it elsewhere.

    With --server it is one hook, pre-receive, which refuses a push whose forge item does not verify, or that is over
    the limits of the receiving repository: git config forge.maxFileSize (256m), forge.maxContributions (1000),
    forge.maxFiles (10000), forge.maxImages (500), else those of forge.toml in the branch as it is. Every commit that a
    ref is set to must verify, and all new ones behind it with git config forge.checkCommits all. A protected branch
    (forge.protected, else the one that HEAD names) asks for the rights that .forge/ says, and git config
    forge.reproduce true has every forge item made again. Where they are not set, receive.fsckObjects,
    receive.denyNonFastForwards and receive.denyDeletes are set to true.
    """
    from forge.clone import server as server_setup
    from forge.clone import setup as clone_setup
    from forge.git.running import find_repository
    from forge.operations.server_settings import read_server_settings

    if scope == "global":
        clone_setup.install(None, "global", force)
        say("git forge is set up in your git settings.")
        return
    repo = find_repository()
    if scope == "server":
        chained = clone_setup.install_server(repo)
        say(f"Every push to {repo.top} is checked from now on.")
        for each in server_setup.set_rules(repo):
            said = f"is {each.value}: {each.meaning}." if each.ours else f"was set before and stays: {each.value}"
            say(f"{each.key} {said}")
        protected = ", ".join(ref.removeprefix("refs/heads/") for ref in read_server_settings(repo).protected)
        say(f"Protected, where the model asks for rights: {protected or 'nothing'} (git config forge.protected).")
    else:
        chained = clone_setup.install(repo, "local", force)
        say(f"git forge is set up in {repo.top}.")
    for name in chained:
        say(f"The {name} hook that was there runs as well.")
    _say_what_is_special(repo, scope)


def _say_what_is_special(repo: Repository, scope: str) -> None:
    """Where the hooks are not this clone's own to write."""
    from forge.clone import hooks as hook_files

    if hook_files.hooks_folder(repo) is None:
        say("core.hooksPath turns hooks off here, so nothing of git forge runs at a commit or a push.")
        return
    shared = hook_files.hooks_folder_of_all(repo)
    if shared is not None:
        say(f"The hooks are in {shared}, which core.hooksPath names for all your repositories; where there is")
        say("no model they do nothing.")
    for place in hook_files.hooks_by_hand(repo) if scope == "local" else []:
        say(f"{place.hook} is under version control and was left as it is; add this line to it:")
        say(f"    {place.call()}")
