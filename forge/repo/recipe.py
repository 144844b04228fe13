"""The forge item: which model a commit is, as values and as one canonical text.

A forge item is a recipe, not weights: a base, a strategy and one coefficient per contribution (MedForge
(2025), Eq. 3 and 4, unrolled over all merges). The same recipe is always the same bytes, and the second
line of the file is a digest over all other lines, so that

    sed 2d forge-item.json | sha256sum

prints it, and any two different edits of one file meet in that line: where the merge driver is not
installed, git's text merge stops with a conflict instead of blending two models.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from forge.errors import ForgeError
from forge.repo.checks import (
    check_blob_id,
    check_count,
    check_name,
    check_number,
    check_optional_number,
    check_share,
    check_text,
)

FILE_NAME = "forge-item.json"
FORMAT = 1
STRATEGIES = ("mixture", "fusion")
MAX_BYTES = 16 * 2**20

_MARKER = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)


def check_strategy(strategy: object) -> str:
    """One of STRATEGIES."""
    if strategy not in STRATEGIES or not isinstance(strategy, str):
        raise ForgeError(f"unknown strategy {strategy!r}", hint=f"use one of: {', '.join(STRATEGIES)}")
    return strategy


def _doubled(values: list[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


@dataclass(frozen=True)
class Base:
    """The frozen base model: how to find it, and the fingerprint of its weights and label tokeniser."""

    reference: str  # "embedded", "ViT-B-16/openai", or a path
    fingerprint: str

    def __post_init__(self) -> None:
        check_text(self.reference, "the base's reference")
        check_text(self.fingerprint, "the base's fingerprint")


@dataclass(frozen=True)
class Entry:
    """One contribution in the model: the git blob ids of its three files, and its coefficient c_k."""

    name: str
    adapter: str
    config: str
    distilled: str
    coefficient: float

    def __post_init__(self) -> None:
        check_name(self.name)
        for part in ("adapter", "config", "distilled"):
            check_blob_id(getattr(self, part), f"{part} of contribution {self.name!r}")
        coefficient = check_number(self.coefficient, f"the coefficient of contribution {self.name!r}")
        object.__setattr__(self, "coefficient", coefficient)


@dataclass(frozen=True)
class Search:
    """The search that found the coefficients (MedForge (2025), Section 3.3), and what it reached.

    `scales` holds what was searched, by name: w_i as "ours" and w'_i as "theirs". The objective is the
    cross-entropy on the distilled datasets averaged over tasks plus the L1 term; `objective_before` is that
    of ours kept as it was, None where ours was empty.
    """

    optimizer: str
    seed: int
    evaluations: int
    start: float
    bounds: float
    l1: float
    scales: Mapping[str, float] = field(hash=False)
    objective_before: float | None
    objective_after: float

    def __post_init__(self) -> None:
        check_text(self.optimizer, "the search's optimizer")
        check_count(self.seed, "the search's seed")
        check_count(self.evaluations, "the search's evaluations")
        for part in ("start", "bounds", "l1", "objective_after"):
            object.__setattr__(self, part, check_number(getattr(self, part), f"the search's {part}"))
        before = check_optional_number(self.objective_before, "the search's objective_before")
        object.__setattr__(self, "objective_before", before)
        scales = {
            check_name(name): check_number(scale, f"the search's scale {name!r}")
            for name, scale in sorted(self.scales.items())
        }
        object.__setattr__(self, "scales", scales)


@dataclass(frozen=True)
class TaskScore:
    """How the model does on the distilled images of one task; `before` is the model it was made from."""

    task: str
    labels: tuple[str, ...]
    images: int
    accuracy: float
    cross_entropy: float
    accuracy_before: float | None = None
    cross_entropy_before: float | None = None

    def __post_init__(self) -> None:
        check_text(self.task, "the name of a scored task")
        of = f"of the score of task {self.task!r}"
        labels = tuple(check_text(label, f"a label {of}") for label in self.labels)
        object.__setattr__(self, "labels", labels)
        check_count(self.images, f"the images {of}")
        object.__setattr__(self, "accuracy", check_share(self.accuracy, f"the accuracy {of}"))
        loss = check_number(self.cross_entropy, f"the cross_entropy {of}")
        object.__setattr__(self, "cross_entropy", loss)
        if self.accuracy_before is not None:
            share = check_share(self.accuracy_before, f"the accuracy_before {of}")
            object.__setattr__(self, "accuracy_before", share)
        loss_before = check_optional_number(self.cross_entropy_before, f"the cross_entropy_before {of}")
        object.__setattr__(self, "cross_entropy_before", loss_before)


@dataclass(frozen=True)
class ForgeItem:
    """The recipe of one model. Contributions are kept sorted by name, scores by task; both are unique."""

    base: Base
    strategy: str
    contributions: tuple[Entry, ...] = ()
    search: Search | None = None
    scores: tuple[TaskScore, ...] = ()

    def __post_init__(self) -> None:
        check_strategy(self.strategy)
        contributions = tuple(sorted(self.contributions, key=lambda entry: entry.name))
        object.__setattr__(self, "contributions", contributions)
        scores = tuple(sorted(self.scores, key=lambda score: score.task))
        object.__setattr__(self, "scores", scores)
        # Two folders whose names differ only in case are one folder on many machines.
        twice = _doubled([entry.name.lower() for entry in contributions])
        if twice is not None:
            same = [entry.name for entry in contributions if entry.name.lower() == twice]
            raise ForgeError(f"two contributions have the same name: {' and '.join(same)}")
        twice = _doubled([score.task for score in scores])
        if twice is not None:
            raise ForgeError(f"two scores are of the same task: {twice!r}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.contributions)

    def entry(self, name: str) -> Entry | None:
        return next((entry for entry in self.contributions if entry.name == name), None)

    def score(self, task: str) -> TaskScore | None:
        return next((score for score in self.scores if score.task == task), None)


def empty(base: Base, strategy: str) -> ForgeItem:
    """The forge item of a model without contributions: the base itself."""
    return ForgeItem(base=base, strategy=strategy)


def identity(entry: Entry) -> tuple[str, str, str]:
    """What makes a contribution the one it is: the blobs, not the coefficient that a merge gave it."""
    return (entry.adapter, entry.config, entry.distilled)


def digest(item: ForgeItem) -> str:
    """The digest that the second line of to_json(item) holds."""
    return _digest(_document(item))


def to_json(item: ForgeItem) -> str:
    """The canonical text of `item`: digest first, the other keys sorted, two spaces, a newline at the end."""
    document = _document(item)
    return f'{{\n  "digest": "{_digest(document)}",\n' + _canonical(document).removeprefix("{\n")


def from_json(text: str | bytes, source: str = FILE_NAME) -> ForgeItem:
    """Read to_json's text; `source` names the file in messages.

    Raises ForgeError for anything but a whole, unedited forge item of a format this version knows.
    """
    try:
        document = _parse(text)
        recorded = document.pop("digest", None)
        version = document.get("format")
        if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
            raise ForgeError(f"format {version} was written by a newer git forge", hint="upgrade git forge")
        if type(version) is not int or version != FORMAT:
            raise ForgeError("this is not a forge item: it names no format that git forge knows")
        if not isinstance(recorded, str):
            raise ForgeError("the digest is missing", hint=_RESTORE)
        if recorded != _digest(document):
            raise ForgeError(_EDITED, hint=_RESTORE)
        item = _item(document)
        if recorded != digest(item):  # a right digest over text that is not canonical, such as 0.50000001
            raise ForgeError(_EDITED, hint=_RESTORE)
        return item
    except ForgeError as error:
        raise ForgeError(f"{source}: {error.message}", hint=error.hint) from None
    except RecursionError:
        raise ForgeError(f"{source}: nested too deeply: this is not a forge item", hint=_RESTORE) from None


_EDITED = "the digest does not match: edited by hand, or merged as text by a git without the merge driver"
_RESTORE = f"restore the file with `git checkout HEAD -- {FILE_NAME}`, then `git forge commit`"
_UNMERGED = (
    "run `git merge --abort`, then `git forge install`, and merge again: the merge driver settles it; "
    f"or keep one side with `git checkout --ours -- {FILE_NAME}` (or --theirs)"
)


def _document(item: ForgeItem) -> dict[str, object]:
    search = item.search
    return {
        "format": FORMAT,
        "base": {"reference": item.base.reference, "fingerprint": item.base.fingerprint},
        "strategy": item.strategy,
        "contributions": {
            entry.name: {
                "adapter": entry.adapter,
                "config": entry.config,
                "distilled": entry.distilled,
                "coefficient": entry.coefficient,
            }
            for entry in item.contributions
        },
        "search": None if search is None else {part: getattr(search, part) for part in _SEARCH_KEYS},
        "scores": {
            score.task: {
                "labels": list(score.labels),
                **{part: getattr(score, part) for part in _SCORE_KEYS if part != "labels"},
            }
            for score in item.scores
        },
    }


_TOP_KEYS = ("format", "base", "strategy", "contributions", "search", "scores")
_BASE_KEYS = ("reference", "fingerprint")
_ENTRY_KEYS = ("adapter", "config", "distilled", "coefficient")
_SEARCH_KEYS = (
    "optimizer", "seed", "evaluations", "start", "bounds", "l1", "scales", "objective_before",
    "objective_after",
)  # fmt: skip
_SCORE_KEYS = (
    "labels", "images", "accuracy", "cross_entropy", "accuracy_before", "cross_entropy_before",
)  # fmt: skip


def _canonical(document: Mapping[str, object]) -> str:
    return json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _digest(document: Mapping[str, object]) -> str:
    # "surrogatepass": text that nobody has checked yet must give a digest too, if a useless one.
    text = _canonical(document).encode("utf-8", "surrogatepass")
    return "sha256:" + hashlib.sha256(text).hexdigest()


def _parse(text: str | bytes) -> dict[str, object]:
    if len(text) > MAX_BYTES:
        raise ForgeError(f"larger than {MAX_BYTES // 2**20} MiB: this is not a forge item")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            raise ForgeError("not a text file in UTF-8: this is not a forge item", hint=_RESTORE) from None
    if _MARKER.search(text):
        raise ForgeError("merge conflict: the file holds conflict markers", hint=_UNMERGED)
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    except ValueError as error:
        raise ForgeError(f"not valid JSON: {error}", hint=_RESTORE) from None
    if not isinstance(document, dict):
        raise ForgeError("this is not a forge item: not a JSON object", hint=_RESTORE)
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    twice = _doubled([key for key, _ in pairs])
    if twice is not None:
        raise ForgeError(f"the key {twice[:80]!r} appears twice", hint=_RESTORE)
    return dict(pairs)


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse_constant(number)


def _refuse_constant(constant: str) -> NoReturn:
    raise ForgeError(f"{constant[:40]} is not a number that a forge item can hold", hint=_RESTORE)


def _table(value: object, what: str, keys: tuple[str, ...] | None = None) -> dict[str, object]:
    """`value` as an object with exactly `keys` (any keys where None)."""
    if not isinstance(value, dict):
        raise ForgeError(f"{what} must be a JSON object", hint=_RESTORE)
    if keys is not None:
        for key in value:
            if key not in keys:
                raise ForgeError(f"unknown key {key[:80]!r} in {what}", hint=_RESTORE)
        for key in keys:
            if key not in value:
                raise ForgeError(f"{key!r} is missing in {what}", hint=_RESTORE)
    return value


# The dataclasses check every value themselves, hence the "type: ignore"s: what comes out of JSON is `object`.


def _item(document: dict[str, object]) -> ForgeItem:
    top = _table(document, "the forge item", _TOP_KEYS)
    base = _table(top["base"], "base", _BASE_KEYS)
    entries = tuple(
        Entry(name=name, **_table(entry, f"contribution {name[:80]!r}", _ENTRY_KEYS))  # type: ignore[arg-type]
        for name, entry in _table(top["contributions"], "contributions").items()
    )
    search = None
    if top["search"] is not None:
        table = _table(top["search"], "search", _SEARCH_KEYS)
        _table(table["scales"], "the search's scales")
        search = Search(**table)  # type: ignore[arg-type]
    scores = tuple(_score(task, value) for task, value in _table(top["scores"], "scores").items())
    return ForgeItem(
        base=Base(**base),  # type: ignore[arg-type]
        strategy=check_strategy(top["strategy"]),
        contributions=entries,
        search=search,
        scores=scores,
    )


def _score(task: str, value: object) -> TaskScore:
    table = _table(value, f"the score of task {task[:80]!r}", _SCORE_KEYS)
    labels = table.pop("labels")
    if not isinstance(labels, list):
        raise ForgeError(f"labels of the score of task {task[:80]!r} must be a list", hint=_RESTORE)
    return TaskScore(task=task, labels=tuple(labels), **table)  # type: ignore[arg-type]
