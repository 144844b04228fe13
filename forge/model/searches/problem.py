"""One search of coefficients as numbers: which scales are free, what they multiply, and how good they are.

A scale belongs to a unit, which is a side of the merge (the paper's w and w') or a contribution (joint). The
coefficient of member k in module m is C[k, m] = S[unit of k, m] * before[k, m]. What is minimised is the objective on
the distilled images plus a term that keeps the scales in place:

- one per contribution: l1 * mean |S| (MedForge (2025), section 3.3);
- one per module: pull * sum (S[u, m] - S*[u])^2, where S* are the best scales that all modules share;
- relative (catalogue.Strategy): (sum C - 1)^2, because a model that only ratios matter to does not feel its scale and
  L1 would shrink it to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from forge.model.curvature import Quadratic
from forge.model.objectives import Objective

Advance = Callable[[float], None]

LEAST_WEIGHT = 1e-6  # of probabilities; the smallest that a recipe records


@dataclass(frozen=True)
class Problem:
    """`units` [members] names each member's row of S; `before` [members, columns]; `keep_ours` [units] or None.

    `columns` is the number of adapted modules, 1 where the strategy has no coefficient per module. `relative`: as the
    strategy's.
    """

    objective: Objective
    units: Tensor
    before: Tensor
    keep_ours: Tensor | None
    relative: bool

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


def objective_at(problem: Problem, scales: Tensor, l1: float) -> float:
    """The objective of shared scales [units] with its extra term."""
    loss = problem.objective.value(problem.coefficients(scales[:, None]))
    if problem.relative:
        return loss + unit_sum(problem, scales[:, None])
    return loss + l1 * float(scales.abs().mean())


def in_scales(problem: Problem, near: Quadratic, shared: bool) -> Quadratic:
    """An objective of coefficients as one of scales: [units] that all columns share, or [units * columns]."""
    members, columns = problem.before.shape
    weights = problem.before.double()
    unit = torch.zeros(members, problem.unit_count, dtype=torch.float64)
    unit[torch.arange(members), problem.units] = 1
    gradient = unit.T @ (near.gradient.view(members, columns) * weights)
    weighed = near.matrix.view(members, columns, members, columns) * weights[:, :, None, None] * weights
    if shared:
        matrix = unit.T @ weighed.sum((1, 3)) @ unit
        return Quadratic(near.value, gradient.sum(1), matrix, near)
    matrix = torch.einsum("kmln,ku,lv->umvn", weighed, unit, unit)
    size = problem.unit_count * columns
    return Quadratic(near.value, gradient.flatten(), matrix.reshape(size, size), near)


def kept_in_place(problem: Problem, values: Tensor) -> Tensor:
    """Relative coefficients stay above zero, where a mixture of probabilities has a logarithm."""
    return values.clamp_min(LEAST_WEIGHT) if problem.relative else values


def unit_sum(problem: Problem, scales: Tensor) -> float:
    """The term that holds the sum of relative coefficients at 1."""
    return float((problem.coefficients(scales).sum() - 1).square()) if problem.relative else 0.0
