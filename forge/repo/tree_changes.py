"""What one commit's tree has otherwise than another's, beside the model itself: settings key by key, files by name.

A change that nobody mentions is a change that nobody has agreed to: a gate, a workflow, another site's card.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from forge.git.places import read_file
from forge.git.quiet import quiet
from forge.git.running import Repository, git
from forge.recipe.layout import CONTRIBUTIONS, ITEM_FILE, SETTINGS_FILE, row_of
from forge.recipe.toml_text import MAX_BYTES
from forge.text import printable

MOST_SHOWN = 100  # files

_WORDS = {"A": "added", "D": "removed", "M": "changed", "T": "another kind of file"}


@dataclass(frozen=True)
class TreeChanges:
    """parts: what of each contribution changed, by its name, in words. others: everything else, a line each."""

    parts: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...]


def find_changes(repo: Repository, before: str, after: str) -> TreeChanges:
    """What changed from one commit to another, but for the forge item, which is shown by itself."""
    listing = git(
        repo, *quiet("diff-tree"), "-r", "-z", "--name-status", "--ignore-submodules=none", before, after,
    )  # fmt: skip
    fields = os.fsdecode(listing).split("\0")
    parts: dict[str, list[str]] = {}
    others: list[str] = []
    for letter, path in zip(fields[0::2], fields[1::2], strict=False):
        row = row_of(path)
        if row is not None and row.folder == CONTRIBUTIONS and letter != "T":
            parts.setdefault(path.split("/")[1], []).append(row.word)
        elif path == SETTINGS_FILE and letter == "M":
            lines = [*_settings_changes(repo, before, after)]
            others += [f"{SETTINGS_FILE}: {line}" for line in lines] or [f"{SETTINGS_FILE}: its text, but no setting"]
        elif path != ITEM_FILE:
            others.append(f"{printable(path)}: {_WORDS.get(letter, 'changed')}")
    if len(others) > MOST_SHOWN:
        others = [*others[:MOST_SHOWN], f"and {len(others) - MOST_SHOWN} more files"]
    return TreeChanges({name: tuple(sorted(words)) for name, words in parts.items()}, tuple(others))


def _settings_changes(repo: Repository, before: str, after: str) -> Iterator[str]:
    """Every key of forge.toml that is another one: `[merge] gate: 0.2 -> 1.0`; as they stand, not as they are read."""
    old, new = (_flat(read_file(repo, commit, SETTINGS_FILE, MAX_BYTES)) for commit in (before, after))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield f"{printable(key)}: {_value(old, key)} -> {_value(new, key)}"


def _flat(text: bytes | None) -> dict[str, Any]:
    try:
        tables = tomllib.loads((text or b"").decode())
    except (ValueError, RecursionError):
        return {"": "not to be read"}
    values: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, dict):
            values |= {f"[{name}] {key}": inner for key, inner in value.items()}
        else:
            values[name] = value
    return values


def _value(values: Mapping[str, Any], key: str) -> str:
    return printable(values[key])[:200] if key in values else "-"
