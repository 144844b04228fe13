"""Folding contributions into a recipe: plan, search coefficients on the distilled sets, record what was found.

`git forge commit` and the merge driver both end here. A fold is a function of the plan, the blobs it names
and the search settings; it touches neither index nor work tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from forge.console import progress
from forge.operations.bases import load_repository_base
from forge.operations.loading import (
    ReadBlobs,
    compose_model,
    load_adapters,
    load_distilled_sets,
    load_residual,
)
from forge.repo.checks import Coefficient
from forge.repo.git import Repository
from forge.repo.recipe import Entry, ForgeItem, Search, TaskScore, empty
from forge.repo.settings import HELD_OUT, SearchSettings, Settings
from forge.repo.three_way import MergePlan, combine, entries_with

if TYPE_CHECKING:
    from forge.model.adapters import Adapter
    from forge.model.base import BaseModel
    from forge.model.merging import MergeSettings
    from forge.model.scoring import Score, TaskImages


def fold(
    repo: Repository,
    plan: MergePlan,
    before: ForgeItem,
    settings: Settings,
    read: ReadBlobs,
    *,
    compared_with: ForgeItem | None = None,
    again: bool = False,
) -> ForgeItem:
    """The forge item of a merge or commit: `plan` with coefficients, on top of `before` (ours).

    What the recipe records as "before" is the model of `compared_with`, which is `before` itself if not given.

    Coefficients are searched as settings.search says, on the distilled sets of all contributions (MedForge
    (2025), section 3.3). Where there is nothing to weigh, nothing is searched: a model that joins the bare base
    keeps its coefficients (1 for a first contribution), and a plan that changes nothing gives `before`, unless
    it is to be searched `again` because the settings changed. With the method "joint" the coefficients
    depend on the contributions alone, never on what was merged before: a lone contribution has 1.
    """
    unchanged = (plan.base, plan.strategy, plan.ours) == (before.base, before.strategy, before.contributions)
    if unchanged and not plan.theirs and not again:
        return before
    if not plan.ours and not plan.theirs:
        return empty(plan.base, plan.strategy)

    from forge.model.merging import pooled_tasks

    base = load_repository_base(repo, plan.base)
    plan = _fitting(plan)
    entries = [*plan.ours, *plan.theirs]
    adapters = load_adapters(base, entries, read)
    images = load_distilled_sets(base, entries, read, settings.limits)
    tasks = pooled_tasks(list(images.values()))
    scores_before = _scores_before(base, compared_with or before, tasks, read)
    joint = settings.search.method == "joint"
    # Where ours is the bare base, theirs is a whole model already: there is nothing to weigh it against.
    if len(entries) > 1 if joint else before.contributions:
        weighed, search = _search(base, plan, settings, adapters, images)
        if not before.contributions:
            search = replace(search, objective_before=None)
    else:
        weighed, search = _unweighed(plan, tasks, joint), None
    scores = _score(base, plan.strategy, weighed, adapters, tasks)
    return ForgeItem(
        base=plan.base,
        strategy=plan.strategy,
        contributions=weighed,
        search=search,
        scores=tuple(_task_score(*row) for row in zip(tasks, scores, scores_before, strict=True)),
    )


def score_item(repo: Repository, item: ForgeItem, settings: Settings, read: ReadBlobs) -> tuple[TaskScore, ...]:
    """The scores of a recipe on its own distilled sets, computed anew (`git forge verify`)."""
    if not item.contributions:
        return ()

    from forge.model.merging import pooled_tasks

    base = load_repository_base(repo, item.base)
    adapters = load_adapters(base, item.contributions, read)
    tasks = pooled_tasks(list(load_distilled_sets(base, item.contributions, read, settings.limits).values()))
    residual = load_residual(base, item, read)
    scores = _score(base, item.strategy, item.contributions, adapters, tasks, residual=residual)
    return tuple(_task_score(task, score, None) for task, score in zip(tasks, scores, strict=True))


def merge_settings(settings: SearchSettings, strategy: str) -> MergeSettings:
    """forge.toml's [search] as the model side takes it, for a strategy."""
    from forge.model import search
    from forge.model.merging import MergeSettings

    return MergeSettings(
        method=settings.method,
        # A branch that brings the strategy mixture-output may merge into one whose settings are still others.
        per="contribution" if strategy == "mixture-output" else settings.per,
        objective=settings.objective,
        pull=None if settings.pull == HELD_OUT else float(settings.pull),
        search=search.SearchSettings(
            optimizer=settings.optimizer,
            evaluations=settings.evaluations,
            start=settings.start,
            bounds=settings.bounds,
            l1=settings.l1,
            seed=settings.seed,
        ),
    )


def _search(
    base: BaseModel,
    plan: MergePlan,
    settings: Settings,
    adapters: Mapping[str, Adapter],
    images: Mapping[str, TaskImages],
) -> tuple[tuple[Entry, ...], Search]:
    from forge.model.merging import Member, merge_members

    sides = [("ours", entry) for entry in plan.ours] + [("theirs", entry) for entry in plan.theirs]
    members = [
        Member(entry.name, adapters[entry.name], entry.coefficient, side, images[entry.name])
        for side, entry in sorted(sides, key=lambda pair: pair[1].name)  # whichever side: the same order
    ]
    wanted = merge_settings(settings.search, plan.strategy)
    with progress("searching coefficients") as advance:
        found = merge_members(
            base,
            plan.strategy,
            members,
            wanted,
            task_aware=settings.task_aware,
            advance=lambda best: advance(objective=best),
        )
    search = Search(
        method=wanted.method,
        per=wanted.per,
        objective=found.objective,
        pull=found.pull,
        optimizer=wanted.search.optimizer,
        seed=wanted.search.seed,
        evaluations=wanted.search.evaluations,
        start=wanted.search.start,
        bounds=wanted.search.bounds,
        l1=wanted.search.l1,
        scales=found.scales,
        objective_before=found.objective_before,
        objective_after=found.objective_after,
    )
    coefficients = found.coefficients
    if search.scales:  # as recorded, so that who reads the recipe can follow it
        scaled = combine(plan, search.scales.get("ours", 1.0), search.scales.get("theirs", 1.0))
        coefficients = {entry.name: entry.coefficient for entry in scaled}
    return entries_with(plan, coefficients, found.by_task), search


def _unweighed(plan: MergePlan, tasks: Sequence[TaskImages], joint: bool) -> tuple[Entry, ...]:
    """The contributions of a plan that needs no search: as they are, less what they have for other tasks."""
    known = {task.task for task in tasks}
    entries = [replace(e, tasks={t: c for t, c in e.tasks.items() if t in known}) for e in (*plan.ours, *plan.theirs)]
    return tuple(replace(entry, coefficient=1.0, tasks={}) for entry in entries) if joint else tuple(entries)


def _fitting(plan: MergePlan) -> MergePlan:
    """A plan whose coefficients the strategy can take: mixture-output has one of at least 0 per contribution."""
    if plan.strategy != "mixture-output":
        return plan

    def plain(coefficient: Coefficient) -> float:
        each = list(coefficient.values()) if isinstance(coefficient, Mapping) else [coefficient]
        return max(0.0, sum(each) / len(each))

    def fitted(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        return tuple(
            replace(e, coefficient=plain(e.coefficient), tasks={task: plain(c) for task, c in e.tasks.items()})
            for e in entries
        )

    return replace(plan, ours=fitted(plan.ours), theirs=fitted(plan.theirs))


def _score(
    base: BaseModel,
    strategy: str,
    entries: Sequence[Entry],
    adapters: Mapping[str, Adapter],
    tasks: Sequence[TaskImages],
    labels: Mapping[str, tuple[str, ...]] | None = None,
    residual: Adapter | None = None,
) -> list[Score]:
    """Scores of a recipe on `tasks`; `labels` by task where the recipe's own tasks are others than these."""
    from forge.model.scoring import score_tasks

    known = {task.task: task.labels for task in tasks} if labels is None else labels
    return score_tasks(base, compose_model(base, strategy, entries, adapters, known, residual), tasks)


def _scores_before(base: BaseModel, before: ForgeItem, tasks: Sequence[TaskImages], read: ReadBlobs) -> list[Score]:
    """How the model that this one is made from does on all tasks at hand; an empty one is the base itself."""
    if before.base.fingerprint != base.fingerprint:
        before = empty(before.base, before.strategy)  # its adapters belong to another base
    adapters = load_adapters(base, before.contributions, read)  # of before: the plan may have replaced some
    labels = {score.task: score.labels for score in before.scores}
    residual = load_residual(base, before, read)
    return _score(base, before.strategy, before.contributions, adapters, tasks, labels, residual)


def _task_score(task: TaskImages, after: Score, before: Score | None) -> TaskScore:
    return TaskScore(
        task=task.task,
        labels=task.labels,
        images=len(task.targets),
        accuracy=after.accuracy,
        cross_entropy=after.cross_entropy,
        accuracy_before=None if before is None else before.accuracy,
        cross_entropy_before=None if before is None else before.cross_entropy,
    )
