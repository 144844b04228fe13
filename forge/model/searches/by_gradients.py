"""The searches "exact" and "joint": scales by their own gradients, shared by all modules and then one per module.

Which scales there are is the problem's: two sides of a merge (exact), or every contribution (joint).
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.model.searches.gradient_descent import minimise
from forge.model.searches.problem import LEAST_WEIGHT, Advance, Problem, Solution, by_unit, kept_in_place
from forge.recipe.settings import SearchSettings


def solve(problem: Problem, settings: SearchSettings, advance: Advance) -> Solution:
    """Scales that all modules share, and from there one per module where the settings have one. pull is a number."""
    shared = solve_shared(problem, settings, advance)
    if not settings.per_module:
        return shared
    return solve_per_module(problem, shared, float(settings.pull), settings, advance)


def solve_shared(problem: Problem, settings: SearchSettings, advance: Advance) -> Solution:
    """One scale per unit by gradients, from settings.start and from "keep ours as it is"."""

    def function(values: Tensor) -> tuple[float, Tensor]:
        inside = kept_in_place(problem, values)
        scales = inside[:, None]
        loss, gradient = problem.objective.with_gradient(problem.coefficients(scales))
        per_unit = by_unit(problem, gradient).sum(1)
        if problem.relative:
            excess = float((problem.coefficients(scales)).sum() - 1)
            weights = by_unit(problem, torch.ones_like(gradient)).sum(1)
            return loss + excess**2, per_unit + 2 * excess * weights
        return loss + settings.l1 * float(inside.abs().mean()), per_unit + settings.l1 * inside.sign() / len(inside)

    start = torch.full((problem.unit_count,), settings.start, dtype=torch.float64)
    minimum = minimise(
        function,
        start,
        evaluations=settings.evaluations,
        bounds=settings.bounds,
        least=LEAST_WEIGHT if problem.relative else None,
        advance=advance,
    )
    best, objective = kept_in_place(problem, minimum.point), minimum.objective
    if problem.relative:  # the mixture does not feel its scale: the last of the way to a sum of 1 is free
        total = float(problem.coefficients(best[:, None]).sum())
        if total > 0 and float(best.max()) / total <= settings.bounds:
            best, objective = best / total, objective - (total - 1) ** 2
    if problem.keep_ours is not None:
        kept = function(problem.keep_ours)[0]
        if kept < objective:
            best, objective = problem.keep_ours, kept
    return Solution(best[:, None].expand(-1, problem.columns).clone(), objective)


def solve_per_module(
    problem: Problem, shared: Solution, pull: float, settings: SearchSettings, advance: Advance
) -> Solution:
    """A scale per unit and module by gradients, from the shared ones and pulled to them."""
    centre = shared.scales

    def function(values: Tensor) -> tuple[float, Tensor]:
        scales = values.view_as(centre)
        away = scales - centre
        loss, gradient = problem.objective.with_gradient(problem.coefficients(scales))
        return (
            loss + pull * float(away.square().sum()),
            (by_unit(problem, gradient) + 2 * pull * away).flatten(),
        )

    minimum = minimise(
        function, centre.flatten(), evaluations=settings.evaluations, bounds=settings.bounds, advance=advance
    )
    return Solution(minimum.point.view_as(centre), minimum.objective)
