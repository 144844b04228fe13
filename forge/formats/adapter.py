"""An adapter in PEFT's format, its two files checked and written; pure functions of bytes, with numpy only.

All of PEFT's own names stand here: of tensors, and of the keys of adapter_config.json. An adapter comes from someone
else. What is not a plain LoRA or DoRA is refused by the name of what is wrong, because an adapter variant that is read
as plain LoRA is a model that is silently wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from forge.errors import ForgeError
from forge.recipe.layout import CONFIG_FILE, CONTRIBUTIONS, limit_of
from forge.text import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forge.formats.safetensors import TensorInfo

MAX_CONFIG = limit_of(f"{CONTRIBUTIONS}/*/{CONFIG_FILE}")
MAX_RANK = 4096

PREFIX = "base_model.model."
LORA_A, LORA_B = "lora_A", "lora_B"
MAGNITUDE = "lora_magnitude_vector"  # a DoRA's m
WEIGHT = ".weight"
# What an adapter_config.json says of the adapter's place: which base, and which of its modules.
BASE_KEY, MODULES_KEY = "base_model_name_or_path", "target_modules"
# These say which modules of another program's model were meant.
ELSEWHERE_KEYS = ("auto_mapping", "exclude_modules", "layers_pattern", "layers_to_transform")
# What an exported adapter is. The other keys have PEFT's defaults, of which each version has others.
EXPORT_KEYS = (
    BASE_KEY, "bias", "fan_in_fan_out", "inference_mode", "lora_alpha", "lora_dropout", "peft_type",
    "r", MODULES_KEY, "task_type", "use_dora", "use_rslora",
)  # fmt: skip

# PEFT saves a magnitude without ".weight", and reads it with or without.
_TENSOR = re.compile(
    rf"{re.escape(PREFIX)}([A-Za-z0-9_.]+)\.(?:({LORA_A}|{LORA_B})\.weight|({MAGNITUDE})(?:\.weight)?)"
)
_FLOATS = ("F16", "BF16", "F32", "F64")
_METADATA = {"format": "pt"}  # what PEFT writes: tensors of PyTorch

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


def key_of(module: str, factor: str) -> str:
    """The name under which PEFT stores a factor (LORA_A, LORA_B or MAGNITUDE) of an adapted module."""
    return f"{PREFIX}{module}.{factor}" + ("" if factor == MAGNITUDE else WEIGHT)


def factor_of(key: str) -> tuple[str, str] | None:
    """(module, factor) of a tensor's name in PEFT's format, whatever its module is called; None for any other name."""
    stem = key.removeprefix(PREFIX)
    module, _, factor = stem.removesuffix(WEIGHT).rpartition(".")
    is_whole = stem.endswith(WEIGHT) or factor == MAGNITUDE
    known = stem != key and is_whole and factor in (LORA_A, LORA_B, MAGNITUDE)
    return (module, factor) if known else None


def class_of_origin(config: Mapping[str, Any]) -> str:
    """The class of the model that an adapter was trained on, as PEFT notes it; empty where it does not."""
    return str((config.get("auto_mapping") or {}).get("base_model_class", ""))


def without_prefix(parts: Sequence[str]) -> Sequence[str]:
    """The parts of a module's name without those that PEFT puts before them."""
    before = PREFIX.rstrip(".").split(".")
    return parts[len(before) :] if list(parts[: len(before)]) == before else parts


def is_dora(config: Mapping[str, Any]) -> bool:
    """Whether an adapter_config.json sets use_dora."""
    return bool(config.get("use_dora"))


def minimal_config(rank: int, alpha: float, *, dora: bool) -> dict[str, Any]:
    """What of adapter_config.json decides what the factors mean."""
    return {"r": rank, "lora_alpha": alpha, "use_dora": dora}


def rank_and_scaling(config: Mapping[str, Any], source: str) -> tuple[int, float]:
    """r, and by what B A is multiplied: lora_alpha / r, or / sqrt(r) with rsLoRA."""
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (KeyError, TypeError, ValueError) as error:
        raise ForgeError(f"{source}: adapter_config.json lacks a usable r or lora_alpha") from error
    if rank < 1 or not math.isfinite(alpha):
        raise ForgeError(f"{source}: adapter_config.json gives r={rank} and lora_alpha={alpha}")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def config_bytes(config: Mapping[str, object]) -> bytes:
    """The text of adapter_config.json, its keys in the order of `config`."""
    return json.dumps(config, indent=2).encode() + b"\n"


def weights_bytes(factors: Mapping[str, NDArray[Any]], source: str) -> bytes:
    """The canonical bytes of adapter_model.safetensors; factors by the names of key_of."""
    from forge.formats.safetensors import to_bytes

    return to_bytes(factors, _METADATA, source)


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
    from forge.formats.safetensors import check_finite, is_zero, parse_header

    header = parse_header(data, source)
    factors: dict[str, dict[str, tuple[int, ...]]] = {}
    by_module: dict[str, list[TensorInfo]] = {}
    for tensor in header.tensors:
        match = _TENSOR.fullmatch(tensor.name)
        if not match:
            _refuse(source, f"{printable(tensor.name)!r} is not a factor of one")
        module, factor = match[1], match[2] or match[3]
        if factor == MAGNITUDE and not config.dora:
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
    for module, shapes in sorted(factors.items()):
        a, b, magnitude = (shapes.get(factor) for factor in (LORA_A, LORA_B, MAGNITUDE))
        if len(shapes) == 1:
            raise ForgeError(f"{source}: {module} has {next(iter(shapes))} alone", hint=_EXPORT)
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
                f"{source}: {module} has no {MAGNITUDE}, but adapter_config.json sets use_dora",
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
    idle = not config.dora and all(any(is_zero(data, header, tensor) for tensor in pair) for pair in by_module.values())
    return AdapterView(modules, parameters, hashlib.sha256(data).hexdigest(), idle)


_EXPORT = "save the adapter again with PEFT's save_pretrained"


def _shown(value: object) -> str:
    return repr(value)[:80]  # a config is up to a megabyte of whatever someone put there


def _refuse(source: str, what: str) -> NoReturn:
    raise ForgeError(
        f"{source}: neither a plain LoRA nor a DoRA: {what}",
        hint="git forge merges plain LoRA and DoRA: train without it, or convert the adapter with PEFT first",
    )


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
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key appears twice")
    return entries
