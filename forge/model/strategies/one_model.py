"""Strategies that are one set of weights: dW is a weighted sum of adapters, which the strategy makes of the members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forge.model.adapters import Adapter
from forge.model.aims import Aim
from forge.model.base import BaseModel
from forge.model.composing import Members, Parts, mixed, of_module
from forge.model.curvature import Directions
from forge.model.objectives import Objective, weight_objective


@dataclass(frozen=True)
class OneModel:
    """A strategy by one function: `terms` of the members are adapters and their weights, dW = sum_t w_t dW_t.

    terms is differentiable in coefficients given as tensors, treats every module by itself, and raises ForgeError for
    members that the strategy cannot take.
    """

    terms: Callable[[Members], Members]

    def parts(self, members: Members) -> Parts:
        with torch.no_grad():
            return ((self._delta(members), 1.0),)

    def as_sum(self, members: Members) -> Members:
        return self.terms(members)

    def objective(self, base: BaseModel, adapters: Sequence[Adapter], aims: Sequence[Aim]) -> Objective:
        return weight_objective(base, adapters, aims, self._delta, self.directions)

    def directions(self, members: Members) -> Directions:
        """How dW moves with each member's coefficient, by differentiating `terms`."""

        def change(name: str, some: range) -> Tensor:
            with torch.enable_grad():
                values = [torch.as_tensor(of_module(c, name)).detach().clone().requires_grad_() for _, c in members]
                of_name = [{name: adapter[name]} if name in adapter else {} for adapter, _ in members]
                moved = self._delta([(part, {name: c}) for part, c in zip(of_name, values, strict=True)])[name]
                # Forwards by going back twice: the product with any weights is linear in them, and that is the change.
                weights = torch.zeros_like(moved).requires_grad_()
                sums = torch.autograd.grad(
                    moved, values, weights, create_graph=True, allow_unused=True, materialize_grads=True
                )
                asked = [
                    torch.autograd.grad(
                        sums[number], [weights], retain_graph=True, allow_unused=True, materialize_grads=True
                    )[0]
                    for number in some
                ]
            return torch.stack(asked)

        return change

    def _delta(self, members: Members) -> dict[str, Tensor]:
        terms = self.terms(members)
        return mixed([adapter for adapter, _ in terms], [weight for _, weight in terms])
