"""Folding contributions into a recipe: plan, search the scales on the distilled sets, record what was found.

`git forge commit` and the merge driver both end here. A fold is a function of the plan, the blobs it names
and the search settings; it touches neither index nor work tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from forge.console import progress
from forge.operations.loading import ReadBlobs, load_adapters, load_repository_base, load_tasks
from forge.repo.git import Repository
from forge.repo.recipe import Entry, ForgeItem, Search, TaskScore, empty
from forge.repo.settings import Settings
from forge.repo.three_way import MergePlan, combine

if TYPE_CHECKING:
    from forge.model.adapters import Adapter
    from forge.model.base import BaseModel
    from forge.model.scoring import Score, TaskImages

Scales = tuple[float, ...]


def fold(
    repo: Repository,
    plan: MergePlan,
    before: ForgeItem,
    settings: Settings,
    read: ReadBlobs,
    *,
    compared_with: ForgeItem | None = None,
) -> ForgeItem:
    """The forge item of a merge or commit: `plan` with coefficients, on top of `before` (ours).

    What the recipe records as "before" is the model of `compared_with`, which is `before` itself if not given.

    One scale per side that has contributions is searched (MedForge (2025), section 3.3), with "keep ours as
    it is" among the candidates. Where there is nothing to weigh, nothing is searched: a model that joins the
    bare base keeps its coefficients (1 for a first contribution), and a plan that changes nothing gives
    `before`.
    """
    unchanged = (plan.base, plan.strategy, plan.ours) == (before.base, before.strategy, before.contributions)
    if unchanged and not plan.theirs:
        return before
    if not plan.ours and not plan.theirs:
        return empty(plan.base, plan.strategy)
    base = load_repository_base(repo, plan.base)
    entries = [*plan.ours, *plan.theirs]
    adapters = load_adapters(base, entries, read)
    tasks = load_tasks(base, entries, read, settings.limits)
    scores_before = _scores_before(base, compared_with or before, tasks, read)
    # Where ours is the bare base, theirs is a whole model already: there is nothing to weigh it against.
    search = _search(base, plan, settings, adapters, tasks, scores_before) if before.contributions else None
    scales = search.scales if search else {}
    combined = combine(plan, scales.get("ours", 1.0), scales.get("theirs", 1.0))
    scores = _score(base, plan.strategy, combined, adapters, tasks)
    return ForgeItem(
        base=plan.base,
        strategy=plan.strategy,
        contributions=combined,
        search=search,
        scores=tuple(_task_score(*row) for row in zip(tasks, scores, scores_before, strict=True)),
    )


def score_item(repo: Repository, item: ForgeItem, settings: Settings, read: ReadBlobs) -> tuple[TaskScore, ...]:
    """The scores of a recipe on its own distilled sets, computed anew (`git forge verify`)."""
    if not item.contributions:
        return ()
    base = load_repository_base(repo, item.base)
    adapters = load_adapters(base, item.contributions, read)
    tasks = load_tasks(base, item.contributions, read, settings.limits)
    scores = _score(base, item.strategy, item.contributions, adapters, tasks)
    return tuple(_task_score(task, score, None) for task, score in zip(tasks, scores, strict=True))


def _search(
    base: BaseModel,
    plan: MergePlan,
    settings: Settings,
    adapters: dict[str, Adapter],
    tasks: Sequence[TaskImages],
    scores_before: Sequence[Score],
) -> Search:
    from forge.model.composing import compose
    from forge.model.scoring import score_tasks
    from forge.model.search import SearchSettings, objective_of, search

    sides = [side for side, entries in (("ours", plan.ours), ("theirs", plan.theirs)) if entries]
    keep_ours = tuple(1.0 if side == "ours" else 0.0 for side in sides)
    candidates = [keep_ours] if plan.ours else []
    wanted = SearchSettings(**asdict(settings.search))

    def loss(scales: Scales) -> float:
        of_side = dict(zip(sides, scales, strict=True))
        combined = combine(plan, of_side.get("ours", 1.0), of_side.get("theirs", 1.0))
        return mean_cross_entropy(
            score_tasks(base, compose(plan.strategy, [(adapters[e.name], e.coefficient) for e in combined]), tasks)
        )

    with progress("searching coefficients", wanted.evaluations + len(candidates)) as advance:
        found = search(loss, len(sides), wanted, candidates=candidates, advance=lambda best: advance(objective=best))
    return Search(
        **asdict(wanted),
        scales=dict(zip(sides, found.point, strict=True)),
        objective_before=objective_of(mean_cross_entropy(scores_before), keep_ours, wanted.l1),
        objective_after=found.objective,
    )


def mean_cross_entropy(scores: Sequence[Score]) -> float:
    """Average over tasks, every task counting the same however many images it has."""
    return sum(score.cross_entropy for score in scores) / len(scores)


def _score(
    base: BaseModel, strategy: str, entries: Sequence[Entry], adapters: dict[str, Adapter], tasks: Sequence[TaskImages]
) -> list[Score]:
    from forge.model.composing import compose
    from forge.model.scoring import score_tasks

    return score_tasks(base, compose(strategy, [(adapters[e.name], e.coefficient) for e in entries]), tasks)


def _scores_before(base: BaseModel, before: ForgeItem, tasks: Sequence[TaskImages], read: ReadBlobs) -> list[Score]:
    """How the model that this one is made from does on all tasks at hand; an empty one is the base itself."""
    if before.base.fingerprint != base.fingerprint:
        before = empty(before.base, before.strategy)  # its adapters belong to another base
    adapters = load_adapters(base, before.contributions, read)  # of before: the plan may have replaced some
    return _score(base, before.strategy, before.contributions, adapters, tasks)


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
