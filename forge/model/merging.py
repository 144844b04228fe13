"""Finding the coefficients of a merge on the distilled images of the contributions that take part.

What is weighed is the two sides of a merge, as in the paper (MedForge (2025), section 3.3), or every contribution anew,
all at once, so that the order of merging cannot matter. The searches are in forge/model/searches, the models whose loss
they look at in forge/model/strategies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.model.adapters import Adapter
from forge.model.aims import Aim, label_aims, places_in_class, teacher_aims
from forge.model.base import BaseModel
from forge.model.composing import Coefficient, of_module
from forge.model.objectives import Objective, module_names
from forge.model.scoring import TaskImages
from forge.model.searches import solve
from forge.model.searches.problem import Advance, Problem, Solution, objective_at
from forge.model.strategies import implementation_of
from forge.recipe.catalogue import (
    CROSS_ENTROPY,
    DISTILLATION,
    HELD_OUT,
    OBJECTIVES,
    check_combination,
    look_up,
    strategy_named,
)
from forge.recipe.settings import SearchSettings
from forge.text import same_labels, same_text

PULLS = (0.03, 0.01, 0.003)  # what hold-out chooses from
# Of all members together: what a search looks at, so that the cost of a merge is bounded. Every member has its part in
# it, at least one image a class.
MOST_IMAGES = 600


@dataclass(frozen=True)
class Member:
    """A contribution in a merge: `coefficient` is c_k before it (1.0 when new), `images` its own distilled dataset."""

    name: str
    adapter: Adapter
    coefficient: Coefficient
    side: str  # "ours" or "theirs"
    images: TaskImages


@dataclass(frozen=True)
class Merged:
    """Coefficients by member. `by_task` [task][member] only where the recipe is task-aware.

    `scales` holds w ("ours") and w' ("theirs") where two scalars were searched. `settings` are those of the search,
    with the objective and pull that hold-out chose. The objective before is that of ours kept as it was.
    """

    coefficients: Mapping[str, Coefficient]
    by_task: Mapping[str, Mapping[str, Coefficient]]
    scales: Mapping[str, float]
    settings: SearchSettings
    objective_before: float
    objective_after: float


def merge_members(
    base: BaseModel,
    strategy: str,
    members: Sequence[Member],
    settings: SearchSettings,
    *,
    task_aware: bool = False,
    advance: Advance = lambda best: None,
) -> Merged:
    """Coefficients for `members` under `strategy`, found on their distilled images alone.

    Members with the same labels are one task. The search looks at MOST_IMAGES of their images at most. "Keep ours as it
    is" is a candidate where main and an incoming contribution are weighed as two sides. With `task_aware`, every task
    also gets coefficients of its own, found on its images alone. The same inputs give the same result. `advance` is
    told the best objective after every evaluation. Raises ForgeError for a search that the strategy has no meaning
    for, and where no score is finite.
    """
    check_combination(strategy, settings.method, settings.per)
    # Rounding depends on the order of a sum: in one order of their own, the same members give the same coefficients.
    members = some_images(sorted(members, key=lambda member: member.name), MOST_IMAGES)
    if HELD_OUT in (settings.objective, settings.pull):
        settings = choose_by_hold_out(base, strategy, members, settings, advance)
    problem = make_problem(base, strategy, members, settings)
    solution = solve(problem, settings, advance)
    by_task: dict[str, Mapping[str, Coefficient]] = {}
    if task_aware:
        for task in pooled_tasks([member.images for member in members]):
            alone = make_problem(base, strategy, members, settings, only=task)
            by_task[task.task] = _by_member(alone, members, solve(alone, settings, advance))
    two_sides = not settings.order_independent and not settings.per_module
    scales = dict(zip(_sides(members), solution.scales[:, 0].tolist(), strict=True)) if two_sides else {}
    ours = torch.tensor([1.0 if side == "ours" else 0.0 for side in _sides(members)], dtype=torch.float64)
    kept = weigh(problem.objective, strategy, members, by_side=True)
    return Merged(
        coefficients=_by_member(problem, members, solution),
        by_task=by_task,
        scales=scales,
        settings=settings,
        objective_before=objective_at(kept, ours, settings.l1),
        objective_after=solution.objective,
    )


def make_problem(
    base: BaseModel,
    strategy: str,
    members: Sequence[Member],
    settings: SearchSettings,
    *,
    only: TaskImages | None = None,
) -> Problem:
    """The search of these members; with `only`, on the images of that task alone."""
    aims = _aims(base, members, settings.objective, only)
    objective = implementation_of(strategy).objective(base, [member.adapter for member in members], aims)
    problem = weigh(objective, strategy, members, by_side=not settings.order_independent)
    return problem if only is None else replace(problem, keep_ours=None)


def weigh(objective: Objective, strategy: str, members: Sequence[Member], *, by_side: bool) -> Problem:
    """The search of the two sides of a merge, or of every contribution anew."""
    facts = strategy_named(strategy)
    columns = module_names([member.adapter for member in members]) if facts.per_module else [""]
    before = torch.tensor(
        [[float(of_module(member.coefficient, name)) if by_side else 1.0 for name in columns] for member in members]
    )
    sides = _sides(members)
    units = [sides.index(member.side) for member in members] if by_side else list(range(len(members)))
    keep = None
    if by_side and "ours" in sides:
        keep = torch.tensor([1.0 if side == "ours" else 0.0 for side in sides], dtype=torch.float64)
    return Problem(objective, torch.tensor(units), before, keep, facts.relative)


def choose_by_hold_out(
    base: BaseModel, strategy: str, members: Sequence[Member], settings: SearchSettings, advance: Advance
) -> SearchSettings:
    """Objective and pull by two-fold hold-out on the distilled images: no raw image is needed.

    Every other image of a class is held out in turn; what counts is the cross-entropy on the labels of those.
    Raises ForgeError for a distilled set of one image per class, which leaves none to hold out.
    """
    objectives = tuple(OBJECTIVES) if settings.objective == HELD_OUT else (settings.objective,)
    pulls = (settings.pull,) if settings.pull != HELD_OUT else PULLS if settings.per_module else (0.0,)
    candidates = [replace(settings, objective=one, pull=pull) for one in objectives for pull in pulls]
    if len(candidates) == 1:
        return candidates[0]
    for member in members:
        if not len(_fold(member.images, 1).targets):
            raise ForgeError(
                f"{member.name} has one distilled image per class, so none can be held out",
                hint="distil more images per class, or set objective and pull in [search] of forge.toml",
            )
    losses = [0.0] * len(candidates)
    for fold in (0, 1):
        seen = [replace(member, images=_fold(member.images, fold)) for member in members]
        unseen = [replace(member, images=_fold(member.images, 1 - fold)) for member in members]
        judge = make_problem(base, strategy, unseen, replace(settings, objective=CROSS_ENTROPY.name))
        for number, candidate in enumerate(candidates):
            problem = make_problem(base, strategy, seen, candidate)
            scales = solve(problem, candidate, advance).scales
            loss = judge.objective.value(judge.coefficients(scales))
            losses[number] += loss if math.isfinite(loss) else math.inf  # NaN compares with nothing
    return candidates[losses.index(min(losses))]


@dataclass(frozen=True)
class Pool:
    """Distilled datasets with the same labels, as one task: `parts` names whose images stand where in it."""

    task: TaskImages
    parts: Mapping[str, slice]


def pooled(images: Mapping[str, TaskImages]) -> list[Pool]:
    """Distilled datasets by name as tasks: those with the same labels, in whatever order, are one; sorted by task."""
    grouped: dict[tuple[str, ...], list[str]] = {}
    for name, part in images.items():
        grouped.setdefault(same_labels(part.labels), []).append(name)
    pools: dict[str, Pool] = {}
    for names in grouped.values():
        parts = [images[name] for name in names]
        first = parts[0]
        task = first.task
        while task in pools:  # the same name for other labels: both are kept apart
            task += "+"
        places = {same_text(label): place for place, label in enumerate(first.labels)}
        places |= {label: place for place, label in enumerate(first.labels)}
        aligned = [
            torch.tensor([places.get(label, places[same_text(label)]) for label in part.labels]) for part in parts
        ]
        targets = [order.to(part.targets.device)[part.targets] for order, part in zip(aligned, parts, strict=True)]
        ends = list(accumulate(len(part.targets) for part in parts))
        where = {name: slice(end - len(part.targets), end) for name, part, end in zip(names, parts, ends, strict=True)}
        whole = TaskImages(task, first.labels, torch.cat([part.pixels for part in parts]), torch.cat(targets))
        pools[task] = Pool(whole, where)
    return [pools[task] for task in sorted(pools)]


def pooled_tasks(images: Sequence[TaskImages]) -> list[TaskImages]:
    """As `pooled`, the tasks alone."""
    return [pool.task for pool in pooled({str(number): part for number, part in enumerate(images)})]


def _aims(base: BaseModel, members: Sequence[Member], objective: str, only: TaskImages | None) -> list[Aim]:
    return look_up(AIMS, objective, "objective")(base, members, only)


def _label_aims(base: BaseModel, members: Sequence[Member], only: TaskImages | None) -> list[Aim]:
    return label_aims([only] if only is not None else pooled_tasks([member.images for member in members]))


def _teacher_aims(base: BaseModel, members: Sequence[Member], only: TaskImages | None) -> list[Aim]:
    labels = None if only is None else same_labels(only.labels)
    chosen = [member for member in members if labels is None or same_labels(member.images.labels) == labels]
    # The coefficients of one contributor's own task can do what it does: its labels would only pull them away.
    label_share = 0.0 if only is not None and len(chosen) == 1 else None
    return teacher_aims(base, [(member.adapter, member.images) for member in chosen], label_share)


# What each objective of the catalogue wants of a model of the members; of one task alone, where that is given.
AIMS: dict[str, Callable[[BaseModel, Sequence[Member], TaskImages | None], list[Aim]]] = {
    CROSS_ENTROPY.name: _label_aims,
    DISTILLATION.name: _teacher_aims,
}


def _sides(members: Sequence[Member]) -> list[str]:
    sides = {member.side for member in members}
    return [side for side in ("ours", "theirs") if side in sides]


def _by_member(problem: Problem, members: Sequence[Member], solution: Solution) -> dict[str, Coefficient]:
    """Final coefficients, rounded to the 6 decimals that a recipe records."""
    rows: Tensor = problem.coefficients(solution.scales)
    columns = module_names([member.adapter for member in members])
    coefficients: dict[str, Coefficient] = {}
    for member, row in zip(members, rows.double().tolist(), strict=True):
        if len(set(row)) == 1:
            coefficients[member.name] = round(row[0], 6) + 0.0
        else:
            values = dict(zip(columns, row, strict=True))
            coefficients[member.name] = {name: round(values[name], 6) + 0.0 for name in sorted(member.adapter)}
    return coefficients


def some_images(members: Sequence[Member], most: int) -> list[Member]:
    """The members with about `most` images together: equal parts of each, spread evenly over each class of its own."""
    if sum(len(member.images.targets) for member in members) <= most:
        return list(members)
    each = most / len(members)
    return [replace(member, images=_spread(member.images, each / len(member.images.labels))) for member in members]


def _spread(images: TaskImages, a_class: float) -> TaskImages:
    """So many images of each class, one at least, as far apart in their order as can be."""
    keep = []
    for label in range(len(images.labels)):
        there = torch.nonzero(images.targets.cpu() == label).flatten()
        count = min(len(there), max(1, int(a_class)))
        keep += [int(there[(2 * number + 1) * len(there) // (2 * count)]) for number in range(count)]
    return _only(images, torch.tensor(sorted(keep)))


def _fold(images: TaskImages, fold: int) -> TaskImages:
    """Every other image of each class."""
    return _only(images, torch.nonzero(places_in_class(images.targets) % 2 == fold).flatten())


def _only(images: TaskImages, index: Tensor) -> TaskImages:
    return replace(
        images,
        pixels=images.pixels[index.to(images.pixels.device)],
        targets=images.targets[index.to(images.targets.device)],
    )
