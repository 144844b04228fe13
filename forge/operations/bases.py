"""The base of a recipe, from where this clone keeps it: a branch only says which one, never where from.

What a forge.toml or forge item names is used as a place only if it is `embedded`. Any other base is one that the clone
has allowed in its own settings (`git config forge.base PLACE`, once for each), which no branch can write; and never
one in the work tree, where the next branch that is checked out could put another.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from forge.console import say
from forge.errors import ForgeError
from forge.git.running import Repository, git_text
from forge.recipe.item import Base

if TYPE_CHECKING:
    from forge.model.base import BaseModel

ALLOWED = "forge.base"


def load_repository_base(repo: Repository, base: Base) -> BaseModel:
    """The base that a recipe names, checked by its fingerprint.

    Raises ForgeError, with the setting that allows one, where none of those that this clone has allowed is that base.
    """
    from forge.model.base_places import EMBEDDED

    places = allowed_places(repo)
    if base.reference == EMBEDDED:
        places = (EMBEDDED, *(place for place in places if place != EMBEDDED))
    else:  # of several, the one that goes by this name comes first
        places = tuple(sorted(places, key=lambda place: place != base.reference))
    if not places:
        raise ForgeError(
            f"this model is built on the base {base.reference}, which this clone has not allowed",
            hint=f"if you trust it, say where this machine finds it: git config {ALLOWED} {_suggested(base, repo.top)}",
        )
    first: ForgeError | None = None
    for place in places:
        try:
            return _load_once(base.reference, base.fingerprint, place)
        except ForgeError as error:
            first = first or error
    assert first is not None
    raise ForgeError(
        first.message,
        hint=f"say where this machine keeps the base that forge.toml calls {base.reference}: "
        f"git config {ALLOWED} <NAME/TAG, folder or NAME/TAG=FILE> (--add for one more)",
    )


def allowed_places(repo: Repository) -> tuple[str, ...]:
    """Where this clone's settings, and its user's, say that bases are.

    Raises ForgeError for one in the work tree.
    """
    from forge.model.base_places import path_in

    listed = git_text(repo, "config", "--null", "--get-all", ALLOWED, check=False).split("\0")
    places = tuple(dict.fromkeys(place for place in listed if place))
    for place in places:
        path = path_in(place)
        if path is not None and _in_work_tree(repo, path):
            raise ForgeError(
                f"the setting {ALLOWED} names {place}, which lies in the work tree: any branch could replace it",
                hint=f"move it out of the repository, then: git config {ALLOWED} <where it is now>",
            )
    return places


def allow_base(repo: Repository, place: str) -> str | None:
    """Let this clone use the base at a place; the setting's value if it was not allowed already.

    Raises ForgeError for a place in the work tree.
    """
    from forge.model.base_places import EMBEDDED, absolute_place, path_in

    path = path_in(place)
    if path is not None and _in_work_tree(repo, path):
        raise ForgeError(
            f"{place} lies in this repository, where any branch could replace it",
            hint="keep the base outside: each clone says where with git config forge.base",
        )
    full = absolute_place(place)
    if place == EMBEDDED or full in allowed_places(repo):
        return None
    git_text(repo, "config", "--local", "--add", ALLOWED, full)
    return full


def forbid_base(repo: Repository, place: str) -> None:
    """Take back what allow_base has set."""
    git_text(repo, "config", "--local", "--fixed-value", "--unset-all", ALLOWED, place, check=False)


def _in_work_tree(repo: Repository, path: Path) -> bool:
    full = path.resolve()
    own = (repo.git_dir.resolve(), repo.common_dir.resolve())
    return full.is_relative_to(repo.top.resolve()) and not any(full.is_relative_to(folder) for folder in own)


def _suggested(base: Base, top: Path) -> str:
    """What to set: the name itself where open_clip knows it, or where earlier versions recorded a path that is here."""
    from forge.model.base_places import path_in

    name, slash, tag = base.reference.partition("/")
    if slash and name and tag and "=" not in base.reference and "/" not in tag and name[0] not in ".~":
        return base.reference
    if "=" in base.reference and tag and "/" not in name:  # what the tag says, and weights that are on some disk
        return f"{base.reference.partition('=')[0]}=<FILE>"
    path = path_in(base.reference)
    if path is not None and path.is_absolute() and path.exists():
        return base.reference
    return "<NAME/TAG, folder or NAME/TAG=FILE>"


@lru_cache(maxsize=1)
def _load_once(reference: str, fingerprint: str, place: str) -> BaseModel:
    from forge.model.base import load_base

    base = load_base(reference, fingerprint=fingerprint, override=place)
    if base.remark is not None:
        say(f"Note: {base.remark}.", err=True)
    return base
