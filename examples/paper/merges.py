"""Merging an experiment's contributions one after the other, as `git merge` would; every merge kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from examples.paper.kept import keep
from examples.paper.methods import Merge
from examples.paper.scenarios import images_digest
from forge.console import progress
from forge.model.adapters import Adapter, adapter_digest, plain_delta, read_adapter
from forge.model.base import BaseModel
from forge.model.composing import Coefficient, Model, Parts, summed
from forge.model.consolidating import consolidate
from forge.model.merging import Member, merge_members, pooled_tasks
from forge.model.scoring import TaskImages
from forge.model.strategies import compose
from forge.recipe.catalogue import HELD_OUT, OBJECTIVES
from forge.recipe.settings import SearchSettings
from forge.text import same_labels

Coefficients = Mapping[str, Coefficient]


@dataclass(frozen=True)
class Contribution:
    """What a contributor pushes: its adapter and its distilled images."""

    name: str
    adapter: Adapter
    images: TaskImages


@dataclass(frozen=True)
class MergedModel:
    """The model after the last merge, and the notes of that merge (coefficients, objectives, pull)."""

    model: Model
    notes: Mapping[str, Any]


def settings_of(merge: Merge, search: SearchSettings) -> SearchSettings:
    """git forge's settings of a merge; strength and objective are chosen by hold-out together, or neither is."""
    pull = HELD_OUT if merge.objective == HELD_OUT else OBJECTIVES[merge.objective].pull
    return replace(search, method=merge.method, per=merge.per, objective=merge.objective, pull=pull)


def merge_in_order(
    folder: Path, base: BaseModel, contributions: Sequence[Contribution], merge: Merge, search: SearchSettings
) -> MergedModel:
    """The model after merging the contributions in this order.

    The first is taken at coefficient 1, as in an empty repository; each later one is merged into what is there,
    which a recipe lists by name.
    """
    settings = settings_of(merge, search)
    coefficients: Coefficients = {contributions[0].name: 1.0}
    notes: Mapping[str, Any] = {"coefficients": coefficients, "by_task": {}}
    # A joint search weighs everybody anew, so what the merges before the last one found is of no use to it.
    first = 2 if merge.sequential else len(contributions)
    for count in range(first, len(contributions) + 1):
        present = contributions[:count]
        members = [
            Member(each.name, each.adapter, coefficients.get(each.name, 1.0), "ours", each.images)
            for each in sorted(present[:-1], key=lambda each: each.name)
        ]
        members.append(Member(present[-1].name, present[-1].adapter, 1.0, "theirs", present[-1].images))
        notes = _kept_merge(folder, base, merge, settings, members)
        coefficients = notes["coefficients"]
    return MergedModel(_model(merge.strategy, contributions, notes), notes)


def consolidated(
    base: BaseModel,
    merged: MergedModel,
    contributions: Sequence[Contribution],
    steps: int,
    advance: Callable[[], None],
) -> tuple[Parts, Mapping[str, float]]:
    """A merged model with a consolidation of its shared part on top, and the objective before and after it."""
    ((delta, weight),) = merged.model.shared
    by_name = sorted(contributions, key=lambda each: each.name)
    members = [Member(each.name, each.adapter, 1.0, "ours", each.images) for each in by_name]
    residual = consolidate(base, delta, members, steps=steps, advance=advance)
    added = plain_delta(read_adapter(residual.config, residual.tensors, base.tower, source="the consolidation"))
    notes = {"consolidation_before": residual.objective_before, "consolidation_after": residual.objective_after}
    return ((summed(delta, added), weight),), notes


def merge_inputs(contributions: Sequence[Contribution], merge: Merge, search: SearchSettings) -> list[object]:
    """Everything that the model after merging in this order follows from."""
    made_from = [[each.name, adapter_digest(each.adapter), images_digest(each.images)] for each in contributions]
    return [asdict(merge), asdict(settings_of(merge, search)), made_from]


def _kept_merge(
    folder: Path, base: BaseModel, merge: Merge, settings: SearchSettings, members: Sequence[Member]
) -> Mapping[str, Any]:
    made_from = [
        [each.name, each.side, each.coefficient, adapter_digest(each.adapter), images_digest(each.images)]
        for each in members
    ]

    def make() -> tuple[dict[str, Any], Mapping[str, Any]]:
        with progress(f"merging {members[-1].name} by {merge.strategy}, {merge.method}") as advance:
            merged = merge_members(
                base,
                merge.strategy,
                members,
                settings,
                task_aware=merge.task_aware,
                advance=lambda best: advance(1, objective=best),
            )
        # The result names tasks; which of its coefficients an image gets depends on the labels asked for.
        labels = {task.task: list(task.labels) for task in pooled_tasks([each.images for each in members])}
        chosen = {"objective": merged.settings.objective, "pull": merged.settings.pull}
        return {}, {**asdict(merged), **chosen, "labels": labels}

    inputs = [base.fingerprint, asdict(merge), asdict(settings), made_from]
    return keep(folder, "merge", inputs, make)[1]


def _model(strategy: str, contributions: Sequence[Contribution], notes: Mapping[str, Any]) -> Model:
    def composed(coefficients: Coefficients) -> Parts:
        by_name = sorted(contributions, key=lambda each: each.name)
        return compose(strategy, [(each.adapter, coefficients.get(each.name, 0.0)) for each in by_name])

    by_labels = {
        same_labels(notes["labels"][task]): composed(coefficients)
        for task, coefficients in notes.get("by_task", {}).items()
    }
    return Model(composed(notes["coefficients"]), by_labels)
