"""Adapters in PEFT's format: made for a base, read back, and checked against it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.formats.adapter import LORA_A, LORA_B, MAGNITUDE, factor_of, is_dora, rank_and_scaling
from forge.model.adapter_names import why_unknown
from forge.model.attention import PAPER_MODULES as PAPER_MODULES
from forge.model.attention import VisualTower, adaptable_modules

_LORA_PARTS = (LORA_A, LORA_B)
_DORA_PARTS = (*_LORA_PARTS, MAGNITUDE)
_AGAIN = "export the adapter again"


@dataclass(frozen=True)
class LowRank:
    """One adapted module of a LoRA (dW = scaling * b @ a, with a [r, in] and b [out, r]) or of a DoRA.

    A DoRA also has a magnitude m [out] and, beside it, the base's frozen weight W [out, in]: a reference that
    shares the tower's memory, since what the adapter does cannot be told without it.
    """

    a: Tensor
    b: Tensor
    scaling: float
    magnitude: Tensor | None = None
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.magnitude is None) != (self.weight is None):
            raise ValueError("a magnitude and the base's weight go together")

    @property
    def shape(self) -> tuple[int, int]:
        """Of dW: out, in."""
        return self.b.shape[0], self.a.shape[1]

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    def delta(self) -> Tensor:
        """dW [out, in]. LoRA: s B A. DoRA: m / ||W + s B A|| (W + s B A) - W, norms by row (Liu et al. (2024), Eq. 5).

        An output feature is a row here, as in torch's Linear; the DoRA paper writes the transpose, norms by column.
        """
        product = self.scaling * self.b @ self.a
        if self.weight is None:
            return product
        return self.row_scale()[:, None] * (self.weight + product) - self.weight

    def row_scale(self) -> Tensor:
        """[out]: m / ||W + s B A||, by which a DoRA multiplies the rows of W + s B A; ones for a LoRA."""
        if self.magnitude is None or self.weight is None:
            return torch.ones_like(self.b[:, 0])
        norms: Tensor = torch.linalg.vector_norm(self.weight + self.scaling * self.b @ self.a, dim=1)
        return self.magnitude / norms


Adapter = Mapping[str, LowRank]  # adapted module's name in the tower -> its factors


def lora_config(
    *, rank: int, alpha: float, dropout: float, modules: str | list[str] = PAPER_MODULES, dora: bool = False
) -> Any:
    """PEFT's configuration of a plugin module; the paper's is r 16, alpha 16, dropout .1, no bias.

    With `dora` a DoRA in its place (MedForge (2025), Table 4): the same factors, and a magnitude per output feature.
    """
    from peft import LoraConfig

    return LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, bias="none", target_modules=modules, use_dora=dora
    )


def plain_config(config: Any) -> dict[str, object]:
    """PEFT's configuration as adapter_config.json has it, for inference, in an order that never changes."""
    plain: dict[str, object] = {}
    for key, value in sorted(config.to_dict().items()):
        plain[key] = sorted(value) if isinstance(value, set) else getattr(value, "value", value)
    plain["inference_mode"] = True
    return plain


def read_adapter(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], tower: VisualTower, *, source: str
) -> Adapter:
    """The factors of a PEFT LoRA or DoRA, checked to fit `tower`, whose own weights a DoRA then refers to.

    `config` is adapter_config.json, `tensors` adapter_model.safetensors. Modules may be missing (they keep
    the base's weights); modules that the tower lacks, other shapes, unpaired factors and a magnitude that goes
    against `use_dora` raise ForgeError naming `source` and the key.
    """
    modules = adaptable_modules(tower)
    parts = _DORA_PARTS if is_dora(config) else _LORA_PARTS
    factors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in sorted(tensors.items()):  # a file gives them in no order
        place = factor_of(key)
        if place is None:
            raise ForgeError(f"{source}: {key!r} is not part of a LoRA or DoRA", hint="train the adapter without it")
        name, factor = place
        if factor not in parts:
            raise ForgeError(
                f"{source}: {key!r} belongs to a DoRA, but adapter_config.json does not set use_dora",
                hint=_AGAIN,
            )
        if name not in modules:
            raise ForgeError(
                f"{source}: the adapter changes {name!r}, which this base does not have",
                hint=why_unknown(name, modules),
            )
        if factor in factors.setdefault(name, {}):
            raise ForgeError(f"{source}: {key!r} is there under two names", hint=_AGAIN)
        factors[name][factor] = tensor.detach().float()
    rank, scaling = rank_and_scaling(config, source)
    adapter = {}
    for name in sorted(factors):
        # Detached, it keeps the tower's weight of now, also while another change is folded into the tower.
        of_module, weight = factors[name], modules[name].weight.detach()
        if len(of_module) == 1:
            raise ForgeError(f"{source}: {name!r} has {next(iter(of_module))} alone", hint=_AGAIN)
        missing = [part for part in parts if part not in of_module]
        if missing:
            raise ForgeError(f"{source}: {name!r} has no {missing[0]}", hint=_AGAIN)
        a, b = of_module[LORA_A], of_module[LORA_B]
        if a.shape != (rank, weight.shape[1]) or b.shape != (weight.shape[0], rank):
            raise ForgeError(
                f"{source}: {name!r} has factors {tuple(a.shape)} and {tuple(b.shape)}, but this base and rank "
                f"{rank} ask for {(rank, weight.shape[1])} and {(weight.shape[0], rank)}",
                hint="the adapter belongs to another base, or its adapter_config.json to another adapter",
            )
        a, b = a.to(weight.device), b.to(weight.device)
        adapter[name] = LowRank(a, b, scaling)
        if MAGNITUDE in of_module:
            magnitude = of_module[MAGNITUDE].to(weight.device)
            adapter[name] = _with_magnitude(adapter[name], magnitude, weight, source, name)
    if not adapter:
        raise ForgeError(f"{source}: the adapter holds no weights")
    return adapter


def _with_magnitude(module: LowRank, magnitude: Tensor, weight: Tensor, source: str, name: str) -> LowRank:
    if magnitude.shape != weight.shape[:1]:
        raise ForgeError(
            f"{source}: {name!r} has a magnitude {tuple(magnitude.shape)}, but this base asks for "
            f"{tuple(weight.shape[:1])}",
            hint="the adapter belongs to another base",
        )
    complete = LowRank(module.a, module.b, module.scaling, magnitude, weight)
    if not bool(torch.isfinite(complete.delta()).all()):
        raise ForgeError(
            f"{source}: {name!r} has an output feature whose direction W + s B A has no usable length",
            hint="a DoRA rescales each row of W + s B A to its magnitude, which a row of zeros does not allow",
        )
    return complete


def parameter_count(adapter: Adapter) -> int:
    """How many numbers the adapter holds, magnitudes included."""
    parts = (part for module in adapter.values() for part in (module.a, module.b, module.magnitude))
    return sum(part.numel() for part in parts if part is not None)


def plain_delta(adapter: Adapter) -> dict[str, Tensor]:
    """dW of one adapter on its own, per module [out, in]."""
    with torch.no_grad():
        return {name: module.delta() for name, module in adapter.items()}


def adapter_digest(adapter: Adapter) -> str:
    """A name for these very factors, under which results made from them are kept."""
    digest = hashlib.sha256()
    for name, module in sorted(adapter.items()):
        digest.update(f"{name} {module.scaling!r}\n".encode())
        for part in (module.a, module.b, module.magnitude):
            digest.update(b"-" if part is None else part.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
