"""`git forge uninstall`: what install has put there is taken out, what was there before is put back."""

from __future__ import annotations

from pathlib import Path

from forge.clone import hooks as hook_files
from forge.clone import setup as clone_setup
from forge.git.running import Repository


def uninstall_for_user() -> None:
    """Take git forge out of the user's own settings."""
    clone_setup.uninstall(None, "global")


def uninstall(repo: Repository) -> Path | None:
    """Take git forge out of one clone, which remembers that until the next install.

    The folder that the hooks were in, where core.hooksPath names it for all repositories of the user.
    """
    shared = hook_files.hooks_folder_of_all(repo)
    if repo.top != repo.git_dir:  # a server is set up by hand only
        clone_setup.leave_out(repo)
    clone_setup.uninstall(repo, "local")
    return shared
