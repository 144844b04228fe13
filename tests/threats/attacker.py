"""What an attacker can make with a text editor, numpy and plain git, and an honest hospital to compare with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from story.hospitals import (
    ITEM,
    LABELS,
    adapter_config,
    card_text,
    distilled_arrays,
    distilled_bytes,
    fitted_adapter,
    git_ok,
    write_contribution,
)

from forge.formats.safetensors import canonicalise
from forge.git.running import find_repository
from forge.model.base import BaseModel
from forge.model.base_places import portable_name
from forge.recipe.item import ForgeItem
from forge.recipe.item_text import from_json, to_json
from forge.repo.contributions import find_files

PER_CLASS = 10


def hospital_files(
    base: BaseModel, name: str, noise: int, *, swapped: bool = False, labels: Sequence[str] = LABELS["breast"]
) -> dict[str, bytes]:
    """A contribution of the task breast: the same patterns for all hospitals, each with its own noise.

    swapped: its labels are the wrong way round, on the images and in what its adapter has learnt.
    """
    arrays = distilled_arrays(len(labels), seed=1, per_class=PER_CLASS)
    random = np.random.default_rng(noise)
    shifted = arrays["images"].astype(int) + random.integers(-30, 30, size=arrays["images"].shape)
    arrays["images"] = shifted.clip(0, 255).astype(np.uint8)
    if swapped:
        arrays["labels"] = arrays["labels"][::-1].copy()
    adapter = fitted_adapter(base, arrays, labels, noise)
    return {
        "adapter_config.json": adapter_config(),
        "adapter_model.safetensors": save(dict(adapter), {"format": "pt"}),
        "distilled.safetensors": distilled_bytes(arrays, "breast", labels),
        "card.toml": card_text("breast", labels, portable_name(base.reference), base.fingerprint),
    }


def read(top: Path, rev: str | None = None) -> ForgeItem:
    text = (top / ITEM).read_bytes() if rev is None else git_ok(top, "show", f"{rev}:{ITEM}").encode() + b"\n"
    return from_json(text)


def forge_by_hand(top: Path, item: ForgeItem | Mapping[str, Any], message: str = "A small fix") -> str:
    """Commit a forge item of one's own, its digest right, past every hook and filter."""
    text = to_json(item) if isinstance(item, ForgeItem) else with_digest(item)
    (top / ITEM).write_text(text)
    return commit(top, message)


def with_digest(document: Mapping[str, Any]) -> str:
    """The text of a document with the digest that it has to have; for what the values of git forge would refuse."""
    body = {key: value for key, value in document.items() if key != "digest"}
    text = json.dumps(body, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{\n  "digest": "sha256:{digest}",\n' + text.removeprefix("{\n")


def commit(top: Path, message: str = "A small fix") -> str:
    """Commit the whole work tree without a hook."""
    alone = ("-c", "filter.forge.process=", "-c", "filter.forge.required=false", "-c", "core.hooksPath=/dev/null")
    git_ok(top, *alone, "add", "--all", "--force")
    git_ok(top, *alone, "commit", "--quiet", "--allow-empty", "-m", message)
    return git_ok(top, "rev-parse", "HEAD")


def canonical(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files as the filter stores them, so that git finds them unchanged with the filter and without it."""
    return {
        name: b"".join(canonicalise(content)) if name.endswith(".safetensors") else content
        for name, content in files.items()
    }


def named_by_hand(top: Path, names: Sequence[str], files: Mapping[str, bytes]) -> str:
    """The same files under several names, in the tree and in the forge item."""
    files = canonical(files)
    for name in names:
        write_contribution(top, name, files)
    git_ok(top, "add", "contributions")
    repo = find_repository(top)
    entries = [find_files(repo, name, ":").entry(1.0) for name in names]
    item = read(top)
    return forge_by_hand(top, replace(item, contributions=(*item.contributions, *entries), own_scores=()))
