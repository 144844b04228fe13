"""A version of the model for other tools: a PEFT folder, or a plain open_clip checkpoint.

The same model is the same bytes wherever it is exported, so that a signature over one export holds for another. So
weights are computed on the CPU, in double precision, and added up in a fixed order: in which order a matrix product
does that depends on the machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.formats.adapter import BASE_KEY, EXPORT_KEYS, LORA_A, LORA_B, MAGNITUDE, config_bytes, key_of
from forge.model.adapters import Adapter, LowRank, lora_config, plain_config
from forge.model.attention import adaptable_modules, packed_state
from forge.model.base import OWN_BASE, BaseModel
from forge.model.base_config import CONFIG_NAME
from forge.model.base_places import WEIGHTS_NAME
from forge.model.composing import Delta, Members, folded, of_module
from forge.model.strategies import implementation_of
from forge.recipe.layout import ADAPTER_FILE, CONFIG_FILE


def export_peft(
    base: BaseModel, strategy: str, members: Members, folder: Path, *, residual: Adapter | None = None
) -> tuple[str, int]:
    """Write one PEFT adapter that does exactly what the recipe does; returns its kind ("LoRA", "DoRA") and rank.

    What the strategy adds up (Fusion: the fused factors; Mixture: those of all contributions) stands side by side in
    it (`concatenated`); the rank is the sum. `residual` is what a consolidation adds. A DoRA among them makes the
    result a DoRA. Raises ForgeError where the recipe is several models.
    """
    from safetensors.torch import save

    modules = concatenated(_terms(strategy, members, residual))
    if not modules:
        raise ForgeError(
            "this version has no contributions, so there is no adapter to export",
            hint="use --format open_clip for the base itself",
        )
    dora = any(module.magnitude is not None for module in modules.values())
    if dora:
        modules = _as_dora(modules, base)
    rank = max(module.rank for module in modules.values())
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        padding = rank - module.rank  # modules that some contributions leave alone; zeros change nothing
        tensors[key_of(name, LORA_A)] = torch.nn.functional.pad(module.a, (0, 0, 0, padding))
        tensors[key_of(name, LORA_B)] = torch.nn.functional.pad(module.b, (0, padding))
        if module.magnitude is not None:
            tensors[key_of(name, MAGNITUDE)] = module.magnitude
    config = plain_config(lora_config(rank=rank, alpha=rank, dropout=0.0, modules=sorted(modules), dora=dora))
    config[BASE_KEY] = f"{OWN_BASE}{base.fingerprint}"
    config = {key: config[key] for key in EXPORT_KEYS}
    folder.mkdir(parents=True)
    weights = {name: value.float().contiguous() for name, value in tensors.items()}
    (folder / ADAPTER_FILE).write_bytes(save(weights, {"format": "pt"}))
    (folder / CONFIG_FILE).write_bytes(config_bytes(config))
    return "DoRA" if dora else "LoRA", rank


def concatenated(members: Members) -> dict[str, LowRank]:
    """One adapter for a weighted sum of adapters' dW, exactly: per module A [sum r, in] and B [out, sum r], scaling 1.

    Coefficients c_k and scalings s_k go into B: sum_k c_k s_k B_k A_k = [c_1 s_1 B_1 ... c_n s_n B_n] [A_1; ...; A_n].

    A DoRA changes W to D_k (W + s_k B_k A_k), where the diagonal D_k is its `row_scale`; a LoRA does so with D_k = I.
    So with G = I + sum_k c_k (D_k - I), the Mixture is itself a DoRA:

        W + sum_k c_k dW_k = G W + sum_k c_k D_k s_k B_k A_k = G (W + B A),   B = G^-1 [c_1 D_1 s_1 B_1 ...]

    whose magnitude is G ||W + B A|| by row. Only where a row of G is 0 there is none: its values are not finite then.
    """
    modules = {}
    for name in sorted({name for adapter, _ in members for name in adapter}):
        parts = [(adapter[name], float(of_module(c, name))) for adapter, c in members if name in adapter]
        modules[name] = _side_by_side(parts)
    return modules


def export_open_clip(base: BaseModel, delta: Delta, folder: Path) -> Path | None:
    """Write an open_clip folder of base + dW (`delta_of`); returns the tokeniser's BPE file in it, if it has its own.

    open_clip opens the BPE file by the name in the configuration as it stands, not beside the configuration, also for
    `local-dir:FOLDER`. A full path there would hold for one machine and one place only, so the name alone is written:
    `git forge` finds the file, and open_clip is told with `get_tokenizer("local-dir:FOLDER", bpe_path=...)`.
    """
    from safetensors.torch import save

    change = {name: value.to(base.device, torch.float32) for name, value in delta.items()}
    with folded(base.tower, change):
        state: dict[str, Tensor] = {**base.clip.state_dict(), **packed_state(base.tower)}
        state = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    folder.mkdir(parents=True)
    (folder / WEIGHTS_NAME).write_bytes(save(state, {"format": "pt"}))
    config = json.loads(json.dumps(base.model_config))
    words = None
    if base.bpe_path is not None:
        words = folder / base.bpe_path.name
        shutil.copyfile(base.bpe_path, words)
        config["text_cfg"]["tokenizer_kwargs"]["bpe_path"] = words.name
    if hasattr(base.tokenizer, "save_pretrained"):  # open_clip looks for such a tokeniser in the folder
        base.tokenizer.save_pretrained(str(folder))
    document = {"model_cfg": config, "preprocess_cfg": _json_safe(base.preprocess)}
    (folder / CONFIG_NAME).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return words


def delta_of(strategy: str, members: Members, *, residual: Adapter | None = None) -> dict[str, Tensor]:
    """dW per module [out, in] of a recipe that is one set of weights, and of what a consolidation adds to it.

    As strategies.compose, in double precision. Raises ForgeError where the recipe is several models.
    """
    total: dict[str, Tensor] = {}
    for adapter, coefficient in _terms(strategy, members, residual):
        for name, module in adapter.items():
            term = of_module(coefficient, name) * _delta(module)
            total[name] = total[name] + term if name in total else term
    return total


def _terms(strategy: str, members: Members, residual: Adapter | None) -> Members:
    """The adapters and weights, in double precision, whose weighted sum of dW is the model."""
    return [*implementation_of(strategy).as_sum(_exact(members)), *_exact(_alone(residual))]


def _alone(adapter: Adapter | None) -> Members:
    return [] if adapter is None else [(adapter, 1.0)]


def _exact(members: Members) -> Members:
    """The same adapters in double precision, on the CPU."""
    return [({name: _double(module) for name, module in adapter.items()}, c) for adapter, c in members]


def _double(module: LowRank) -> LowRank:
    magnitude = module.magnitude.cpu().double() if module.magnitude is not None else None
    weight = module.weight.detach().cpu().double() if module.weight is not None else None
    return replace(module, a=module.a.cpu().double(), b=module.b.cpu().double(), magnitude=magnitude, weight=weight)


def _side_by_side(parts: Sequence[tuple[LowRank, float]]) -> LowRank:
    first, coefficient = parts[0]
    if len(parts) == 1 and coefficient == 1:
        return LowRank(first.a, first.scaling * first.b, 1.0, first.magnitude, first.weight)
    a = torch.cat([module.a for module, _ in parts])
    weight = next((module.weight for module, _ in parts if module.weight is not None), None)
    if weight is None:
        return LowRank(a, torch.cat([c * module.scaling * module.b for module, c in parts], dim=1), 1.0)
    scales = [_row_scale(module) for module, _ in parts]
    total = 1 + torch.stack([c * (rows - 1) for rows, (_, c) in zip(scales, parts, strict=True)]).sum(0)
    blocks = [c * module.scaling * rows[:, None] * module.b for rows, (module, c) in zip(scales, parts, strict=True)]
    b = torch.cat(blocks, dim=1) / total[:, None]
    return LowRank(a, b, 1.0, total * _row_norms(weight + _product(b, a)), weight)


def _as_dora(modules: Mapping[str, LowRank], base: BaseModel) -> dict[str, LowRank]:
    """All modules as DoRA, since PEFT's use_dora is for all: of a LoRA, the magnitude is ||W + s B A|| by row."""
    weights = {name: module.weight.detach() for name, module in adaptable_modules(base.tower).items()}
    converted = {}
    for name, module in modules.items():
        if module.magnitude is None:
            weight = weights[name].cpu().double()
            module = replace(module, magnitude=_row_norms(weight + _delta(module)), weight=weight)
        if not bool(torch.isfinite(_delta(module)).all()):
            raise ForgeError(
                f"no single DoRA does what this model does: it takes the base's weights of an output feature of "
                f"{name} out entirely",
                hint="use --format open_clip, which is exact",
            )
        converted[name] = module
    return converted


def _delta(module: LowRank) -> Tensor:
    """As LowRank.delta."""
    product = module.scaling * _product(module.b, module.a)
    if module.weight is None:
        return product
    return _row_scale(module)[:, None] * (module.weight + product) - module.weight


def _row_scale(module: LowRank) -> Tensor:
    """As LowRank.row_scale."""
    if module.magnitude is None or module.weight is None:
        return torch.ones_like(module.b[:, 0])
    return module.magnitude / _row_norms(module.weight + module.scaling * _product(module.b, module.a))


def _product(b: Tensor, a: Tensor) -> Tensor:
    """B A [out, in], added up in the order of the ranks."""
    total = torch.zeros(b.shape[0], a.shape[1], dtype=b.dtype)
    for column, row in zip(b.T, a, strict=True):
        total += column[:, None] * row
    return total


def _row_norms(matrix: Tensor) -> Tensor:
    """[out]: the lengths of the rows of [out, in], added up in the order of the columns."""
    total = torch.zeros(matrix.shape[0], dtype=matrix.dtype)
    for column in (matrix * matrix).T.contiguous():
        total += column
    return total.sqrt()


def _json_safe(preprocess: dict[str, object]) -> dict[str, object]:
    known = ("mean", "std", "interpolation", "resize_mode", "fill_color", "mode")
    return {key: preprocess[key] for key in known if key in preprocess}
