"""Fusion and Mixture: how a recipe's coefficients and adapters become a model.

A recipe gives every contribution k a coefficient c_k, one number or one per adapted module:

- fusion (MedForge (2025), Eq. 3, unrolled): A = sum_k c_k A_k,  B = sum_k c_k B_k,  dW = B A, cross terms included;
- mixture (Eq. 4, at every adapted layer): dW = sum_k c_k dW_k;
- mixture-output (Mixture as the paper's code has it): p(y|x) = sum_k c_k p_k(y|x) / sum_k c_k, one forward pass per
  contribution.

The first two change the base's weights once; the third is several models. `Parts` holds both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.model.adapters import Adapter, LowRank
from forge.model.attention import VisualTower, adaptable_modules
from forge.text import same_labels

Delta = Mapping[str, Tensor]  # module name -> dW [out, in]
Coefficient = float | Mapping[str, float]  # of a whole contribution, or one per adapted module
Members = Sequence[tuple[Adapter, Coefficient]]
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


def compose(strategy: str, members: Members) -> Parts:
    """The parts of a recipe: one of weight 1 for fusion and mixture, one per contribution for mixture-output.

    Raises ForgeError where the strategy has no meaning for the members: Fusion of unequal ranks or of LoRA with
    DoRA, output-level coefficients per module or below zero.
    """
    if strategy != "mixture-output":
        return ((merged_delta(strategy, members), 1.0),)
    parts = []
    for adapter, coefficient in members:
        if not isinstance(coefficient, int | float):
            raise ForgeError(
                "mixture-output weighs whole models, so a coefficient per module has no meaning for it",
                hint='use strategy = "mixture" in forge.toml',
            )
        if coefficient < 0:
            raise ForgeError("mixture-output weighs probabilities, so no coefficient can be below zero")
        if coefficient > 0:
            parts.append((merged_delta("mixture", [(adapter, 1.0)]), float(coefficient)))
    return tuple(parts) or BASE_ALONE


def merged_delta(strategy: str, members: Members) -> dict[str, Tensor]:
    """dW per module [out, in] under "mixture" or "fusion"; empty without members."""
    with torch.no_grad():
        if strategy == "mixture":
            changes = [{name: module.delta() for name, module in adapter.items()} for adapter, _ in members]
            return mixed(changes, [coefficient for _, coefficient in members])
        return {name: module.delta() for name, module in fused_adapter(members).items()}


def mixed(changes: Sequence[Delta], coefficients: Sequence[Coefficient | Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """sum_k c_k dW_k per module; differentiable in coefficients given as tensors."""
    total: dict[str, Tensor] = {}
    for change, coefficient in zip(changes, coefficients, strict=True):
        for name, delta in change.items():
            term = of_module(coefficient, name) * delta
            total[name] = total[name] + term if name in total else term
    return total


def fused_adapter(members: Sequence[tuple[Adapter, Coefficient | Mapping[str, Tensor]]]) -> dict[str, LowRank]:
    """Weighted sums of the A's and of the B's per module, scalings folded into B; differentiable in tensors.

    DoRA: the magnitudes' changes from the base's row norms m_0 are summed too, m = m_0 + sum_k c_k (m_k - m_0), so
    that coefficients of 0 are the base and a lone contribution at 1 is itself.
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


def of_module(coefficient: Coefficient | Mapping[str, Tensor], name: str) -> float | Tensor:
    """The coefficient of one module; 0 where a mapping does not name it."""
    return coefficient.get(name, 0.0) if isinstance(coefficient, Mapping) else coefficient


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
                    hint='train with the same --rank, or use strategy = "mixture" in forge.toml',
                )
            if (other.magnitude is None) != (module.magnitude is None):
                raise ForgeError(
                    f"Fusion cannot add a DoRA and a LoRA: only one of them has a magnitude ({name})",
                    hint='train all contributions alike, or use strategy = "mixture" in forge.toml',
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
