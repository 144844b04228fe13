"""The forge item: which model a commit is, as values; item_text.py has the text of the file.

A forge item is a recipe, not weights: a base, a strategy and the coefficients of each contribution (MedForge
(2025), Eq. 3 and 4, unrolled over all merges): one, or one per adapted module, and where the model is
task-aware such a set for each task besides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter

from forge.errors import ForgeError
from forge.recipe import layout
from forge.recipe.canonical_json import doubled
from forge.recipe.catalogue import OBJECTIVES, PER, SEARCH_METHODS, strategy_named
from forge.recipe.checks import (
    Coefficient,
    check_blob_id,
    check_choice,
    check_coefficient,
    check_count,
    check_name,
    check_number,
    check_optional_number,
    check_share,
    check_text,
)
from forge.recipe.item_keys import NAME, UNKNOWN, check_unknown, since

MAX_TASKS = 4096

_PARTS = tuple(layout.entry_parts())  # the fields of an Entry that are ids of blobs; there are several
_identity: Callable[[Entry], tuple[str, ...]] = attrgetter(*_PARTS)


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
    """One contribution in the model: the git blob ids of its three files, and its coefficient c_k.

    tasks: in a task-aware model, its coefficient for each task, by the task's name among the scores. For
    other labels than theirs these are blended by how near the labels are.
    """

    name: str = field(metadata=NAME)
    adapter: str
    config: str
    distilled: str
    coefficient: Coefficient = field(hash=False)
    tasks: Mapping[str, Coefficient] = field(default_factory=dict, hash=False, metadata=since(1))
    unknown: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False, metadata=UNKNOWN)

    def __post_init__(self) -> None:
        check_name(self.name)
        of = f"of contribution {self.name!r}"
        for part in _PARTS:
            check_blob_id(getattr(self, part), f"{part} {of}")
        object.__setattr__(self, "coefficient", check_coefficient(self.coefficient, f"the coefficient {of}"))
        if len(self.tasks) > MAX_TASKS:
            raise ForgeError(f"coefficients {of} for more than {MAX_TASKS} tasks")
        names = sorted([check_text(task, f"a task {of}") for task in self.tasks])
        tasks = {task: check_coefficient(self.tasks[task], f"the coefficient {of} for task {task!r}") for task in names}
        object.__setattr__(self, "tasks", tasks)
        object.__setattr__(self, "unknown", check_unknown(self.unknown, f"contribution {self.name!r}"))


@dataclass(frozen=True)
class Search:
    """The search that found the coefficients (MedForge (2025), Section 3.3), and what it reached.

    `method`, `per` and `objective` say what was searched and for what; `pull` is the strength with which
    coefficients of modules were held near that of their contribution. `scales` holds the two scalars of a
    merge where there were two, by name: w_i as "ours" and w'_i as "theirs". `objective_before` is the value
    for ours kept as it was, None where ours was empty.
    """

    method: str
    per: str
    objective: str
    pull: float
    optimizer: str
    seed: int
    evaluations: int
    start: float
    bounds: float
    l1: float
    scales: Mapping[str, float] = field(hash=False)
    objective_before: float | None
    objective_after: float
    unknown: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False, metadata=UNKNOWN)

    def __post_init__(self) -> None:
        check_choice(self.method, "the search's method", SEARCH_METHODS)
        check_choice(self.per, "the search's per", PER)
        check_choice(self.objective, "the search's objective", OBJECTIVES)
        check_text(self.optimizer, "the search's optimizer")
        check_count(self.seed, "the search's seed")
        check_count(self.evaluations, "the search's evaluations")
        for part in ("pull", "start", "bounds", "l1", "objective_after"):
            object.__setattr__(self, part, check_number(getattr(self, part), f"the search's {part}"))
        before = check_optional_number(self.objective_before, "the search's objective_before")
        object.__setattr__(self, "objective_before", before)
        scales = {
            check_name(name): check_number(scale, f"the search's scale {name!r}")
            for name, scale in sorted(self.scales.items())
        }
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "unknown", check_unknown(self.unknown, "search"))


@dataclass(frozen=True)
class Consolidation:
    """A residual adapter that a few steps on all distilled sets made; it is added to the merged model as it is.

    adapter and config are the ids of the blobs in consolidation/; the contributions stay what they are.
    """

    adapter: str
    config: str
    steps: int
    learning_rate: float
    seed: int
    objective_before: float
    objective_after: float
    unknown: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False, metadata=UNKNOWN)

    def __post_init__(self) -> None:
        for part in layout.consolidation_paths():
            check_blob_id(getattr(self, part), f"{part} of the consolidation")
        check_count(self.steps, "the consolidation's steps", least=1)
        check_count(self.seed, "the consolidation's seed")
        for part in ("learning_rate", "objective_before", "objective_after"):
            object.__setattr__(self, part, check_number(getattr(self, part), f"the consolidation's {part}"))
        object.__setattr__(self, "unknown", check_unknown(self.unknown, "consolidation"))


@dataclass(frozen=True)
class TaskScore:
    """How the model does on the distilled images of one task; `before` is the model it was made from."""

    task: str = field(metadata=NAME)
    labels: tuple[str, ...]
    images: int
    accuracy: float
    cross_entropy: float
    accuracy_before: float | None = None
    cross_entropy_before: float | None = None
    unknown: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False, metadata=UNKNOWN)

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
        object.__setattr__(self, "unknown", check_unknown(self.unknown, f"the score of task {self.task!r}"))


@dataclass(frozen=True)
class OwnScore:
    """How the model does on the distilled images of one contribution; `before` is the model it was made from."""

    name: str = field(metadata=NAME)
    images: int
    accuracy: float
    cross_entropy: float
    accuracy_before: float | None = None
    cross_entropy_before: float | None = None
    unknown: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False, metadata=UNKNOWN)

    def __post_init__(self) -> None:
        check_name(self.name)
        of = f"of the own score of contribution {self.name!r}"
        check_count(self.images, f"the images {of}")
        for part in ("accuracy", "accuracy_before"):
            value = getattr(self, part)
            object.__setattr__(self, part, None if value is None else check_share(value, f"the {part} {of}"))
        for part in ("cross_entropy", "cross_entropy_before"):
            object.__setattr__(self, part, check_optional_number(getattr(self, part), f"the {part} {of}"))
        if self.accuracy is None or self.cross_entropy is None:
            raise ForgeError(f"the accuracy and cross_entropy {of} must be numbers")
        object.__setattr__(self, "unknown", check_unknown(self.unknown, of.removeprefix("of ")))


@dataclass(frozen=True)
class ForgeItem:
    """The recipe of one model. Contributions are kept sorted by name, scores by task; both are unique.

    own_scores: one for each contribution, sorted by name; none in a recipe of an earlier version. accepted: the
    contributions (tasks, in earlier versions) that went past the gate because a person accepted it.
    """

    base: Base
    strategy: str
    contributions: tuple[Entry, ...] = ()
    search: Search | None = None
    scores: tuple[TaskScore, ...] = ()
    consolidation: Consolidation | None = field(default=None, metadata=since(1))
    accepted: tuple[str, ...] = field(default=(), metadata=since(1))
    own_scores: tuple[OwnScore, ...] = field(default=(), metadata=since(1))
    unknown: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False, metadata=UNKNOWN)

    def __post_init__(self) -> None:
        strategy_named(self.strategy)
        contributions = tuple(sorted(self.contributions, key=lambda entry: entry.name))
        object.__setattr__(self, "contributions", contributions)
        scores = tuple(sorted(self.scores, key=lambda score: score.task))
        object.__setattr__(self, "scores", scores)
        # Two folders whose names differ only in case are one folder on many machines.
        twice = doubled([entry.name.lower() for entry in contributions])
        if twice is not None:
            same = [entry.name for entry in contributions if entry.name.lower() == twice]
            raise ForgeError(f"two contributions have the same name: {' and '.join(same)}")
        twice = doubled([score.task for score in scores])
        if twice is not None:
            raise ForgeError(f"two scores are of the same task: {twice!r}")
        self._check_coefficients()
        if self.consolidation is not None and not contributions:
            raise ForgeError("a consolidation needs contributions: there is nothing that it could be added to")
        own = tuple(sorted(self.own_scores, key=lambda score: score.name))
        object.__setattr__(self, "own_scores", own)
        if own and tuple(score.name for score in own) != self.names:
            raise ForgeError("own scores must be of every contribution, each once")
        accepted = tuple(sorted(check_text(name, "an accepted contribution or task") for name in self.accepted))
        object.__setattr__(self, "accepted", accepted)
        known = {*self.names, *(score.task for score in scores)}
        if doubled(list(accepted)) is not None or not known.issuperset(accepted):
            raise ForgeError("accepted must name contributions or scored tasks, each once")
        object.__setattr__(self, "unknown", check_unknown(self.unknown, "the forge item"))

    def _check_coefficients(self) -> None:
        strategy = strategy_named(self.strategy)
        for entry in self.contributions:
            if not strategy.per_module:
                for coefficient in (entry.coefficient, *entry.tasks.values()):
                    if isinstance(coefficient, Mapping):
                        raise ForgeError(
                            f"contribution {entry.name!r} has one coefficient per module, but the strategy "
                            f"{strategy.name} weighs {strategy.weighs}: it takes one per contribution"
                        )
            if entry.tasks.keys() != self.contributions[0].tasks.keys():
                first = self.contributions[0].name
                raise ForgeError(f"contributions {first!r} and {entry.name!r} have coefficients for different tasks")
            for task in entry.tasks:
                if self.score(task) is None:
                    raise ForgeError(f"contribution {entry.name!r} has coefficients for {task!r}, which has no score")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.contributions)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that a task-aware model has coefficients of their own for, sorted; else none."""
        return tuple(self.contributions[0].tasks) if self.contributions else ()

    def entry(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def score(self, task: str) -> TaskScore | None:
        return self._scores.get(task)

    def own_score(self, name: str) -> OwnScore | None:
        return self._own_scores.get(name)

    # An item of 16 MiB from somewhere may hold tens of thousands: each is looked up by name, not sought.
    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return {entry.name: entry for entry in self.contributions}

    @cached_property
    def _own_scores(self) -> dict[str, OwnScore]:
        return {score.name: score for score in self.own_scores}

    @cached_property
    def _scores(self) -> dict[str, TaskScore]:
        return {score.task: score for score in self.scores}


def empty(base: Base, strategy: str) -> ForgeItem:
    """The forge item of a model without contributions: the base itself."""
    return ForgeItem(base=base, strategy=strategy)


def doubled_payloads(entries: Collection[Entry]) -> list[str]:
    """Where contributions have one adapter or one distilled dataset under several names, one line each.

    Under two names it would count twice, in the merged model and in how that is judged.
    """
    problems = []
    for row in layout.rows_in(layout.CONTRIBUTIONS):
        if not (row.is_payload and row.part):
            continue
        names: dict[str, list[str]] = {}
        for entry in entries:
            names.setdefault(getattr(entry, row.part), []).append(entry.name)
        for same in sorted(sorted(each) for each in names.values() if len(each) > 1):
            problems.append(under_several_names(row.title, same))
    return problems


def under_several_names(what: str, names: Sequence[str]) -> str:
    """That one payload has several names; of many, the first four."""
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"the same {what} under several names: {shown}"


def identity(entry: Entry) -> tuple[str, ...]:
    """What makes a contribution the one it is: the blobs, not the coefficient that a merge gave it."""
    return _identity(entry)


def check_modules(name: str, coefficient: Coefficient, modules: Collection[str]) -> None:
    """Raise ForgeError where a contribution's coefficient is per module, but not for the adapter's `modules`."""
    if isinstance(coefficient, Mapping) and coefficient.keys() != set(modules):
        odd = sorted(coefficient.keys() ^ set(modules))[0]
        what = "has no coefficient for" if odd in modules else "has a coefficient for a module that the adapter lacks:"
        raise ForgeError(
            f"the forge item, contribution {name!r}: {what} {odd!r}", hint="make it again with `git forge commit`"
        )
