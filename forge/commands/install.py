"""git forge install: the settings and hooks of one clone, the settings of one user, or the hook of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forge.console import say

if TYPE_CHECKING:
    from forge.operations.install import Installed


@click.command("install")
@click.option("--local", "scope", flag_value="local", default=True, help="This clone, hooks included (default).")
@click.option("--global", "scope", flag_value="global", help="Your own git settings, for every clone; no hooks.")
@click.option("--server", "scope", flag_value="server", help="A bare repository that is pushed to: check every push.")
@click.option("--force", is_flag=True, help="Replace settings of the same name that git forge did not write.")
def command(scope: str, force: bool) -> None:
    """Set up filter, diff and merge drivers, and the hooks. Doing it again changes nothing.

    Hooks that are there already are kept and run before ours.

    Payloads hardly become smaller by zlib, and take long: core.looseCompression and pack.compression are set to 0,
    unless one of them or core.compression is set already (git config core.compression -1 keeps git's own).

    In a clone with a remote, lfs.url and lfs.pushurl are set to what git-lfs makes of the remote's URL, unless they are
    set already, so that no branch's .lfsconfig sends it elsewhere.

    With --server it is one hook, pre-receive, which refuses a push whose forge item does not verify, or that is over
    the limits of the receiving repository: git config forge.maxFileSize (256m), forge.maxContributions (1000),
    forge.maxFiles (10000), forge.maxImages (500), else those of forge.toml in the branch as it is. Every commit that a
    ref is set to must verify, and all new ones behind it with git config forge.checkCommits all. A protected branch
    (forge.protected, else the one that HEAD names) asks for the rights that .forge/ says, and git config
    forge.reproduce true has every forge item made again. Where they are not set, receive.fsckObjects,
    receive.denyNonFastForwards and receive.denyDeletes are set to true, and receive.unpackLimit to 1: a push is kept as
    it came.
    """
    from forge.operations.install import install, install_for_user
    from forge.operations.opening import open_repository

    if scope == "global":
        install_for_user(force)
        say("git forge is set up in your git settings.")
        return
    installed = install(open_repository(), "server" if scope == "server" else "local", force)
    if scope == "server":
        _say_rules(installed)
    else:
        say(f"git forge is set up in {installed.top}.")
    for name in installed.chained:
        say(f"The {name} hook that was there runs as well.")
    _say_what_is_special(installed)


def _say_rules(installed: Installed) -> None:
    """What holds for pushes to a server."""
    say(f"Every push to {installed.top} is checked from now on.")
    for rule in installed.rules:
        state = f"is {rule.value}: {rule.meaning}." if rule.ours else f"was set before and stays: {rule.value}"
        say(f"{rule.key} {state}")
    protected = ", ".join(ref.removeprefix("refs/heads/") for ref in installed.protected)
    say(f"Protected, where the model asks for rights: {protected or 'nothing'} (git config forge.protected).")


def _say_what_is_special(installed: Installed) -> None:
    """Where the hooks are not this clone's own to write."""
    if installed.hooks_off:
        say("core.hooksPath turns hooks off here, so nothing of git forge runs at a commit or a push.")
        return
    if installed.shared_hooks is not None:
        shared = installed.shared_hooks
        say(f"The hooks are in {shared}, which core.hooksPath names for all your repositories; where there is")
        say("no model they do nothing.")
    for place in installed.by_hand:
        say(f"{place.hook} is under version control and was left as it is; add this line to it:")
        say(f"    {place.call()}")
