"""`git forge init`: the first commit of a model, on a base that all its contributions share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from forge.clone import setup as clone_setup
from forge.clone.stored import commit, stage
from forge.errors import ForgeError
from forge.git.files import write_whole
from forge.git.running import Repository, git, git_succeeds, git_text
from forge.operations.bases import allow_base, forbid_base
from forge.recipe.item import Base, empty
from forge.recipe.item_text import to_json
from forge.recipe.layout import ATTRIBUTES_FILE, ITEM_FILE, SETTINGS_FILE
from forge.recipe.licences import check_license
from forge.recipe.settings import PRESETS, choose_settings, to_toml
from forge.repo.storage import MAX_ATTRIBUTES

PATHS = (SETTINGS_FILE, ITEM_FILE, ATTRIBUTES_FILE)


@dataclass(frozen=True)
class Started:
    """A new model. description: of the base, for people. place: where this clone finds it, if that had to be said."""

    base: Base
    description: str
    place: str | None


def init(
    repo: Repository,
    reference: str = "embedded",
    *,
    strategy: str = "mixture",
    preset: str = "best",
    task_aware: bool = False,
    license_: str | None = None,
) -> Started:
    """Write forge.toml, an empty forge item and .gitattributes, set the clone up, and commit.

    reference: of the base, as forge.model.base.load_base takes it. preset: how coefficients are searched, "best" or
    "paper". license_: an SPDX expression. Raises ForgeError, with everything as it was, where there is a model already.
    """
    if preset not in PRESETS:
        raise ForgeError(f"no settings are called {preset!r}", hint=f"there are: {', '.join(PRESETS)}")
    _refuse_what_is_there(repo)
    if license_ is not None:
        check_license(license_, "--license")
    git(repo, "var", "GIT_COMMITTER_IDENT")  # no name and address: say so before anything is written

    from forge.model.base import load_base
    from forge.model.base_places import portable_name

    base = load_base(reference)
    place = allow_base(repo, reference)
    identity = Base(portable_name(reference), base.fingerprint)
    settings = choose_settings(identity, preset, strategy, task_aware, license_)
    head = git_text(repo, "rev-parse", "--verify", "--quiet", "HEAD", check=False) or None
    with _taken_back_on_failure(repo, place):
        write_whole(repo.top / SETTINGS_FILE, to_toml(settings).encode())
        write_whole(repo.top / ITEM_FILE, to_json(empty(identity, strategy)).encode())
        clone_setup.add_attributes(repo)
        clone_setup.install(repo)
        stage(repo, PATHS, MAX_ATTRIBUTES)
        commit(repo, head, [f"Start a model on {identity.reference}"], PATHS, "git forge init")
    return Started(identity, base.description, place)


def _refuse_what_is_there(repo: Repository) -> None:
    if git_text(repo, "rev-parse", "--is-bare-repository") == "true":
        raise ForgeError(f"{repo.top} is a bare repository", hint="run git forge init in a clone, then push")
    for name in (SETTINGS_FILE, ITEM_FILE):
        if os.path.lexists(repo.top / name):
            raise ForgeError(
                f"{name} is there already: this is a model repository", hint="see it with git forge status"
            )
    if git_text(repo, "status", "--porcelain", "--", ATTRIBUTES_FILE):
        raise ForgeError(
            f"{ATTRIBUTES_FILE} has changes that are not committed", hint=f"commit {ATTRIBUTES_FILE} first"
        )


@contextmanager
def _taken_back_on_failure(repo: Repository, place: str | None) -> Iterator[None]:
    """Undo what `init` has done if the block fails. place: of the base, if it was allowed just now."""
    had_attributes = os.path.lexists(repo.top / ATTRIBUTES_FILE)
    was_set_up = clone_setup.is_installed(repo)
    try:
        yield
    except BaseException:
        if git_succeeds(repo, "rev-parse", "--verify", "--quiet", "HEAD"):
            git(repo, "reset", "--quiet", "--", *PATHS, check=False)
        else:
            git(repo, "rm", "--quiet", "--cached", "--force", "--ignore-unmatch", "--", *PATHS, check=False)
        (repo.top / SETTINGS_FILE).unlink(missing_ok=True)
        (repo.top / ITEM_FILE).unlink(missing_ok=True)
        if had_attributes:
            git(repo, "checkout", "--quiet", "--", ATTRIBUTES_FILE, check=False)
        else:
            (repo.top / ATTRIBUTES_FILE).unlink(missing_ok=True)
        if not was_set_up:
            clone_setup.uninstall(repo)
        if place is not None:
            forbid_base(repo, place)
        raise
