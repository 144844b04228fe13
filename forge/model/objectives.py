"""What a coefficient search minimises, as a function of the coefficients: its value, and how it is shaped around them.

The loss is that of some aims (aims.py). Coefficients are C [members, modules], or [members, 1] where the strategy has
none per module; a module that a member does not adapt has a coefficient without effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forge.model.adapters import Adapter
from forge.model.aims import Aim, total_loss
from forge.model.base import BaseModel
from forge.model.composing import Delta, Members, folded
from forge.model.curvature import Directions, Quadratic, quadratic_of


@dataclass(frozen=True)
class Objective:
    """A loss of coefficients C [members, columns]: its value, and what it is near C.

    quadratic is exact in value and gradient; the coefficients are counted row by row.
    """

    value: Callable[[Tensor], float]
    quadratic: Callable[[Tensor], Quadratic]


def module_names(adapters: Sequence[Adapter]) -> list[str]:
    """The columns of C: every module that some member adapts, sorted."""
    return sorted({name for adapter in adapters for name in adapter})


def weight_objective(
    base: BaseModel,
    adapters: Sequence[Adapter],
    aims: Sequence[Aim],
    delta_of: Callable[[Members], Delta],
    directions_of: Callable[[Members], Directions],
) -> Objective:
    """The objective of a strategy that is one set of weights, whose dW is `delta_of` the members.

    directions_of: how that dW moves with each coefficient, at members' coefficients. A call looks at every image of
    the aims once, in batches, so that memory does not grow with their number.
    """
    names = module_names(adapters)

    def members_at(coefficients: Tensor) -> Members:
        # One column is for all modules.
        rows = [dict(zip(names, row.expand(len(names)).unbind(), strict=True)) for row in coefficients]
        return list(zip(adapters, rows, strict=True))

    def value(point: Tensor) -> float:
        with torch.no_grad(), folded(base.tower, delta_of(members_at(point.to(base.device)))):
            return total_loss(base, aims)

    def quadratic(point: Tensor) -> Quadratic:
        with torch.no_grad():
            members = members_at(point.to(base.device))
            with folded(base.tower, delta_of(members)):
                near = quadratic_of(base, aims, names, len(adapters), directions_of(members))
        if point.shape[1] == len(names):
            return near
        shape = len(adapters), len(names)
        gradient = near.gradient.view(shape).sum(1)
        return Quadratic(near.value, gradient, near.matrix.view(*shape, *shape).sum((1, 3)))

    return Objective(value, quadratic)
