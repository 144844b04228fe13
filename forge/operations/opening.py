"""Where every operation starts: the repository that a folder lies in."""

from __future__ import annotations

from pathlib import Path

from forge.clone import setup as clone_setup
from forge.git.running import Repository, find_repository, git
from forge.recipe.layout import SETTINGS_FILE
from forge.repo.settings_file import not_a_model_repository


def open_repository(folder: Path | None = None) -> Repository:
    """The git repository of a folder, or of the current one as git itself finds it; ForgeError outside of one."""
    return find_repository(folder)


def open_model(folder: Path | None = None) -> Repository:
    """The same, if it holds a model: forge.toml in the work tree or in HEAD. Raises ForgeError where it does not."""
    repo = find_repository(folder)
    if not (repo.top / SETTINGS_FILE).is_file():
        listed = git(repo, "ls-tree", "--full-tree", "HEAD", "--", SETTINGS_FILE, check=False)
        if not listed:
            raise not_a_model_repository(str(repo.top))
    return repo


def set_up_clone(repo: Repository) -> str | None:
    """Set up a fresh clone of a model: git never carries filters and drivers over. What to tell the user, if anything.

    Where there is no model, or `git forge uninstall` has taken it out, it stays as it is.
    """
    return clone_setup.ensure_installed(repo) if (repo.top / SETTINGS_FILE).is_file() else None
