"""Fusion (MedForge (2025), Eq. 3, unrolled): A = sum_k c_k A_k, B = sum_k c_k B_k, dW = B A, cross terms included."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from forge.errors import ForgeError
from forge.model.adapters import Adapter, LowRank
from forge.model.composing import Members, of_module
from forge.model.strategies.one_model import OneModel
from forge.recipe.catalogue import DEFAULT_STRATEGY


def fused_adapter(members: Members) -> dict[str, LowRank]:
    """Weighted sums of the A's and of the B's per module, scalings folded into B; differentiable in tensors.

    DoRA: the magnitudes' changes from the base's row norms m_0 are summed too, m = m_0 + sum_k c_k (m_k - m_0), so
    that coefficients of 0 are the base and a lone contribution at 1 is itself. Raises ForgeError as check_fusable.
    """
    check_fusable([adapter for adapter, _ in members])
    fused = {}
    for name in sorted({name for adapter, _ in members for name in adapter}):
        modules = [(adapter[name], of_module(c, name)) for adapter, c in members if name in adapter]
        a = torch.stack([c * module.a for module, c in modules]).sum(0)
        b = torch.stack([c * module.scaling * module.b for module, c in modules]).sum(0)
        weight = modules[0][0].weight
        if weight is None:
            fused[name] = LowRank(a, b, 1.0)
            continue
        norms = weight.norm(dim=1)
        changed = [c * (module.magnitude - norms) for module, c in modules if module.magnitude is not None]
        fused[name] = LowRank(a, b, 1.0, magnitude=norms + torch.stack(changed).sum(0), weight=weight)
    return fused


def check_fusable(adapters: Sequence[Adapter]) -> None:
    """Refuse what Fusion cannot add: a module with another rank in each adapter, or LoRA in one and DoRA in another."""
    first: dict[str, LowRank] = {}
    for adapter in adapters:
        for name, module in adapter.items():
            other = first.setdefault(name, module)
            if other.rank != module.rank:
                raise ForgeError(
                    f"Fusion adds the factors of adapters, which needs equal ranks; {name} has rank "
                    f"{other.rank} in one contribution and {module.rank} in another",
                    hint=f'train with the same --rank, or use strategy = "{DEFAULT_STRATEGY}" in forge.toml',
                )
            if (other.magnitude is None) != (module.magnitude is None):
                raise ForgeError(
                    f"Fusion cannot add a DoRA and a LoRA: only one of them has a magnitude ({name})",
                    hint=f'train all contributions alike, or use strategy = "{DEFAULT_STRATEGY}" in forge.toml',
                )


STRATEGY = OneModel(lambda members: [(fused_adapter(members), 1.0)])
