"""Mixture (MedForge (2025), Eq. 4, at every adapted layer): dW = sum_k c_k dW_k."""

from __future__ import annotations

import torch
from torch import Tensor

from forge.model.composing import Members
from forge.model.curvature import Directions
from forge.model.strategies.one_model import OneModel


class Mixture(OneModel):
    """The members are the terms, so dW moves with a coefficient as that member's own adapter changes the weights."""

    def directions(self, members: Members) -> Directions:
        def change(name: str, some: range) -> Tensor:
            modules = [members[number][0].get(name) for number in some]
            one = next(adapter[name] for adapter, _ in members if name in adapter)
            nothing = torch.zeros(one.shape, device=one.a.device)
            return torch.stack([nothing if module is None else module.delta() for module in modules])

        return change


STRATEGY = Mixture(lambda members: members)
