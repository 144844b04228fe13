"""One search of coefficients as numbers: which scales are free, what they multiply, and how good they are.

A scale belongs to a unit, which is a side of the merge (the paper's w and w') or a contribution (joint). The
coefficient of member k in module m is C[k, m] = S[unit of k, m] * before[k, m]. What is minimised is the objective on
the distilled images plus a term that keeps the scales in place:

- one per contribution: l1 * mean |S| (MedForge (2025), section 3.3);
- one per module: pull * sum (S[u, m] - S*[u])^2, where S* are the best scales that all modules share;
- mixture-output: (sum C - 1)^2, because a normalised mixture does not feel its scale and L1 would shrink it to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from forge.model.gradient_search import minimise
from forge.model.objectives import Objective
from forge.model.search import SearchSettings, search

Advance = Callable[[float], None]

LEAST_WEIGHT = 1e-6  # of probabilities; the smallest that a recipe records


@dataclass(frozen=True)
class Problem:
    """`units` [members] names each member's row of S; `before` [members, columns]; `keep_ours` [units] or None.

    `columns` is 1 for mixture-output, else the number of adapted modules.
    """

    objective: Objective
    units: Tensor
    before: Tensor
    keep_ours: Tensor | None
    output_level: bool

    @property
    def unit_count(self) -> int:
        return int(self.units.max()) + 1

    @property
    def columns(self) -> int:
        return self.before.shape[1]

    def coefficients(self, scales: Tensor) -> Tensor:
        """C [members, columns] of scales [units, columns], or [units, 1] that all columns share."""
        return scales.float()[self.units] * self.before


@dataclass(frozen=True)
class Solution:
    """Scales [units, columns], equal along a row where they are shared, and the objective with its extra term."""

    scales: Tensor
    objective: float


def solve_gradient_free(problem: Problem, settings: SearchSettings, advance: Advance) -> Solution:
    """One scale per unit by nevergrad (`search`), with "keep ours as it is" among the candidates."""

    def loss(point: Sequence[float]) -> float:
        scales = _kept_in_place(problem, torch.tensor(point))[:, None]
        return problem.objective.value(problem.coefficients(scales)) + _unit_sum(problem, scales)

    candidates = [] if problem.keep_ours is None else [tuple(problem.keep_ours.tolist())]
    wanted = replace(settings, l1=0.0) if problem.output_level else settings
    found = search(loss, problem.unit_count, wanted, candidates=candidates, advance=advance)
    shared = _kept_in_place(problem, torch.tensor(found.point, dtype=torch.float64))
    return Solution(shared[:, None].expand(-1, problem.columns).clone(), found.objective)


def solve_shared(problem: Problem, settings: SearchSettings, advance: Advance) -> Solution:
    """One scale per unit by gradients, from settings.start and from "keep ours as it is"."""

    def function(values: Tensor) -> tuple[float, Tensor]:
        inside = _kept_in_place(problem, values)
        scales = inside[:, None]
        loss, gradient = problem.objective.with_gradient(problem.coefficients(scales))
        by_unit = _by_unit(problem, gradient).sum(1)
        if problem.output_level:
            excess = float((problem.coefficients(scales)).sum() - 1)
            weights = _by_unit(problem, torch.ones_like(gradient)).sum(1)
            return loss + excess**2, by_unit + 2 * excess * weights
        return loss + settings.l1 * float(inside.abs().mean()), by_unit + settings.l1 * inside.sign() / len(inside)

    start = torch.full((problem.unit_count,), settings.start, dtype=torch.float64)
    found = minimise(
        function,
        start,
        evaluations=settings.evaluations,
        bounds=settings.bounds,
        least=LEAST_WEIGHT if problem.output_level else None,
        advance=advance,
    )
    best, objective = _kept_in_place(problem, found.point), found.objective
    if problem.output_level:  # the mixture does not feel its scale: the last of the way to a sum of 1 is free
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
            (_by_unit(problem, gradient) + 2 * pull * away).flatten(),
        )

    found = minimise(
        function, centre.flatten(), evaluations=settings.evaluations, bounds=settings.bounds, advance=advance
    )
    return Solution(found.point.view_as(centre), found.objective)


def objective_at(problem: Problem, scales: Tensor, l1: float) -> float:
    """The objective of shared scales [units] with its extra term."""
    loss = problem.objective.value(problem.coefficients(scales[:, None]))
    if problem.output_level:
        return loss + _unit_sum(problem, scales[:, None])
    return loss + l1 * float(scales.abs().mean())


def _by_unit(problem: Problem, gradient: Tensor) -> Tensor:
    """dL/dS [units, columns] from dL/dC [members, columns]."""
    sums = torch.zeros(problem.unit_count, problem.columns, dtype=torch.float64)
    return sums.index_add_(0, problem.units, (gradient * problem.before).double())


def _kept_in_place(problem: Problem, values: Tensor) -> Tensor:
    """Weights of probabilities stay above zero, where a mixture has a logarithm."""
    return values.clamp_min(LEAST_WEIGHT) if problem.output_level else values


def _unit_sum(problem: Problem, scales: Tensor) -> float:
    return float((problem.coefficients(scales).sum() - 1).square()) if problem.output_level else 0.0
