"""What a composed recipe is: changes of the base's weights, and how they are folded in.

A recipe gives every contribution k a coefficient c_k, one number or one per adapted module. How these and the adapters
become changes of weights is the strategy's (forge/model/strategies). Most give one change, some are several models:
`Parts` holds both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from forge.model.adapters import Adapter, plain_delta
from forge.model.attention import VisualTower, adaptable_modules
from forge.text import same_labels

Delta = Mapping[str, Tensor]  # module name -> dW [out, in]
Coefficient = float | Mapping[str, float]  # of a whole contribution, or one per adapted module
# Coefficients are numbers, or tensors [] where a gradient with respect to them is asked for.
Members = Sequence[tuple[Adapter, Coefficient | Mapping[str, Tensor]]]
Parts = tuple[tuple[Delta, float], ...]  # changes of the base's weights, each a model of its own, and their weights

BASE_ALONE: Parts = (({}, 1.0),)


@dataclass(frozen=True)
class Model:
    """A composed recipe. Task-aware recipes have parts of their own for the label sets they know.

    `by_labels` is keyed by a label set's texts as `same_labels` has them; any other label set gets what `nearest`
    makes of the known ones (task_fallback.py), or the `shared` parts where there is no `nearest`.
    """

    shared: Parts
    by_labels: Mapping[tuple[str, ...], Parts] = field(default_factory=dict)
    nearest: Callable[[tuple[str, ...]], Parts] | None = None

    def parts_for(self, labels: Sequence[str]) -> Parts:
        """What to fold into the base to tell these labels apart."""
        known = self.by_labels.get(same_labels(labels))
        if known is not None:
            return known
        return self.nearest(tuple(labels)) if self.nearest is not None else self.shared


def alone(adapter: Adapter) -> Parts:
    """The model of one adapter at coefficient 1."""
    return ((plain_delta(adapter), 1.0),)


def mixed(adapters: Sequence[Adapter], coefficients: Sequence[Coefficient | Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """sum_k c_k dW_k per module [out, in]; differentiable in coefficients given as tensors.

    One product of all factors a module, [c_1 s_1 B_1, c_2 s_2 B_2, ...] [A_1; A_2; ...], so that no dW_k of hundreds of
    LoRAs is held. A DoRA's dW_k is no product and is added as it is.
    """
    total: dict[str, Tensor] = {}
    for name in sorted({name for adapter in adapters for name in adapter}):
        parts = [(a[name], of_module(c, name)) for a, c in zip(adapters, coefficients, strict=True) if name in a]
        plain = [(module, c) for module, c in parts if module.magnitude is None]
        terms = [c * module.delta() for module, c in parts if module.magnitude is not None]
        if plain:
            left = torch.cat([c * module.scaling * module.b for module, c in plain], dim=1)
            terms.append(left @ torch.cat([module.a for module, _ in plain]))
        total[name] = torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]
    return total


def summed(*changes: Delta) -> dict[str, Tensor]:
    """Several changes of weights as one."""
    total: dict[str, Tensor] = {}
    for change in changes:
        for name, delta in change.items():
            total[name] = total[name] + delta if name in total else delta
    return total


def of_module(coefficient: Coefficient | Mapping[str, Tensor], name: str) -> float | Tensor:
    """The coefficient of one module; 0 where a mapping does not name it."""
    return coefficient.get(name, 0.0) if isinstance(coefficient, Mapping) else coefficient


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
