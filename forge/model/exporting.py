"""A version of the model for other tools: a PEFT folder, or a plain open_clip checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.model.adapters import KEY_PREFIX, Adapter, LowRank, lora_config, plain_config
from forge.model.attention import packed_state
from forge.model.base import CONFIG_NAME, WEIGHTS_NAME, BaseModel
from forge.model.composing import Delta, folded, fused_adapter

Members = Sequence[tuple[Adapter, float]]


def export_peft(base: BaseModel, strategy: str, members: Members, folder: Path) -> int:
    """Write one PEFT LoRA that does what the recipe does; returns its rank.

    Fusion: the fused A and B. Mixture: A's stacked and B's side by side, coefficients and scalings folded
    into B, which is exact: sum_k c_k B_k A_k = [c_1 B_1 ... c_n B_n] [A_1; ...; A_n]. The rank is the sum.
    """
    from safetensors.torch import save

    if not members:
        raise ForgeError(
            "this version has no contributions, so there is no adapter to export",
            hint="use --format open_clip for the base itself",
        )
    modules = fused_adapter(members) if strategy == "fusion" else concatenated(members)
    rank = max(module.rank for module in modules.values())
    tensors = {}
    for name, module in modules.items():
        padding = rank - module.rank  # modules that some contributions leave alone; zeros change nothing
        tensors[f"{KEY_PREFIX}{name}.lora_A.weight"] = torch.nn.functional.pad(module.a, (0, 0, 0, padding))
        tensors[f"{KEY_PREFIX}{name}.lora_B.weight"] = torch.nn.functional.pad(module.b, (0, padding))
    config = plain_config(lora_config(rank=rank, alpha=rank, dropout=0.0, modules=sorted(modules)))
    config["base_model_name_or_path"] = f"git-forge:{base.fingerprint}"
    folder.mkdir(parents=True)
    weights = {name: value.cpu().contiguous() for name, value in tensors.items()}
    (folder / "adapter_model.safetensors").write_bytes(save(weights, {"format": "pt"}))
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return rank


def concatenated(members: Members) -> dict[str, LowRank]:
    """The exact concatenation of a layer Mixture: per module A [sum r, in] and B [out, sum r], scaling 1."""
    modules = {}
    for name in sorted({name for adapter, _ in members for name in adapter}):
        parts = [(adapter[name], c) for adapter, c in members if name in adapter]
        a = torch.cat([module.a for module, _ in parts])
        b = torch.cat([c * module.scaling * module.b for module, c in parts], dim=1)
        modules[name] = LowRank(a, b, 1.0)
    return modules


def export_open_clip(base: BaseModel, delta: Delta, folder: Path, *, final: Path) -> None:
    """Write an open_clip folder of base + dW, to be used at `final` (`local-dir:FINAL`), BPE file included."""
    from safetensors.torch import save

    with folded(base.tower, delta):
        state: dict[str, Tensor] = {**base.clip.state_dict(), **packed_state(base.tower)}
        state = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    folder.mkdir(parents=True)
    (folder / WEIGHTS_NAME).write_bytes(save(state, {"format": "pt"}))
    config = json.loads(json.dumps(base.model_config))
    if base.bpe_path is not None:
        shutil.copyfile(base.bpe_path, folder / base.bpe_path.name)
        # open_clip opens this path as it stands, so it is absolute; `git forge` reads it beside the config.
        config["text_cfg"]["tokenizer_kwargs"]["bpe_path"] = str((final / base.bpe_path.name).resolve())
    document = {"model_cfg": config, "preprocess_cfg": _json_safe(base.preprocess)}
    (folder / CONFIG_NAME).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _json_safe(preprocess: dict[str, object]) -> dict[str, object]:
    known = ("mean", "std", "interpolation", "resize_mode", "fill_color", "mode")
    return {key: preprocess[key] for key in known if key in preprocess}
