"""The rows of the tables: every way to make one model, or one per task, out of what an experiment has.

A method is a value: what it is called, what kind of thing it is, and how it is made. `experiment` makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import permutations

from examples.paper.baselines import PEFT_COMBINATIONS
from forge.errors import ForgeError
from forge.recipe.catalogue import (
    CROSS_ENTROPY,
    DISTILLATION,
    JOINT,
    OBJECTIVE_CHOICES,
    OBJECTIVES,
    PER,
    PER_CONTRIBUTION,
    PER_MODULE,
    SEARCH_METHODS,
    SHIWA,
    STRATEGIES,
    search_method_named,
    strategy_named,
)

ONE_MODEL = tuple(sorted(name for name, strategy in STRATEGIES.items() if strategy.one_model))
CONSOLIDATION = 40  # steps
MOST_ORDERS = 6  # of merging: all there are for three participants

# The rows of a run that names none: everything that the tables compare. All that there is takes days: --rows '*'.
MAIN_ROWS = (
    "[!fm]*",  # references and baselines
    "mean",
    "*-shiwa-contribution-cross-entropy",  # the paper's own settings
    "mixture-exact-module-distillation",
    "fusion-joint-*-distillation",
    "mixture-joint-*-distillation",
    "mixture-joint-module-cross-entropy",
    "mixture-joint-module-distillation-consolidated",
    "mixture-output-joint-contribution-*n",
    "*-joint-module-distillation-task-aware",
    "mixture-output-joint-contribution-distillation-task-aware",
)


@dataclass(frozen=True)
class Reference:
    """Not a merge. kind: "zero-shot", "single" (an adapter alone), "distilled" (a fresh adapter trained on a
    distilled set alone) or "pooled" (one adapter trained on all raw images).
    """

    kind: str


@dataclass(frozen=True)
class Combination:
    """A rule without data: "soup", "mean", "sum" (of the dW), or one of PEFT's with every weight `weight`.

    weight: "mean" (1/n) or "one"; density: of ties and dare.
    """

    kind: str
    weight: str = "mean"
    density: float = 0.5


@dataclass(frozen=True)
class LoraHub:
    """All coefficients of a Fusion searched at once, scored on "raw" (a share of everybody's images) or "distilled"."""

    images: str


@dataclass(frozen=True)
class Merge:
    """git forge's merge: one contribution after the other, coefficients searched on the distilled sets."""

    strategy: str
    method: str
    per: str
    objective: str
    task_aware: bool = False

    @property
    def sequential(self) -> bool:
        """Whether the order of merging can matter: a joint search sees all contributions at once."""
        return not search_method_named(self.method).order_independent


@dataclass(frozen=True)
class Consolidated:
    """A merge and on top of it a short training of the merged model, as `git forge commit --consolidate STEPS`."""

    merge: Merge
    steps: int


How = Reference | Combination | LoraHub | Merge | Consolidated


@dataclass(frozen=True)
class Method:
    """One row. `group`: "reference" (needs raw data or is one model per task), "baseline" (no raw data needed),
    "raw" (merges, but looks at raw data), "paper" (the paper's own settings), "merged", "consolidated" or
    "task-aware".
    """

    name: str
    title: str
    group: str
    how: How

    @property
    def merged(self) -> bool:
        """One model for all tasks, made by git forge's merge without any raw data."""
        return self.group in ("paper", "merged")


def _references() -> list[Method]:
    return [
        Method("zero-shot", "Base, zero-shot", "reference", Reference("zero-shot")),
        Method("single", "Single-task adapter (upper bound)", "reference", Reference("single")),
        Method("pooled", "One adapter on all raw data", "reference", Reference("pooled")),
        Method("distilled", "Distilled data only", "reference", Reference("distilled")),
    ]


def _baselines() -> list[Method]:
    rows = [
        Method("soup", "ModelSoup (mean A, mean B)", "baseline", Combination("soup")),
        Method("mean", "Mean of dW", "baseline", Combination("mean")),
        Method("sum", "Sum of dW", "baseline", Combination("sum", "one")),
        Method("lorahub-raw", "LoRAHub, 10% of the raw data", "raw", LoraHub("raw")),
        Method("lorahub", "LoRAHub, distilled data", "baseline", LoraHub("distilled")),
    ]
    for kind in PEFT_COMBINATIONS:
        # cat concatenates the factors, so that dW is the sum of the dW exactly; svd is its truncation.
        for weight in ("mean", "one"):
            title = f"PEFT {kind}, weights {'1/n' if weight == 'mean' else '1'}"
            rows.append(Method(f"peft-{kind}-{weight}", title, "baseline", Combination(f"peft-{kind}", weight)))
    return rows


def merge_method(strategy: str, method: str, per: str, objective: str, task_aware: bool = False) -> Method:
    """The row of a merge."""
    how = Merge(strategy, method, per, objective, task_aware)
    paper = how == Merge(strategy, SHIWA.name, PER_CONTRIBUTION.name, CROSS_ENTROPY.name)
    group = "task-aware" if task_aware else "paper" if paper else "merged"
    shown = strategy_named(strategy).title
    title = f"{shown}, {method}, per {per}, {objective}{', task-aware' if task_aware else ''}"
    if paper:
        title = f"{shown}, the paper's settings"
    return Method("-".join((strategy, method, per, objective, *(["task-aware"] * task_aware))), title, group, how)


def _merges() -> list[Method]:
    return [
        merge_method(strategy, method, per, objective)
        for strategy in sorted(STRATEGIES)
        for method in SEARCH_METHODS
        for per in PER
        for objective in OBJECTIVE_CHOICES
        if has_meaning(strategy, method, per)
    ]


def has_meaning(strategy: str, method: str, per: str) -> bool:
    """Whether git forge has such a merge: the paper's two scalars, and weights of whole models, are not per module."""
    return not PER[per].by_module or (STRATEGIES[strategy].per_module and SEARCH_METHODS[method].per_module)


def _task_aware() -> list[Method]:
    return [
        merge_method(strategy, JOINT.name, per, objective, task_aware=True)
        for strategy in sorted(STRATEGIES)
        for per in PER
        for objective in OBJECTIVES
        if has_meaning(strategy, JOINT.name, per)
    ]


def _consolidated() -> list[Method]:
    rows = []
    for strategy in ONE_MODEL:
        merged = merge_method(strategy, JOINT.name, PER_MODULE.name, DISTILLATION.name)
        assert isinstance(merged.how, Merge)
        title = f"{merged.title}, then {CONSOLIDATION} steps of consolidation"
        rows.append(
            Method(f"{merged.name}-consolidated", title, "consolidated", Consolidated(merged.how, CONSOLIDATION))
        )
    return rows


METHODS: dict[str, Method] = {
    each.name: each for each in (*_references(), *_baselines(), *_merges(), *_consolidated(), *_task_aware())
}  # fmt: skip

# The merges that Tables 3 (distillation) and 4 (DoRA) repeat: the paper's own settings and the richest ones.
REPEATED = tuple(
    METHODS[f"{strategy}-{settings}"]
    for strategy in ONE_MODEL
    for settings in ("shiwa-contribution-cross-entropy", "joint-module-distillation")
)
DISTILLATION_ROWS = (METHODS["distilled"], *REPEATED)
DORA_ROWS = (
    METHODS["single"],
    METHODS["distilled"],
    METHODS["lorahub"],
    METHODS["lorahub-raw"],
    METHODS["soup"],
    *REPEATED,
)


def matching(patterns: Sequence[str], methods: Sequence[Method] = ()) -> list[Method]:
    """The methods whose names match one of the shell-like patterns; all of them without patterns."""
    among = list(methods) or list(METHODS.values())
    chosen = [each for each in among if not patterns or any(fnmatchcase(each.name, p) for p in patterns)]
    if not chosen and not methods:
        raise ForgeError(
            f"no method is called {' or '.join(map(repr, patterns))}", hint=f"the methods are {', '.join(METHODS)}"
        )
    return chosen


def orders_of(names: Sequence[str], most: int = MOST_ORDERS) -> list[tuple[str, ...]]:
    """Orders of merging, at most `most`; the first is the given one, and the second its reverse.

    All orders where that is not more than `most`; else rotations of the given order and of its reverse in turn, so
    that everyone comes first and last as evenly as can be.
    """
    forward, backward = tuple(names), tuple(reversed(names))
    chosen = [forward, *([backward] if len(names) > 1 else [])]
    everyone = list(permutations(names)) if len(names) <= 4 else []
    if not everyone or len(everyone) > most:
        everyone = [
            order[shift:] + order[:shift] for shift in range(1, len(names)) for order in (forward, backward)
        ]  # fmt: skip
    chosen += [order for order in everyone if order not in chosen]
    return chosen[:most]
