"""Where every operation starts: the repository that a folder lies in."""

from __future__ import annotations

from pathlib import Path

from forge.errors import ForgeError
from forge.git.running import Repository, find_repository, git
from forge.recipe.layout import SETTINGS_FILE

_looked_at: list[tuple[Path, Repository]] = []  # by look_around just now: the current folder, and what it lies in


def open_repository(folder: Path | None = None) -> Repository:
    """The git repository of a folder, or of the current one as git itself finds it; ForgeError outside of one."""
    if folder is None and _looked_at:
        current, repo = _looked_at.pop()  # for one verb, which may make another repository after that
        if current == Path.cwd():
            return repo
    return find_repository(folder)


def open_model(folder: Path | None = None) -> Repository:
    """The same, if it holds a model: forge.toml in the work tree or in HEAD. Raises ForgeError where it does not."""
    repo = open_repository(folder)
    if not (repo.top / SETTINGS_FILE).is_file():
        listed = git(repo, "ls-tree", "--full-tree", "HEAD", "--", SETTINGS_FILE, check=False)
        if not listed:
            from forge.repo.settings_file import not_a_model_repository

            raise not_a_model_repository(str(repo.top))
    return repo


def look_around() -> Repository | None:
    """The repository of the current folder, if there is one; the verb that comes next need not ask git again."""
    try:
        repo = find_repository()
    except ForgeError:
        return None  # the verb itself says what it needs
    _looked_at[:] = [(Path.cwd(), repo)]
    return repo


def set_up_clone(repo: Repository) -> str | None:
    """Set up a fresh clone of a model: git never carries filters and drivers over. What to tell the user, if anything.

    Where there is no model, or `git forge uninstall` has taken it out, it stays as it is.
    """
    from forge.clone import set_up_stamp

    if not (repo.top / SETTINGS_FILE).is_file() or set_up_stamp.holds(repo):
        return None
    from forge.clone import setup as clone_setup

    message = clone_setup.ensure_installed(repo)
    if message is None:
        set_up_stamp.remember(repo)
    return message
