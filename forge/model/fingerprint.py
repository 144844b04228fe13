"""Which base this is: a digest of whatever makes its predictions, and the same in words.

Of everything that weights do not show, only what departs from open_clip's defaults is part of the digest, after all the
rest: a base of which nothing does has the fingerprint that it always had. `older` is the one that others had before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Texts whose tokens stand for the tokeniser in the fingerprint: two bases that read labels differently are
# different bases even where their weights are equal.
PROBE_TEXTS = (
    "lung squamous cell carcinomas",
    "Benign Breast Tissues, grade II/III (40x)",
    "the quick brown fox jumps over the lazy dog 0123456789",
    "naïve café größe µm — “quoted”",
)
RESIZING: Mapping[str, object] = {"interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
_VISUAL: Mapping[str, object] = {"pool_type": "tok", "final_ln_after_pool": False}
_TEXT: Mapping[str, object] = {"pool_type": "argmax", "eos_id": 2, "pad_id": 0, "use_pad_mask": False}


@dataclass(frozen=True)
class Identity:
    """fingerprint: of all that changes a prediction. older: that of git forge 0.1, which resizing had no part in.

    pixels, resizing: activation, normalisation and resizing in words, for people who compare two bases.
    """

    fingerprint: str
    older: str
    pixels: str
    resizing: str

    @property
    def description(self) -> str:
        return f"{self.pixels}, {self.resizing}"


def identify(
    clip: Any, tokenizer: Callable[[list[str]], Tensor], preprocess: Mapping[str, Any], config: Mapping[str, Any]
) -> Identity:
    """The identity of an open_clip model as it was built from `config`, before anything of it is rewritten.

    First sha256 over every weight as float32 (by name), heads and activations, which change no shape, the probe texts'
    tokens and the pixel normalisation; then what departs from open_clip's defaults.
    """
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(clip.state_dict().items()):
        array = value.detach().float().contiguous().numpy()
        digest.update(f"{name} {tuple(array.shape)}\n".encode())
        digest.update(memoryview(array).cast("B") if array.size else b"")
    for name, module in clip.named_modules():
        if isinstance(module, torch.nn.MultiheadAttention):
            digest.update(f"{name} {module.num_heads} heads\n".encode())
        elif "gelu" in type(module).__name__.lower():
            digest.update(f"{name} {type(module).__name__}\n".encode())
    digest.update(tokenizer(list(PROBE_TEXTS)).numpy().astype("<i8").tobytes())
    digest.update(json.dumps([preprocess.get("mean"), preprocess.get("std")]).encode())
    older = digest.hexdigest()
    unusual = {**unusual_resizing(preprocess), **_unusual_model(clip, config)}
    if unusual:
        digest.update(json.dumps(unusual, sort_keys=True).encode())
    return Identity(f"sha256:{digest.hexdigest()}", f"sha256:{older}", *_described(clip, preprocess))


def unusual_resizing(preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """How pictures are brought to the tower's size, as far as that is not open_clip's default way."""
    return _unlike(RESIZING, {key: preprocess.get(key) for key in RESIZING})


def _unusual_model(clip: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    visual, text = clip.visual, getattr(clip, "text", None)
    unusual: dict[str, Any] = {}
    size = _pair(visual.image_size)
    patch, grid = getattr(visual, "patch_size", None), getattr(visual, "grid_size", None)
    square = patch is not None and grid is not None and grid[0] == grid[1]
    if not square or size != tuple(p * g for p, g in zip(_pair(patch), _pair(grid), strict=True)):
        unusual["image_size"] = list(size)
    for name, inside in (
        ("vision", _unlike(_VISUAL, _attributes(visual, _VISUAL))),
        ("text", _unusual_text(clip, text)),
    ):
        if inside:
            unusual[name] = inside
    for name, module in clip.named_modules():
        if isinstance(module, torch.nn.LayerNorm) and module.eps != 1e-5:
            unusual.setdefault("eps", {})[name] = module.eps
        if isinstance(module, torch.nn.GELU) and module.approximate != "none":
            unusual.setdefault("approximate", {})[name] = module.approximate
        heads = getattr(module, "num_heads", None) or getattr(module, "num_attention_heads", None)
        if type(heads) is int and not isinstance(module, torch.nn.MultiheadAttention):
            unusual.setdefault("heads", {})[name] = heads
    for tower, keys in (("vision_cfg", ("timm_model_name", "timm_pool")), ("text_cfg", ("hf_pooler_type",))):
        of_others = {key: config.get(tower, {}).get(key) for key in keys}
        unusual.update({key: value for key, value in of_others.items() if value is not None})
    return unusual


def _unusual_text(clip: Any, text: Any) -> dict[str, Any]:
    """CLIP keeps its text transformer's settings under other names than CustomTextCLIP."""
    of_clip = {"pool_type": getattr(clip, "text_pool_type", None), "eos_id": getattr(clip, "text_eos_id", None)}
    unlike = _unlike(_TEXT, of_clip if text is None else _attributes(text, _TEXT))
    if unlike.get("pool_type") != "eos":
        unlike.pop("eos_id", None)  # only that way of pooling looks at it
    if not unlike.get("use_pad_mask") and getattr(text, "cls_emb", None) is None:
        unlike.pop("pad_id", None)
    owner = clip if text is None else text
    if hasattr(owner, "attn_mask") and owner.attn_mask is None:
        unlike["no_causal_mask"] = True
    return unlike


def _attributes(module: Any, names: Mapping[str, object]) -> dict[str, Any]:
    return {name: getattr(module, name) for name in names if hasattr(module, name)}


def _unlike(usual: Mapping[str, object], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Of `attributes`, what differs from the usual; None is the usual, and so is one colour three times that is it."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()}
    return {key: value for key, value in plain.items() if value not in (None, usual[key], [usual[key]] * 3)}


def _described(clip: Any, preprocess: Mapping[str, Any]) -> tuple[str, str]:
    kinds = {type(module).__name__ for module in clip.modules() if "gelu" in type(module).__name__.lower()}
    resizing = {**RESIZING, **{key: preprocess[key] for key in RESIZING if preprocess.get(key)}}
    height, width = _pair(clip.visual.image_size)
    return (
        f"{' and '.join(sorted(kinds)) or 'no GELU'}, mean {_numbers(preprocess.get('mean'))}, "
        f"std {_numbers(preprocess.get('std'))}",
        f"resized to {height}x{width} ({resizing['resize_mode']}, {resizing['interpolation']})",
    )


def _numbers(values: Any) -> str:
    each = values if isinstance(values, list | tuple) else [values]
    return " ".join(f"{value:.4g}" if isinstance(value, int | float) else str(value) for value in each)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
