"""git forge: build one model out of many contributors' adapters, with plain git.

From Python: `forge.open(PATH)` gives a model repository, `forge.init(PATH)` starts one (see forge/api.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forge.api import ModelRepository, Version, init, open

__version__ = "0.1.0"
__all__ = ["ModelRepository", "Version", "__version__", "init", "open"]


def __getattr__(name: str) -> object:
    """The Python API is imported when it is first asked for: git starts this package for every file that it filters."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("forge.api"), name)
