"""Fusion and Mixture: how a recipe's coefficients and adapters become one change of the base's weights.

Both strategies act on *groups*. A group is a list of adapters with the coefficients they already have; a
merge scales whole groups (main's by w, the incoming one's by w') and never looks inside them:

- Fusion  (MedForge (2025), Eq. 3): A = sum_g w_g A_g,  B = sum_g w_g B_g,  dW = B A, cross terms included.
- Mixture (MedForge (2025), Eq. 4, layer level): dW = sum_g w_g dW_g.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.model.adapters import Adapter, LowRank
from forge.model.attention import VisualTower, adaptable_modules

Delta = Mapping[str, Tensor]  # module name -> dW [out, in]


@dataclass(frozen=True)
class FusedGroup:
    """Weighted sums of the A's and of the B's of a group, per module; the scaling is folded into b."""

    factors: Mapping[str, LowRank]


@dataclass(frozen=True)
class MixedGroup:
    """Weighted sum of the dW's of a group, per module [out, in]."""

    delta: Delta


Group = FusedGroup | MixedGroup


def make_group(strategy: str, members: Sequence[tuple[Adapter, float]]) -> Group:
    """A group of (adapter, coefficient) under a strategy, ready to be scaled as one.

    Raises ForgeError where Fusion meets adapters of unequal rank: sums of A's exist for one rank only.
    """
    names = sorted({name for adapter, _ in members for name in adapter})
    with torch.no_grad():
        if strategy == "mixture":
            return MixedGroup({name: _mixed(name, members) for name in names})
        check_ranks([adapter for adapter, _ in members])
        return FusedGroup({name: _fused(name, members) for name in names})


def group_delta(groups: Sequence[Group], scales: Sequence[float]) -> dict[str, Tensor]:
    """dW per module of several groups, each scaled as a whole (w and w' of a merge)."""
    with torch.no_grad():
        if all(isinstance(group, MixedGroup) for group in groups):
            total: dict[str, Tensor] = {}
            for group, scale in zip(groups, scales, strict=True):
                assert isinstance(group, MixedGroup)
                for name, delta in group.delta.items():
                    total[name] = total[name] + scale * delta if name in total else scale * delta
            return total
        members = [(group.factors, s) for group, s in zip(groups, scales, strict=True) if isinstance(group, FusedGroup)]
        fused = make_group("fusion", members)
        assert isinstance(fused, FusedGroup)
        return {name: module.scaling * module.b @ module.a for name, module in fused.factors.items()}


def compose(strategy: str, members: Sequence[tuple[Adapter, float]]) -> dict[str, Tensor]:
    """dW per module of a whole recipe: its adapters with their unrolled coefficients c_k."""
    return group_delta([make_group(strategy, members)], [1.0]) if members else {}


def check_ranks(adapters: Sequence[Adapter]) -> None:
    """Refuse adapters that Fusion cannot add because a module has another rank in each."""
    ranks: dict[str, int] = {}
    for adapter in adapters:
        for name, module in adapter.items():
            if ranks.setdefault(name, module.rank) != module.rank:
                raise ForgeError(
                    f"Fusion adds the factors of adapters, which needs equal ranks; {name} has rank "
                    f"{ranks[name]} in one contribution and {module.rank} in another",
                    hint='train with the same --rank, or use strategy = "mixture" in forge.toml',
                )


@contextmanager
def folded(tower: VisualTower, delta: Delta) -> Iterator[VisualTower]:
    """The tower with dW folded into its weights: one plain forward, no adapter overhead. Restored on exit."""
    modules = adaptable_modules(tower)
    originals = {name: modules[name].weight.data for name in delta}
    try:
        for name, change in delta.items():
            modules[name].weight.data = originals[name] + change
        yield tower
    finally:
        for name, weight in originals.items():
            modules[name].weight.data = weight


def _mixed(name: str, members: Sequence[tuple[Adapter, float]]) -> Tensor:
    terms = [c * m[name].scaling * (m[name].b @ m[name].a) for m, c in members if name in m]
    return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]


def _fused(name: str, members: Sequence[tuple[Adapter, float]]) -> LowRank:
    modules = [(adapter[name], c) for adapter, c in members if name in adapter]
    a = sum((c * module.a for module, c in modules), start=torch.zeros(()))
    b = sum((c * module.scaling * module.b for module, c in modules), start=torch.zeros(()))
    return LowRank(a, b, 1.0)
