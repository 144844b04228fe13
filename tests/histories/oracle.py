"""What a history must have made of a model, told without git forge: plain JSON, hashes and git's own listings."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ITEM = "forge-item.json"
PARTS = {"adapter": "adapter_model.safetensors", "config": "adapter_config.json", "distilled": "distilled.safetensors"}
ROUNDING = 3e-6  # coefficients and scales are recorded with six decimals

Ids = tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """A forge item's text, read by hand."""

    text: bytes

    @cached_property
    def document(self) -> Mapping[str, Any]:
        found = json.loads(self.text)
        assert isinstance(found, dict)
        return found

    @property
    def strategy(self) -> str:
        strategy = self.document["strategy"]
        assert isinstance(strategy, str)
        return strategy

    @cached_property
    def ids(self) -> dict[str, Ids]:
        """What makes a contribution the one it is, by name."""
        return {name: tuple(each[part] for part in PARTS) for name, each in self.document["contributions"].items()}

    @cached_property
    def coefficients(self) -> dict[str, Any]:
        return {name: each["coefficient"] for name, each in self.document["contributions"].items()}

    @property
    def joint(self) -> bool:
        search = self.document["search"]
        return search is not None and search["method"] == "joint"


@dataclass(frozen=True)
class Expected:
    """A merge by the rules of sets: the contributions, which of them theirs brings, and what cannot be decided."""

    contributions: Mapping[str, Ids]
    brought: frozenset[str]
    strategy: str | None  # None: both sides changed it, differently
    undecided: tuple[str, ...]

    @property
    def conflict(self) -> bool:
        lower = [name.lower() for name in self.contributions]
        return bool(self.undecided) or self.strategy is None or len(set(lower)) < len(lower)


def expected_merge(ancestor: Recipe | None, ours: Recipe, theirs: Recipe) -> Expected:
    contributions, brought, undecided = {}, set(), []
    before = ancestor.ids if ancestor else {}
    for name in sorted({*ours.ids, *theirs.ids}):
        was, mine, other = before.get(name), ours.ids.get(name), theirs.ids.get(name)
        if mine == other or was == other:
            chosen = mine
        elif was == mine:
            chosen = other
            brought.add(name)
        else:
            chosen = None
            undecided.append(name)
        if chosen is not None:
            contributions[name] = chosen
    strategy: str | None = ours.strategy
    if ours.strategy != theirs.strategy:
        if ancestor and ours.strategy == ancestor.strategy:
            strategy = theirs.strategy
        elif not ancestor or theirs.strategy != ancestor.strategy:
            strategy = None
    return Expected(contributions, frozenset(brought & set(contributions)), strategy, tuple(undecided))


def needs_driver(ancestor: Recipe | None, ours: Recipe, theirs: Recipe) -> bool:
    """Whether both sides changed the file, so that git cannot take one of them as it is."""
    before = ancestor.text if ancestor else None
    return len({before, ours.text, theirs.text}) == 3


def merge_problems(ancestor: Recipe | None, ours: Recipe, theirs: Recipe, result: Recipe) -> list[str]:
    """What is wrong with a result that was made without a conflict."""
    if not needs_driver(ancestor, ours, theirs):
        before = ancestor.text if ancestor else None
        wanted = theirs if ours.text in (before, theirs.text) else ours
        return [] if result.text == wanted.text else ["one side changed, and the result is not that side"]
    expected = expected_merge(ancestor, ours, theirs)
    if expected.conflict:
        return [f"must be a conflict: {expected}"]
    problems = []
    if result.ids != expected.contributions:
        problems.append(f"contributions {sorted(result.ids)}, not {sorted(expected.contributions)}, or other files")
    if result.strategy != expected.strategy:
        problems.append(f"strategy {result.strategy}, not {expected.strategy}")
    return problems or recursion_problems(expected, ours, theirs, result)


def recursion_problems(expected: Expected, ours: Recipe, theirs: Recipe, result: Recipe) -> list[str]:
    """MedForge (2025), Eq. 3 and 4: c_k <- w c_k for what ours has, w' c_k for what theirs brings."""
    search = result.document["search"]
    if ours.ids == result.ids and ours.strategy == result.strategy:
        return [] if result.text == ours.text else ["nothing came in, and ours was changed"]
    if not result.ids:
        return []
    if ours.joint or theirs.joint or result.joint:
        return []  # depends on the contributions alone: compared with all other searches over the same ones
    scales = {"ours": 1.0, "theirs": 1.0} if search is None else search["scales"]
    if search is None and ours.ids and len(result.ids) > 1:
        return ["nothing was searched"]
    wanted = {}
    for name in result.ids:
        side, of = ("theirs", theirs) if name in expected.brought else ("ours", ours)
        coefficient = of.coefficients[name]
        if result.strategy == "mixture-output":
            coefficient = max(0.0, coefficient)
        wanted[name] = scales[side] * coefficient
    off = [name for name, value in wanted.items() if abs(result.coefficients[name] - value) > ROUNDING]
    return [f"{name} is {result.coefficients[name]}, not {wanted[name]}" for name in off]


def commit_problems(before: Recipe, result: Recipe) -> list[str]:
    """A commit on top of `before`: what is kept keeps its proportions, a lone newcomer to a bare model has 1."""
    if not before.ids and len(result.ids) == 1 and list(result.coefficients.values()) != [1.0]:
        return [f"the first contribution has {result.coefficients}"]
    return proportion_problems(before, result)


def proportion_problems(before: Recipe, result: Recipe) -> list[str]:
    """Whatever was searched, all that `before` had and the result still has was scaled by one number."""
    search = result.document["search"]
    if search is None or search["method"] == "joint" or result.strategy == "mixture-output":
        return []
    kept = [name for name, ids in result.ids.items() if before.ids.get(name) == ids]
    problems = []
    for one in kept:
        for other in kept:
            left = result.coefficients[one] * before.coefficients[other]
            right = result.coefficients[other] * before.coefficients[one]
            if abs(left - right) > 10 * ROUNDING:
                problems.append(f"{one} and {other} were scaled differently")
    return problems


def tree_problems(item: bytes | None, settings: bytes | None, blobs: Mapping[str, str]) -> list[str]:
    """What is wrong with a tree as a version of the model. blobs: the ids of all its files, by path."""
    if item is None or settings is None:
        return ["no forge item, or no forge.toml"]
    lines = item.split(b"\n")
    digest = re.fullmatch(rb'  "digest": "(?:sha256:)?([0-9a-f]{64})",', lines[1] if len(lines) > 1 else b"")
    if digest is None or hashlib.sha256(b"\n".join([lines[0], *lines[2:]])).hexdigest().encode() != digest[1]:
        return ["the digest does not match"]
    recipe = Recipe(item)
    problems = []
    there: dict[str, set[str]] = {}
    for path in blobs:
        folder, *rest = path.split("/")
        if folder == "contributions" and len(rest) == 2:
            there.setdefault(rest[0], set()).add(rest[1])
    if there.keys() != recipe.ids.keys():
        problems.append(f"contributions {sorted(there)}, but the forge item names {sorted(recipe.ids)}")
    for name, ids in recipe.ids.items():
        found = tuple(blobs.get(f"contributions/{name}/{file}") for file in PARTS.values())
        if found != ids or "card.toml" not in there.get(name, ()):
            problems.append(f"{name}: other files than the forge item names")
    if f'strategy = "{recipe.strategy}"'.encode() not in settings:
        problems.append("another strategy in forge.toml")
    return problems


def criss_cross_problems(ours: Recipe, theirs: Recipe, result: Recipe) -> list[str]:
    """With several ancestors: what both sides have is in the result, and all of it comes from one of them."""
    problems = []
    for name, ids in ours.ids.items():
        if theirs.ids.get(name) == ids and result.ids.get(name) != ids:
            problems.append(f"{name} is in both sides and not in the result")
    for name, ids in result.ids.items():
        if ids not in (ours.ids.get(name), theirs.ids.get(name)):
            problems.append(f"{name} comes from neither side")
    if result.strategy not in (ours.strategy, theirs.strategy):
        problems.append(f"strategy {result.strategy}")
    return problems
