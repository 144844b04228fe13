"""What the three payload files of a contribution must hold; pure checks of bytes, with numpy only.

A contribution comes from someone else. What is not a plain LoRA or DoRA in PEFT's format, or not a distilled
dataset in ours, is refused by the name of what is wrong, because an adapter variant that is read as plain LoRA is
a model that is silently wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from forge.errors import ForgeError
from forge.recipe.card import check_labels
from forge.recipe.checks import check_text
from forge.text import printable

if TYPE_CHECKING:
    from forge.formats.safetensors import TensorInfo

MAX_CONFIG = 2**20  # bytes
MAX_RANK = 4096
MAX_SIDE = 4096  # pixels
MAX_DISTILLED = 100_000  # images

# PEFT saves a magnitude without ".weight", and reads it with or without.
_TENSOR = re.compile(
    r"base_model\.model\.([A-Za-z0-9_.]+)\.(?:(lora_[AB])\.weight|(lora_magnitude_vector)(?:\.weight)?)"
)
_MAGNITUDE = "lora_magnitude_vector"
_FLOATS = ("F16", "BF16", "F32", "F64")
_DISTILLED = {"images": "U8", "labels": "I64", "offset": "F32", "scale": "F32"}

# Keys of adapter_config.json that do not change what the stored factors mean.
_NEUTRAL = frozenset(
    {
        "alpha", "auto_mapping", "base_model_name_or_path", "bias", "exclude_modules", "inference_mode",
        "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout",
        "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "revision", "target_modules",
        "task_type", "use_dora", "use_rslora",
    }
)  # fmt: skip
# These initialisations rewrite the base's weights; the factors alone are then not the adapter.
_OTHER_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class AdapterConfig:
    """adapter_config.json: rank r and lora_alpha; dW = lora_alpha / r * B A, or / sqrt(r) with rsLoRA.

    With `dora`, W + dW is then rescaled so that its rows have the lengths that a magnitude vector gives.
    """

    rank: int
    alpha: float
    rslora: bool
    dora: bool = False

    @property
    def kind(self) -> str:
        """What to call such an adapter."""
        return "DoRA" if self.dora else "LoRA"


@dataclass(frozen=True)
class AdapterView:
    """adapter_model.safetensors without its weights: adapted module -> (out, in) features, and all numbers.

    digest: SHA-256 of the file, by which it is the same file wherever it is kept. is_idle: a LoRA of which every
    module has a factor of nothing but zeros, as before its training.
    """

    modules: Mapping[str, tuple[int, int]]
    parameters: int
    digest: str = ""
    is_idle: bool = False


@dataclass(frozen=True)
class DistilledView:
    """distilled.safetensors without its pixels; per_class counts the images of each label. digest: as an adapter's."""

    task: str
    labels: tuple[str, ...]
    images: int
    height: int
    width: int
    per_class: tuple[int, ...]
    method: str | None
    digest: str = ""


def check_adapter_config(data: bytes, source: str) -> AdapterConfig:
    """The settings of a plain LoRA or DoRA. Raises ForgeError naming `source` and the variant that is neither."""
    config = _json_object(data, source)
    kind = config.get("peft_type")
    if kind != "LORA":
        _refuse(source, f"peft_type is {_shown(kind)}, not 'LORA'")
    if config.get("bias", "none") != "none":
        _refuse(source, f"bias is {_shown(config['bias'])}, not 'none'")
    initial = config.get("init_lora_weights")
    if isinstance(initial, str) and initial.lower().startswith(_OTHER_BASE):
        _refuse(source, f"init_lora_weights is {_shown(initial)}, which changes the base's weights")
    for key, value in config.items():
        if key not in _NEUTRAL and value not in (None, False, {}, [], ""):
            _refuse(source, f"{printable(key)[:80]} is set")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise ForgeError(f"{source}: r must be a whole number from 1 to {MAX_RANK}", hint=_EXPORT)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e9:
        raise ForgeError(f"{source}: lora_alpha must be a finite number", hint=_EXPORT)
    rslora, dora = config.get("use_rslora", False), config.get("use_dora")
    if not isinstance(rslora, bool):
        raise ForgeError(f"{source}: use_rslora must be true or false", hint=_EXPORT)
    if not (dora is None or isinstance(dora, bool)):
        raise ForgeError(f"{source}: use_dora must be true or false", hint=_EXPORT)
    return AdapterConfig(rank, float(alpha), rslora, bool(dora))


def check_adapter(data: bytes, config: AdapterConfig, source: str) -> AdapterView:
    """The factors of a plain LoRA: lora_A [r, in] and lora_B [out, r] in pairs, finite floats, nothing else.

    Those of a DoRA: a magnitude vector [out] for every pair as well.
    """
    from forge.formats.safetensors import check_finite, parse_header, tensor_array

    header = parse_header(data, source)
    factors: dict[str, dict[str, tuple[int, ...]]] = {}
    by_module: dict[str, list[TensorInfo]] = {}
    for tensor in header.tensors:
        match = _TENSOR.fullmatch(tensor.name)
        if not match:
            _refuse(source, f"{printable(tensor.name)!r} is not a factor of one")
        module, factor = match[1], match[2] or match[3]
        if factor == _MAGNITUDE and not config.dora:
            raise ForgeError(
                f"{source}: {tensor.name} is the magnitude of a DoRA, but adapter_config.json does not set use_dora",
                hint="adapter_config.json belongs to another adapter, or is edited; export it again",
            )
        if tensor.dtype not in _FLOATS:
            raise ForgeError(f"{source}: {tensor.name} is {tensor.dtype}, not floating point", hint=_EXPORT)
        if factor in factors.setdefault(module, {}):
            raise ForgeError(f"{source}: {module} has its {factor} under two names", hint=_EXPORT)
        factors[module][factor] = tensor.shape
        by_module.setdefault(module, []).append(tensor)
    if not factors:
        raise ForgeError(f"{source}: the adapter holds no factors", hint=_EXPORT)
    modules = {}
    for module, found in sorted(factors.items()):
        a, b, magnitude = (found.get(factor) for factor in ("lora_A", "lora_B", _MAGNITUDE))
        if len(found) == 1:
            raise ForgeError(f"{source}: {module} has {next(iter(found))} alone", hint=_EXPORT)
        if a is None or b is None:
            raise ForgeError(f"{source}: {module} has no lora_{'B' if b is None else 'A'}", hint=_EXPORT)
        if len(a) != 2 or len(b) != 2 or 0 in (*a, *b):
            raise ForgeError(f"{source}: {module} has factors that are no matrices: {a}, {b}", hint=_EXPORT)
        if a[0] != config.rank or b[1] != config.rank:
            raise ForgeError(
                f"{source}: {module} has lora_A {a} and lora_B {b}, but r is {config.rank}",
                hint="adapter_config.json belongs to another adapter, or is edited; export it again",
            )
        if config.dora and magnitude is None:
            raise ForgeError(
                f"{source}: {module} has no {_MAGNITUDE}, but adapter_config.json sets use_dora",
                hint="adapter_config.json belongs to another adapter, or is edited; export it again",
            )
        if magnitude is not None and magnitude != b[:1]:
            raise ForgeError(
                f"{source}: {module} has a magnitude of the shape {magnitude}, not {b[:1]}, one number for each "
                "output feature",
                hint=_EXPORT,
            )
        modules[module] = (b[0], a[1])
    check_finite(data, header, source)
    parameters = sum(math.prod(tensor.shape) for tensor in header.tensors)
    idle = not config.dora and all(
        any(not tensor_array(data, header, tensor).any() for tensor in pair) for pair in by_module.values()
    )
    return AdapterView(modules, parameters, hashlib.sha256(data).hexdigest(), idle)


def check_distilled(
    data: bytes, source: str, most: int = MAX_DISTILLED, size: tuple[int, int] | None = None
) -> DistilledView:
    """A distilled dataset of at most `most` images: uint8 [n, 3, h, w], every label with an image.

    size: the height and width that the base takes, where that is known; looked at before anything of the pixels is.
    """
    import numpy as np

    from forge.formats.safetensors import check_finite, parse_header, tensor_array

    header = parse_header(data, source)
    found = {tensor.name: tensor for tensor in header.tensors}
    for name in found:
        if name not in _DISTILLED:
            raise ForgeError(f"{source}: unknown tensor {printable(name)!r}", hint=_DISTIL)
    for name, dtype in _DISTILLED.items():
        if name not in found:
            raise ForgeError(f"{source}: the tensor {name!r} is missing", hint=_DISTIL)
        if found[name].dtype != dtype:
            raise ForgeError(f"{source}: {name!r} is {found[name].dtype}, not {dtype}", hint=_DISTIL)
    shape = found["images"].shape
    if len(shape) != 4 or shape[1] != 3 or not all(1 <= side <= MAX_SIDE for side in shape[2:]):
        raise ForgeError(f"{source}: 'images' has the shape {shape}, not [n, 3, h, w]", hint=_DISTIL)
    count = shape[0]
    if not 1 <= count <= most:
        raise ForgeError(
            f"{source}: {count:,} images, but 1 to {most:,} are allowed",
            hint="distil fewer per class, or raise limits.distilled_images in forge.toml",
        )
    if size is not None and shape[2:] != size:
        raise ForgeError(
            f"{source}: images of {shape[2]}x{shape[3]}, but this base takes {size[0]}x{size[1]}",
            hint="distil again for this base with git forge distill",
        )
    for name, wanted in (("labels", (count,)), ("offset", (3,)), ("scale", (3,))):
        if found[name].shape != wanted:
            raise ForgeError(f"{source}: {name!r} has the shape {found[name].shape}, not {wanted}", hint=_DISTIL)
    check_finite(data, header, source)
    task, labels = _task_of(header.metadata, source)
    numbers = tensor_array(data, header, found["labels"])
    if numbers.min() < 0 or numbers.max() >= len(labels):
        raise ForgeError(f"{source}: class numbers go beyond the {len(labels)} labels", hint=_DISTIL)
    per_class = tuple(int(each) for each in np.bincount(numbers, minlength=len(labels)))
    for label, images in zip(labels, per_class, strict=True):
        if not images:
            raise ForgeError(f"{source}: no image of the label {label!r}", hint=_DISTIL)
    method = header.metadata.get("method")
    digest = hashlib.sha256(data).hexdigest()
    return DistilledView(task, labels, count, shape[2], shape[3], per_class, method, digest)


_EXPORT = "save the adapter again with PEFT's save_pretrained"
_DISTIL = "make it again with `git forge distill`"


def _shown(value: object) -> str:
    return repr(value)[:80]  # a config is up to a megabyte of whatever someone put there


def _refuse(source: str, what: str) -> NoReturn:
    raise ForgeError(
        f"{source}: neither a plain LoRA nor a DoRA: {what}",
        hint="git forge merges plain LoRA and DoRA: train without it, or convert the adapter with PEFT first",
    )


def _task_of(metadata: Mapping[str, str], source: str) -> tuple[str, tuple[str, ...]]:
    for key in ("task", "labels"):
        if key not in metadata:
            raise ForgeError(f"{source}: the metadata names no {key}", hint=_DISTIL)
    try:
        labels = json.loads(metadata["labels"])
    except (ValueError, RecursionError):
        raise ForgeError(f"{source}: the labels in the metadata are not a JSON list", hint=_DISTIL) from None
    try:
        return check_text(metadata["task"], "the task"), check_labels(labels, "the labels")
    except ForgeError as error:
        raise ForgeError(f"{source}: {error.message}", hint=error.hint) from None


def _json_object(data: bytes, source: str) -> dict[str, Any]:
    if len(data) > MAX_CONFIG:
        raise ForgeError(f"{source}: larger than {MAX_CONFIG // 2**20} MiB", hint=_EXPORT)
    try:
        config = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ForgeError(f"{source}: not valid JSON: {error}"[:300], hint=_EXPORT) from None
    if not isinstance(config, dict):
        raise ForgeError(f"{source}: not a JSON object", hint=_EXPORT)
    return config


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found
