"""Minimising an objective by its quadratic models: Gauss-Newton with Levenberg's damping, within bounds.

Where a search by gradients learns the curvature from twenty passes over the images, this has it from each pass, and
ends after four or five for any number of coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.model.curvature import Quadratic

DAMPING = 1e-3  # at first, as a share of the mean curvature
MOST_SWEEPS = 2000


@dataclass(frozen=True)
class Minimum:
    """The best point seen [n], and what the objective is there and around it."""

    point: Tensor
    near: Quadratic


def minimise(
    model_at: Callable[[Tensor], Quadratic],
    start: Tensor,
    *,
    evaluations: int,
    bounds: float,
    least_gain: float,
    least: float | None = None,
    l1: float = 0.0,
    known: Quadratic | None = None,
    advance: Callable[[float], None] = lambda best: None,
) -> Minimum:
    """Minimise model_at's value + l1 * sum |x| from `start` [n] within +-bounds, in at most `evaluations` calls.

    least: a lower bound in place of -bounds. Ends where the next step is to gain less than `least_gain`, in the value's
    unit. known: the model at `start`, where the caller has it. `advance` is told the best value after each call;
    deterministic. Raises ForgeError where the objective is not finite at `start`.
    """
    lowest = -bounds if least is None else least
    start = start.double().clamp(lowest, bounds)
    best = Minimum(start, known or model_at(start))
    calls = 0 if known else 1
    total = _total(best, l1)
    if not math.isfinite(total):
        raise ForgeError("the coefficient search found no finite score", hint="run git forge verify")
    advance(total)
    curvature = max(float(best.near.matrix.diagonal().mean()), 1e-12)
    damping = DAMPING
    while calls < evaluations:
        point = minimise_quadratic(best, damping * curvature, (lowest, bounds), l1)
        gain = total - _predicted(best, point, l1)
        if not gain >= least_gain:  # NaN is no gain either
            break
        tried = Minimum(point, model_at(point))
        calls += 1
        reached = _total(tried, l1)
        share = (total - reached) / gain if math.isfinite(reached) else -1.0
        damping *= 0.25 if share > 0.75 else 1.0 if share > 0.25 else 8.0
        if share > 0:
            best, total = tried, reached
        advance(total)
    return best


def minimise_quadratic(around: Minimum, damping: float, bounds: tuple[float, float], l1: float) -> Tensor:
    """The point [n] of least model value + damping/2 * its distance from `around` squared + l1 * sum |x|.

    By accelerated proximal gradients (Beck and Teboulle (2009)), started anew where they overshoot: n numbers alone.
    """
    start = around.point
    matrix = around.near.matrix + damping * torch.eye(len(start), dtype=torch.float64)
    linear = around.near.gradient - matrix @ start
    if not bool(torch.isfinite(matrix).all()):
        return start  # nothing to go by
    step = 1 / float(torch.linalg.eigvalsh(matrix).abs().max())
    point = ahead = start
    momentum = 1.0
    for _ in range(MOST_SWEEPS):
        moved = ahead - step * (linear + matrix @ ahead)
        after = (moved.sign() * (moved.abs() - step * l1).clamp_min(0)).clamp(*bounds)
        if not float((after - point).abs().max()) >= 1e-7:
            return after
        if float(((ahead - after) * (after - point)).sum()) > 0:
            momentum, ahead = 1.0, after
        else:
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = after + (momentum - 1) / following * (after - point)
            momentum = following
        point = after
    return point


def _predicted(around: Minimum, point: Tensor, l1: float) -> float:
    away = point - around.point
    near = around.near
    return near.value + float(near.gradient @ away + away @ near.matrix @ away / 2) + l1 * float(point.abs().sum())


def _total(minimum: Minimum, l1: float) -> float:
    return minimum.near.value + l1 * float(minimum.point.abs().sum())
