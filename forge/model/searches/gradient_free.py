"""The search "shiwa": the scales of a merge without gradients (MedForge (2025), section 3.3).

The objective is the cross-entropy on the distilled sets, averaged over tasks, plus l1 * mean |scale|.
nevergrad's Shiwa, which picks COBYLA at this size, is started at `start` within +-`bounds`. Fixed points to
consider as well ("keep ours as it is") are scored first, and the best of everything seen wins.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from forge.errors import ForgeError
from forge.model.searches.problem import Advance, Problem, Solution, kept_in_place, unit_sum
from forge.recipe.settings import SearchSettings

Point = tuple[float, ...]


@dataclass(frozen=True)
class SearchResult:
    """The best point and its objective."""

    point: Point
    objective: float


def objective_of(loss: float, point: Sequence[float], l1: float) -> float:
    """loss + l1 * mean |scale|."""
    return loss + l1 * sum(abs(value) for value in point) / len(point)


def search(
    loss: Callable[[Point], float],
    dimensions: int,
    settings: SearchSettings,
    *,
    candidates: Sequence[Point] = (),
    advance: Callable[[float], None] = lambda best: None,
) -> SearchResult:
    """Minimise objective_of(loss(point), point) over points of `dimensions` scales.

    `loss` is called once per candidate and `settings.evaluations` times by the optimiser; `advance` is told
    the best objective after each. Points are rounded to 6 decimals before they are scored, because that is
    what a recipe records. The same settings and losses give the same result.
    """
    best: tuple[float, Point] | None = None

    def consider(values: Sequence[float]) -> float:
        nonlocal best
        point = tuple(round(float(value), 6) + 0.0 for value in values)
        objective = objective_of(loss(point), point, settings.l1)
        if math.isnan(objective):
            objective = math.inf  # worse than any number: nothing compares with NaN, so it would stay the best
        if best is None or objective < best[0]:
            best = (objective, point)
        advance(best[0])
        return objective

    for candidate in candidates:
        consider(candidate)
    _minimise(consider, dimensions, settings)
    if best is None or not math.isfinite(best[0]):
        raise ForgeError("the coefficient search found no finite score", hint="run git forge verify")
    return SearchResult(best[1], best[0])


def solve(problem: Problem, settings: SearchSettings, advance: Advance) -> Solution:
    """One scale per unit by nevergrad (`search`), with "keep ours as it is" among the candidates."""

    def loss(point: Sequence[float]) -> float:
        scales = kept_in_place(problem, torch.tensor(point))[:, None]
        return problem.objective.value(problem.coefficients(scales)) + unit_sum(problem, scales)

    candidates = [] if problem.keep_ours is None else [tuple(problem.keep_ours.tolist())]
    with_l1 = replace(settings, l1=0.0) if problem.relative else settings
    result = search(loss, problem.unit_count, with_l1, candidates=candidates, advance=advance)
    shared = kept_in_place(problem, torch.tensor(result.point, dtype=torch.float64))
    return Solution(shared[:, None].expand(-1, problem.columns).clone(), result.objective)


def _minimise(function: Callable[[Sequence[float]], float], dimensions: int, settings: SearchSettings) -> None:
    import nevergrad as ng

    if settings.optimizer not in ng.optimizers.registry:
        raise ForgeError(
            f"nevergrad has no optimiser called {settings.optimizer!r}", hint="set [search] optimizer in forge.toml"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nevergrad warns of narrow bounds and of its own choices of sub-optimisers
        space = ng.p.Array(init=np.full(dimensions, settings.start)).set_bounds(-settings.bounds, settings.bounds)
        space.random_state.seed(settings.seed)
        optimizer = ng.optimizers.registry[settings.optimizer](space, budget=settings.evaluations, num_workers=1)
        with _threads_ended():
            for _ in range(settings.evaluations):
                asked = optimizer.ask()
                optimizer.tell(asked, function(asked.value))


@contextmanager
def _threads_ended() -> Iterator[None]:
    """End the threads that nevergrad started in the block.

    It runs scipy's optimisers in one that waits for the next loss. It ends when the optimiser is collected, but an
    exception on its way up (Ctrl-C, a conflict) keeps the optimiser alive, and then Python waits for the thread for
    ever instead of ending.
    """
    before = set(threading.enumerate())
    try:
        yield
    finally:
        for thread in set(threading.enumerate()) - before:
            stop = getattr(thread, "stop", None)
            if stop is not None:
                stop()
