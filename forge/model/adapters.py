"""Adapters in PEFT's format: made for a base, read back, and checked against it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.model.attention import VisualTower, adaptable_modules

KEY_PREFIX = "base_model.model."

# W_q and W_v of every visual layer and the visual projection (MedForge (2025), section 4: plugin module).
PAPER_MODULES = r"trunk\.transformer\.resblocks\.\d+\.attn\.[qv]_proj|projection"


@dataclass(frozen=True)
class LowRank:
    """One adapted module: dW = scaling * b @ a, with a [r, in] and b [out, r]."""

    a: Tensor
    b: Tensor
    scaling: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]


Adapter = Mapping[str, LowRank]  # adapted module's name in the tower -> its factors


def lora_config(*, rank: int, alpha: float, dropout: float, modules: str | list[str] = PAPER_MODULES) -> Any:
    """PEFT's configuration of a plugin module; the paper's is r 16, alpha 16, dropout .1, no bias."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, bias="none", target_modules=modules)


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
    """The factors of a PEFT LoRA, checked to fit `tower`.

    `config` is adapter_config.json, `tensors` adapter_model.safetensors. Modules may be missing (they keep
    the base's weights); modules that the tower lacks, other shapes and unpaired factors raise ForgeError
    naming `source` and the key.
    """
    modules = adaptable_modules(tower)
    factors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        stem = key.removeprefix(KEY_PREFIX)
        name, _, factor = stem.removesuffix(".weight").rpartition(".")
        if stem == key or not stem.endswith(".weight") or factor not in ("lora_A", "lora_B"):
            raise ForgeError(f"{source}: {key!r} is not part of a plain LoRA", hint="train the adapter without it")
        if name not in modules:
            raise ForgeError(
                f"{source}: the adapter changes {name!r}, which this base does not have",
                hint="it was trained on another base; see [base] in forge.toml",
            )
        factors.setdefault(name, {})[factor] = tensor.detach().float()
    scaling = _scaling(config, source)
    adapter = {}
    for name in sorted(factors):
        pair, weight = factors[name], modules[name].weight
        if len(pair) != 2:
            raise ForgeError(f"{source}: {name!r} has {next(iter(pair))} alone", hint="export the adapter again")
        a, b = pair["lora_A"], pair["lora_B"]
        rank = int(config["r"])
        if a.shape != (rank, weight.shape[1]) or b.shape != (weight.shape[0], rank):
            raise ForgeError(
                f"{source}: {name!r} has factors {tuple(a.shape)} and {tuple(b.shape)}, but this base and rank "
                f"{rank} ask for {(rank, weight.shape[1])} and {(weight.shape[0], rank)}",
                hint="the adapter belongs to another base, or its adapter_config.json to another adapter",
            )
        adapter[name] = LowRank(a.to(weight.device), b.to(weight.device), scaling)
    if not adapter:
        raise ForgeError(f"{source}: the adapter holds no weights")
    return adapter


def _scaling(config: Mapping[str, Any], source: str) -> float:
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (KeyError, TypeError, ValueError) as error:
        raise ForgeError(f"{source}: adapter_config.json lacks a usable r or lora_alpha") from error
    if rank < 1 or not math.isfinite(alpha):
        raise ForgeError(f"{source}: adapter_config.json gives r={rank} and lora_alpha={alpha}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def parameter_count(adapter: Adapter) -> int:
    """How many numbers the adapter holds."""
    return sum(module.a.numel() + module.b.numel() for module in adapter.values())


def plain_delta(adapter: Adapter) -> dict[str, Tensor]:
    """dW of one adapter on its own, per module [out, in]."""
    with torch.no_grad():
        return {name: module.scaling * module.b @ module.a for name, module in adapter.items()}
