"""Folding contributions into a recipe: plan, search coefficients on the distilled sets, record what was found.

`git forge commit` and the merge driver both end here. A fold is a function of the plan, the blobs it names
and the search settings; it touches neither index nor work tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from forge.console import progress
from forge.errors import ForgeError
from forge.git.running import Repository
from forge.operations.bases import load_repository_base
from forge.operations.judging import Judged, answers, find_contradictions, judge, score_on
from forge.operations.loading import Payloads, compose_model, files_of, load_item
from forge.recipe.catalogue import strategy_named
from forge.recipe.checks import Coefficient
from forge.recipe.gate import Contradiction
from forge.recipe.item import Entry, ForgeItem, OwnScore, Search, empty, identity
from forge.recipe.settings import LimitSettings, Settings
from forge.recipe.three_way import MergePlan, combine, entries_with
from forge.recipe.wording import mean

if TYPE_CHECKING:
    from forge.model.adapters import Adapter
    from forge.model.base import BaseModel
    from forge.model.scoring import TaskImages


@dataclass(frozen=True)
class Folded:
    """What a fold gives: the forge item, and what its gate has to know besides.

    replaced: how the models before and after do on distilled images in whose place others have come. contradictions:
    newcomers whose labels mean something else than the others'.
    """

    item: ForgeItem
    replaced: tuple[OwnScore, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()


def fold(
    repo: Repository,
    plan: MergePlan,
    before: ForgeItem,
    settings: Settings,
    payloads: Payloads,
    *,
    compared_with: ForgeItem | None = None,
    again: bool = False,
) -> Folded:
    """The forge item of a merge or commit: `plan` with coefficients, on top of `before` (ours).

    What the recipe records as "before" is the model of `compared_with`, which is `before` itself if not given.

    Coefficients are searched as settings.search says, on the distilled sets of all contributions (MedForge
    (2025), section 3.3). Where there is nothing to weigh, nothing is searched: a model that joins the bare base
    keeps its coefficients (1 for a first contribution), and a plan that changes nothing gives `before`, unless
    it is to be searched `again` because the settings changed. In a search that is order-independent the
    coefficients depend on the contributions alone, never on what was merged before: a lone contribution has 1.
    """
    unchanged = (plan.base, plan.strategy, plan.ours) == (before.base, before.strategy, before.contributions)
    if unchanged and not plan.theirs and not again:
        return Folded(before)
    if not plan.ours and not plan.theirs:
        return Folded(empty(plan.base, plan.strategy))
    plan = _fitting(plan)
    entries = [*plan.ours, *plan.theirs]
    refuse_too_many(len(entries), settings.limits)

    from forge.model.merging import pooled

    base = load_repository_base(repo, plan.base)
    known = compared_with or before
    if known.base.fingerprint != base.fingerprint:
        known = empty(known.base, known.strategy)  # its adapters belong to another base
    gone = _replaced(known, entries)
    payloads([*(blob for entry in entries for blob in identity(entry)), *files_of(known), *(e.distilled for e in gone)])
    adapters = payloads.adapters(base, entries)
    images = payloads.distilled_sets(base, entries)
    pools = pooled(images)
    model_before = load_item(base, known, payloads)
    said_before = answers(base, model_before, pools)
    newcomers = {entry.name for entry in plan.theirs}
    contradictions = find_contradictions(base, pools, said_before, adapters, newcomers, set(known.names) - newcomers)
    joint = settings.search.order_independent
    # Where ours is the bare base, theirs is a whole model already: there is nothing to weigh it against.
    if len(entries) > 1 if joint else before.contributions:
        weighed, search = _search(base, plan, settings, adapters, images)
        if not before.contributions:
            search = replace(search, objective_before=None)
    else:
        weighed, search = _unweighed(plan, [pool.task for pool in pools], joint), None
    labels = {pool.task.task: pool.task.labels for pool in pools}
    model = compose_model(base, plan.strategy, weighed, adapters, labels)
    judged = judge(pools, answers(base, model, pools), said_before)
    item = ForgeItem(
        base=plan.base,
        strategy=plan.strategy,
        contributions=weighed,
        search=search,
        scores=judged.scores,
        own_scores=judged.own_scores,
    )
    old = payloads.distilled_sets(base, gone)
    return Folded(item, score_on(base, old, model, model_before), contradictions)


def score_item(repo: Repository, item: ForgeItem, payloads: Payloads) -> Judged:
    """The scores of a recipe on its own distilled sets, computed anew (`git forge verify`); nothing of before."""
    if not item.contributions:
        return Judged((), ())

    from forge.model.merging import pooled

    base = load_repository_base(repo, item.base)
    payloads([*files_of(item), *(entry.distilled for entry in item.contributions)])
    pools = pooled(payloads.distilled_sets(base, item.contributions))
    return judge(pools, answers(base, load_item(base, item, payloads, [pool.task for pool in pools]), pools), None)


def refuse_too_many(contributions: int, limits: LimitSettings) -> None:
    """Raise ForgeError for more contributions than one version may have."""
    if contributions > limits.contributions:
        raise ForgeError(
            f"{contributions:,} contributions, more than the limit of {limits.contributions:,}",
            hint="raise limits.contributions in forge.toml if they are all meant to be in one model",
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
    with progress("searching coefficients") as advance:
        merged = merge_members(
            base,
            plan.strategy,
            members,
            # A branch that brings another strategy may merge into one whose settings do not fit it yet.
            settings.search.fitted_to(plan.strategy),
            task_aware=settings.task_aware,
            advance=lambda best: advance(objective=best),
        )
    search = Search(
        **asdict(merged.settings),
        scales=merged.scales,
        objective_before=merged.objective_before,
        objective_after=merged.objective_after,
    )
    coefficients = merged.coefficients
    if search.scales:  # as recorded, so that who reads the recipe can follow it
        scaled = combine(plan, search.scales.get("ours", 1.0), search.scales.get("theirs", 1.0))
        coefficients = {entry.name: entry.coefficient for entry in scaled}
    return entries_with(plan, coefficients, merged.by_task), search


def _unweighed(plan: MergePlan, tasks: Sequence[TaskImages], joint: bool) -> tuple[Entry, ...]:
    """The contributions of a plan that needs no search: as they are, less what they have for other tasks."""
    known = {task.task for task in tasks}
    entries = [replace(e, tasks={t: c for t, c in e.tasks.items() if t in known}) for e in (*plan.ours, *plan.theirs)]
    return tuple(replace(entry, coefficient=1.0, tasks={}) for entry in entries) if joint else tuple(entries)


def _fitting(plan: MergePlan) -> MergePlan:
    """A plan whose coefficients the strategy can take: the mean over modules, at least 0, where it has to be so."""
    strategy = strategy_named(plan.strategy)
    if strategy.per_module and not strategy.relative:
        return plan

    def fit(coefficient: Coefficient) -> Coefficient:
        if isinstance(coefficient, Mapping) and not strategy.per_module:
            coefficient = mean(coefficient)
        if not strategy.relative:
            return coefficient
        if isinstance(coefficient, Mapping):
            return {module: max(0.0, value) for module, value in coefficient.items()}
        return max(0.0, coefficient)

    def fitted(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        return tuple(
            replace(e, coefficient=fit(e.coefficient), tasks={task: fit(c) for task, c in e.tasks.items()})
            for e in entries
        )

    return replace(plan, ours=fitted(plan.ours), theirs=fitted(plan.theirs))


def _replaced(known: ForgeItem, entries: Sequence[Entry]) -> list[Entry]:
    """The contributions of a recipe in whose place others of the same name come."""
    coming = {entry.name: entry for entry in entries}
    return [
        entry
        for entry in known.contributions
        if entry.name in coming and coming[entry.name].distilled != entry.distilled
    ]
