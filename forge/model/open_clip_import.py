"""Importing open_clip without what a plain ViT does not need of it.

open_clip imports transformers and timm where they are installed (peft and open_clip bring both), for text towers and
visual towers that most bases have not, and torchvision as a whole for a batch norm and a few transforms of pictures. On
top of torch's 1.7 s of CPU that is 2.7 s for every process that loads the embedded base; without them .4 s. So where
git forge is the program they are left out of that import: the first two as if they were not installed, which open_clip
provides for, of torchvision the modules that open_clip names. Afterwards all of them can be imported as ever.

A base that needs them gets open_clip imported again, whole; and so does every program that uses git forge as a library,
which may use open_clip for something else.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

from forge.program import runs_alone

_LEFT_OUT = ("transformers", "timm")
_IN_PARTS = ("torchvision", "torchvision.ops")  # packages of which single modules are imported


def import_open_clip() -> None:
    """Import open_clip as it is needed for a plain ViT, if it is not imported yet."""
    if "open_clip" in sys.modules:
        return
    if runs_alone() and not any(_root(name) in (*_LEFT_OUT, "torchvision") for name in sys.modules):
        try:
            with _parts_only():
                importlib.import_module("open_clip")
        except Exception:  # another version of one of them, which needs more: then everything, as usual
            _forget("open_clip")
    importlib.import_module("open_clip")


def import_whole_open_clip(config: Mapping[str, Any]) -> None:
    """Import open_clip again with timm and transformers, if a base of this architecture needs one of them."""
    lean = "open_clip" in sys.modules and getattr(sys.modules["open_clip.hf_model"], "transformers", None) is None
    if lean and not is_plain(config):
        _forget("open_clip")
        importlib.import_module("open_clip")


def is_plain(config: Mapping[str, Any]) -> bool:
    """Whether open_clip builds all of this architecture itself, with nothing of timm or transformers."""
    names = {key for part in ("vision_cfg", "text_cfg") for key, value in config.get(part, {}).items() if value}
    return not any(key.startswith(("timm_", "hf_")) for key in names)


@contextmanager
def _parts_only() -> Iterator[None]:
    """In the block some packages seem not to be installed, and of others only single modules can be imported."""
    try:
        for name in _IN_PARTS:
            sys.modules[name] = _not_run(name)
        for name in _LEFT_OUT:
            sys.modules[name] = None  # type: ignore[assignment]  # what makes `import` raise ImportError
        yield
    finally:
        for root in (*_LEFT_OUT, "torchvision"):
            _forget(root)


def _not_run(name: str) -> ModuleType:
    """A package in which modules are found, while its own code, which imports all of them, has not been run."""
    parent, _, _ = name.rpartition(".")
    spec = PathFinder.find_spec(name, sys.modules[parent].__path__ if parent else None)
    if spec is None:
        raise ImportError(f"{name} is not installed")
    return module_from_spec(spec)


def _forget(root: str) -> None:
    for name in [name for name in sys.modules if _root(name) == root]:
        del sys.modules[name]


def _root(name: str) -> str:
    return name.partition(".")[0]
