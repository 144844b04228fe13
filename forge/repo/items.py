"""The forge item and the settings of a place: a revision, the index, the work tree."""

from __future__ import annotations

from functools import lru_cache

from forge.errors import ForgeError
from forge.git.places import INDEX, Place, described, read_file, resolve
from forge.git.running import Repository
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
        text = _committed(repo, resolve(repo, place))
    if text is None:
        return None
    try:
        return _whole(text)
    except ForgeError:
        return from_json(text, described(place, ITEM_FILE))  # whose error names the place


# One command looks at one item in several places and for several reasons: it is read and checked once.


@lru_cache(maxsize=4)
def _committed(repo: Repository, commit: str) -> bytes | None:
    return read_file(repo, commit, ITEM_FILE, MAX_BYTES)


@lru_cache(maxsize=4)
def _whole(text: bytes) -> ForgeItem:
    return from_json(text)


def read_settings_of(repo: Repository, place: Place) -> Settings:
    """forge.toml of a place. Raises ForgeError where there is none."""
    if place is None:
        return load_settings(repo.top)
    text = read_file(repo, place, SETTINGS_FILE, MAX_TOML)
    if text is None:
        raise not_a_model_repository("the index" if place == INDEX else place)
    return read_settings(text, described(place, SETTINGS_FILE))
