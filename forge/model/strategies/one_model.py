"""Strategies that are one set of weights: dW is a weighted sum of adapters, which the strategy makes of the members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forge.model.adapters import Adapter
from forge.model.base import BaseModel
from forge.model.composing import Members, Parts, mixed
from forge.model.objectives import Aim, Objective, weight_objective


@dataclass(frozen=True)
class OneModel:
    """A strategy by one function: `terms` of the members are adapters and their weights, dW = sum_t w_t dW_t.

    terms is differentiable in coefficients given as tensors, and raises ForgeError for members that the strategy
    cannot take.
    """

    terms: Callable[[Members], Members]

    def parts(self, members: Members) -> Parts:
        with torch.no_grad():
            return ((self._delta(members), 1.0),)

    def as_sum(self, members: Members) -> Members:
        return self.terms(members)

    def objective(self, base: BaseModel, adapters: Sequence[Adapter], aims: Sequence[Aim]) -> Objective:
        return weight_objective(base, adapters, aims, self._delta)

    def _delta(self, members: Members) -> dict[str, Tensor]:
        terms = self.terms(members)
        changes = [{name: module.delta() for name, module in adapter.items()} for adapter, _ in terms]
        return mixed(changes, [weight for _, weight in terms])
