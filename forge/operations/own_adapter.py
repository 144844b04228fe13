"""The adapter that a contributor has trained, from the work tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forge.errors import ForgeError
from forge.git.lfs import follow
from forge.git.places import read_file
from forge.git.running import Repository
from forge.operations.loading import load_adapter
from forge.recipe.layout import ADAPTER_FILE, CONFIG_FILE, path_of
from forge.recipe.settings import LimitSettings
from forge.repo.made_with import adapter_id

if TYPE_CHECKING:
    from forge.model.adapters import Adapter
    from forge.model.base import BaseModel


def own_adapter_id(repo: Repository, name: str, limits: LimitSettings) -> str | None:
    """How a card names the adapter in contributions/NAME of the work tree; None where there is none."""
    path = path_of(name, ADAPTER_FILE)
    weights = read_file(repo, None, path, limits.file_bytes)
    return None if weights is None else adapter_id(weights, path)


def own_adapter(repo: Repository, name: str, base: BaseModel, limits: LimitSettings) -> Adapter | None:
    """The adapter in contributions/NAME of the work tree, None where there is none.

    Raises ForgeError where one of its two files is missing, or the adapter is not one of this base.
    """
    config, weights = (read_file(repo, None, path_of(name, f), limits.file_bytes) for f in (CONFIG_FILE, ADAPTER_FILE))
    if config is None and weights is None:
        return None
    if config is None or weights is None:
        missing = path_of(name, CONFIG_FILE if config is None else ADAPTER_FILE)
        raise ForgeError(f"{missing} is missing", hint=f"make the adapter again with git forge train {name}")
    weights = follow(repo, weights, path_of(name, ADAPTER_FILE), limits.file_bytes)
    return load_adapter(base, config, weights, path_of(name))
