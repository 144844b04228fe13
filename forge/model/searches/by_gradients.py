"""The searches "exact" and "joint": scales by gradients and curvature, shared by all modules and then one per module.

Which scales there are is the problem's: two sides of a merge (exact), or every contribution (joint).
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.model.curvature import Quadratic
from forge.model.searches.gauss_newton import Minimum, minimise
from forge.model.searches.problem import LEAST_WEIGHT, Advance, Problem, Solution, in_scales, objective_at
from forge.recipe.settings import SearchSettings

# Nats: a step that is to gain less ends the search. No accuracy hangs on the fourth decimal of a loss; shared
# scales are only what those of the modules start from and are held near.
GAIN = 1e-3
GAIN_ON_THE_WAY = 1e-2


def solve(problem: Problem, settings: SearchSettings, advance: Advance) -> Solution:
    """Scales that all modules share, and from there one per module where the settings have one. pull is a number."""
    shared, near = solve_shared(problem, settings, advance)
    return solve_per_module(problem, shared, near, settings, advance) if settings.per_module else shared


def solve_shared(problem: Problem, settings: SearchSettings, advance: Advance) -> tuple[Solution, Quadratic | None]:
    """One scale per unit, from settings.start and from "keep ours as it is"; and what the objective is there.

    The latter is None where nobody has looked at more than its value.
    """

    def model_at(values: Tensor) -> Quadratic:
        scales = values[:, None]
        near = in_scales(problem, problem.objective.quadratic(problem.coefficients(scales)), shared=True)
        if not problem.relative:
            return near
        weights = torch.zeros(problem.unit_count, dtype=torch.float64)
        weights.index_add_(0, problem.units, problem.before.double().sum(1))
        excess = float(problem.coefficients(scales).sum() - 1)
        matrix = near.matrix + 2 * torch.outer(weights, weights)
        return Quadratic(near.value + excess**2, near.gradient + 2 * excess * weights, matrix, near.inner)

    # The paper says .5 of two sides: half of each of twenty contributions is far from where any search ends.
    start = settings.start * min(1.0, 2 / problem.unit_count)
    l1 = 0.0 if problem.relative else settings.l1 / problem.unit_count
    minimum = minimise(
        model_at,
        torch.full((problem.unit_count,), start, dtype=torch.float64),
        evaluations=settings.evaluations,
        bounds=settings.bounds,
        least=LEAST_WEIGHT if problem.relative else None,
        least_gain=GAIN_ON_THE_WAY if settings.per_module else GAIN,
        l1=l1,
        advance=advance,
    )
    best, near = minimum.point, minimum.near.inner
    objective = minimum.near.value + l1 * float(best.abs().sum())
    if problem.relative:  # the mixture does not feel its scale: the last of the way to a sum of 1 is free
        total = float(problem.coefficients(best[:, None]).sum())
        if total > 0 and float(best.max()) / total <= settings.bounds:
            best, objective = best / total, objective - (total - 1) ** 2
    if problem.keep_ours is not None:
        kept = objective_at(problem, problem.keep_ours, settings.l1)
        if kept < objective:
            best, objective, near = problem.keep_ours, kept, None
    return Solution(best[:, None].expand(-1, problem.columns).clone(), objective), near


def solve_per_module(
    problem: Problem,
    shared: Solution,
    near: Quadratic | None,
    settings: SearchSettings,
    advance: Advance,
) -> Solution:
    """A scale per unit and module, from the shared ones and pulled to them.

    near: what the objective is at the shared ones, where the caller has it.
    """
    centre, pull = shared.scales.flatten(), float(settings.pull)

    def pulled(near: Quadratic, values: Tensor) -> Quadratic:
        away, identity = values - centre, torch.eye(len(centre), dtype=torch.float64)
        free = in_scales(problem, near, shared=False)
        return Quadratic(
            free.value + pull * float(away.square().sum()),
            free.gradient + 2 * pull * away,
            free.matrix + 2 * pull * identity,
        )

    def model_at(values: Tensor) -> Quadratic:
        return pulled(problem.objective.quadratic(problem.coefficients(values.view_as(shared.scales))), values)

    minimum: Minimum = minimise(
        model_at,
        centre,
        evaluations=settings.evaluations,
        bounds=settings.bounds,
        least_gain=GAIN,
        known=None if near is None else pulled(near, centre),
        advance=advance,
    )
    return Solution(minimum.point.view_as(shared.scales), minimum.near.value)
