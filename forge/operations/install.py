"""`git forge install`: the settings and hooks of one clone, the settings of one user, or the hook of a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from forge.clone import hooks as hook_files
from forge.clone import set_up_stamp
from forge.clone import setup as clone_setup
from forge.clone.hooks import Place
from forge.clone.server import ServerSetting, set_rules
from forge.git.running import Repository
from forge.operations.server_settings import read_server_settings

Scope = Literal["local", "server"]


@dataclass(frozen=True)
class Installed:
    """What is set up in a repository.

    chained: the hooks that were there and run as well. rules: git's own for pushes, on a server. protected: the refs
    there that a model asks for rights. hooks_off: core.hooksPath turns them off. shared_hooks: the folder that it
    names for all repositories of the user. by_hand: hooks under version control, which a person has to change.
    """

    top: Path
    chained: tuple[str, ...]
    rules: tuple[ServerSetting, ...] = ()
    protected: tuple[str, ...] = ()
    hooks_off: bool = False
    shared_hooks: Path | None = None
    by_hand: tuple[Place, ...] = ()


def install_for_user(force: bool = False) -> None:
    """Write the drivers into the user's own settings. Raises ForgeError for others of the same name, without force."""
    clone_setup.install(None, "global", force)


def install(repo: Repository, scope: Scope = "local", force: bool = False) -> Installed:
    """Set up a clone, or with scope "server" the hook that checks pushes. Doing it again changes nothing.

    force: replace settings of the same name that git forge did not write; without it they raise ForgeError.
    """
    rules: tuple[ServerSetting, ...] = ()
    protected: tuple[str, ...] = ()
    if scope == "server":
        chained = clone_setup.install_server(repo)
        rules = tuple(set_rules(repo))
        protected = read_server_settings(repo).protected
    else:
        chained = clone_setup.install(repo, "local", force)
        set_up_stamp.remember(repo)
    hooks_off = hook_files.hooks_folder(repo) is None
    return Installed(
        top=repo.top,
        chained=tuple(chained),
        rules=rules,
        protected=protected,
        hooks_off=hooks_off,
        shared_hooks=None if hooks_off else hook_files.hooks_folder_of_all(repo),
        by_hand=tuple(hook_files.hooks_by_hand(repo)) if scope == "local" and not hooks_off else (),
    )
