"""The forge item and the settings of a place: a revision, the index, the work tree."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from forge.errors import ForgeError
from forge.git.places import INDEX, Place, described, read_file, resolve
from forge.git.running import Repository, read_paths
from forge.recipe.item import ForgeItem
from forge.recipe.item_text import MAX_BYTES, from_json
from forge.recipe.layout import ITEM_FILE, SETTINGS_FILE
from forge.recipe.settings import Settings, read_settings
from forge.recipe.toml_text import MAX_BYTES as MAX_TOML
from forge.repo.settings_file import load_settings, not_a_model_repository


def read_item(repo: Repository, place: Place) -> ForgeItem:
    """The forge item of a place. Raises ForgeError where there is none or it is not whole."""
    item = find_item(repo, place)
    if item is None:
        where = "the work tree" if place is None else "the index" if place == INDEX else place
        hint = "make this a model repository with `git forge init`"
        if place is not None and place != INDEX:
            hint = "choose a revision that has one (see `git forge log`), or start with `git forge init`"
        raise ForgeError(f"no {ITEM_FILE} in {where}: it is no version of a model", hint=hint)
    return item


def find_item(repo: Repository, place: Place) -> ForgeItem | None:
    """As read_item, with None where there is no forge item."""
    if place is None or place == INDEX:
        text = read_file(repo, place, ITEM_FILE, MAX_BYTES)
    else:
        text = _committed(repo, resolve(repo, place), ITEM_FILE)
    if text is None:
        return None
    try:
        return _whole(text)
    except ForgeError:
        return from_json(text, described(place, ITEM_FILE))  # whose error names the place


def has_item(repo: Repository, rev: str) -> bool:
    """Whether a revision has a forge item, whatever is in it."""
    return _committed(repo, resolve(repo, rev), ITEM_FILE) is not None


def holds_model(repo: Repository, rev: str) -> bool:
    """Whether a revision has a forge item or settings, whatever is in them."""
    commit = resolve(repo, rev)
    return any(_committed(repo, commit, file) is not None for file in _LIMITS)


def read_ahead(repo: Repository, commits: Iterable[str]) -> None:
    """Read what makes commits (full ids) versions of a model by one git, for who is going to look at all of them."""
    unread = [commit for commit in dict.fromkeys(commits) if (repo, commit) not in _texts]
    if not unread:
        return
    contents = read_paths(repo, [(commit, file) for file in _LIMITS for commit in unread], max(_LIMITS.values()))
    for commit in unread:
        _texts[repo, commit] = {file: contents[commit, file] for file in _LIMITS if (commit, file) in contents}
    while len(_texts) > _MOST_KEPT:
        del _texts[next(iter(_texts))]


# One command looks at one commit for several reasons, and finds one item in several places: each is read and checked
# once. What a commit holds stays what it is; what was not there is looked for again.
_LIMITS = {ITEM_FILE: MAX_BYTES, SETTINGS_FILE: MAX_TOML}
_MOST_KEPT = 4  # commits, of which the items may have 16 MiB
_texts: dict[tuple[Repository, str], dict[str, bytes]] = {}


def _committed(repo: Repository, commit: str, file: str) -> bytes | None:
    read_ahead(repo, [commit])
    text = _texts[repo, commit].get(file)
    return read_file(repo, commit, file, _LIMITS[file]) if text is None or len(text) > _LIMITS[file] else text


@lru_cache(maxsize=4)
def _whole(text: bytes) -> ForgeItem:
    return from_json(text)


def read_settings_of(repo: Repository, place: Place) -> Settings:
    """forge.toml of a place. Raises ForgeError where there is none."""
    if place is None:
        return load_settings(repo.top)
    if place == INDEX:
        text = read_file(repo, place, SETTINGS_FILE, MAX_TOML)
    else:
        text = _committed(repo, resolve(repo, place), SETTINGS_FILE)
    if text is None:
        raise not_a_model_repository("the index" if place == INDEX else place)
    return read_settings(text, described(place, SETTINGS_FILE))
