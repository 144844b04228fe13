"""What other programs call the modules of the same tower: open_clip, timm, transformers, and what wraps a model.

A LoRA or DoRA that was trained under other names is the same adapter: its factors are taken as they are, those of a
packed q, k, v row by row. Names decide nothing here: shapes are checked where an adapter is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from torch import Tensor

from forge.errors import ForgeError
from forge.formats.adapter import (
    ELSEWHERE_KEYS,
    LORA_A,
    LORA_B,
    MAGNITUDE,
    MODULES_KEY,
    WEIGHT,
    class_of_origin,
    factor_of,
    key_of,
    without_prefix,
)
from forge.text import printable

_WRAPPERS = ("module", "_orig_mod")  # of DistributedDataParallel and torch.compile, anywhere in a name
_KEY = re.compile(rf"(.+)\.({LORA_A}|{LORA_B}|{MAGNITUDE})(?:\.(?!weight$)([^.]+))?(?:\.weight)?")
_TEXT = re.compile(r"(^|\.)(text|text_model|text_projection|text_encoder|textual)(\.|$)")
_OWN = "git forge"
_DEPTH = 8  # of models within models, which are other people's words
_PARTS = ("q_proj", "k_proj", "v_proj")
_PACKED = ".qkv"  # timm's one Linear for the three


@dataclass(frozen=True)
class Renamed:
    """An adapter under the tower's own names, as adapter_config.json and tensors. spelling: whose names they were."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    spelling: str


def in_own_names(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], modules: Collection[str], *, source: str
) -> Renamed | None:
    """An adapter that was trained under other names, under those of the tower's `modules`; None where nothing differs.

    None, too, where something is no part of a LoRA or DoRA, which whoever reads the adapter refuses by name. Raises
    ForgeError naming `source` and what is in the way: a module that is not there, or is called what none is known as.
    """
    own_tensors: dict[str, Tensor] = {}
    spellings, outer, adapters = set(), set(), set()
    vision = "vision" in class_of_origin(config).lower()
    for key, tensor in sorted(tensors.items()):
        match = _KEY.fullmatch(key)
        if match is None:
            return None
        path, part, adapter = match.groups()
        names, spelling, around = _resolve(_stripped(path), modules, vision) or _refuse(source, path, modules)
        spellings.add(spelling)
        outer.add(around)
        adapters.add(adapter)
        # lora_A reads what goes in, which q, k and v share; the others have a row for everything that comes out.
        shared = part == LORA_A or len(names) == 1
        pieces = [tensor.clone() for _ in names] if shared else _rows(tensor, len(names))
        if len(pieces) != len(names):
            raise ForgeError(f"{source}: {printable(key)!r} has too few rows for q, k and v", hint=_AGAIN)
        for name, piece in zip(names, pieces, strict=True):
            own = key_of(name, part)
            if own in own_tensors:
                raise ForgeError(f"{source}: {printable(key)!r} is there under two names", hint=_AGAIN)
            own_tensors[own] = piece.contiguous()
    if len(outer) > 1 or len(adapters) > 1:
        several = sorted(str(each) for each in (outer if len(outer) > 1 else adapters))
        raise ForgeError(
            f"{source}: this is more than one adapter, or one on more than one model: {printable(', '.join(several))}",
            hint="save each on its own",
        )
    if set(own_tensors) == {key.removesuffix(WEIGHT) if key.endswith(MAGNITUDE + WEIGHT) else key for key in tensors}:
        return None
    targets = sorted({place[0] for key in own_tensors if (place := factor_of(key))})
    kept = {key: None if key in ELSEWHERE_KEYS else value for key, value in config.items()}
    return Renamed(
        {**kept, MODULES_KEY: targets}, own_tensors, " and ".join(sorted(spellings - {_OWN} or {"what wraps a model"}))
    )


def why_unknown(name: str, modules: Collection[str]) -> str:
    """What helps where an adapter changes what is not among `modules`: another name, tower or number of layers."""
    if _TEXT.search(name):
        return "contributions change the visual tower alone: train with target_modules that match nothing of the text's"
    if _resolve(_stripped(name), modules, False) is not None:
        return "that is another program's name: take the adapter in with git forge add, which renames it"
    if _resolve(_stripped(name), modules, True) is not None:
        return "it does not say whether that is the visual tower: call it vision_model.encoder, as in the whole CLIP"
    if _resolve([*_stripped(name.partition(".base_layer")[0]), "q_proj"], modules, True) is not None:
        # Seen in PEFT 0.21: MultiheadAttention.merge adds out_proj's change itself, and has out_proj add it again.
        return "PEFT adapts packed attention as one and counts its out_proj twice: train on q_proj and v_proj apart"
    layers = {int(number) for each in modules for number in re.findall(r"\.(\d+)\.", each)}
    number = re.search(r"\.(\d+)\.", name)
    if number is not None and int(number[1]) not in layers:
        zeroth = name[: number.start(1)] + "0" + name[number.end(1) :]
        if _resolve(_stripped(zeroth), modules, True) is not None:
            return f"this base has {len(layers)} layers, so the adapter was trained on a larger one"
    return f"an adapter may change Linear modules of the visual tower, here called {_examples(modules)}"


_AGAIN = "export the adapter again"


def _rows(tensor: Tensor, parts: int) -> Sequence[Tensor]:
    return tensor.chunk(parts) if tensor.ndim else ()


def _refuse(source: str, path: str, modules: Collection[str]) -> NoReturn:
    name = ".".join(_stripped(path))
    raise ForgeError(
        f"{source}: the adapter changes {printable(name)!r}, which this base does not have",
        hint=why_unknown(name, modules),
    )


def _stripped(path: str) -> list[str]:
    """The parts of a module's name in the model itself, without what PEFT and other wrappers put around it."""
    parts = [part for part in path.split(".") if part not in _WRAPPERS]
    return [*without_prefix(parts)]


def _resolve(parts: Sequence[str], modules: Collection[str], vision: bool) -> tuple[list[str], str, str] | None:
    """(the tower's modules, whose spelling, what the model is part of) of a module's name in another program.

    vision: a bare `encoder` is the visual one; without that it may as well be the text's.
    """
    for start in range(min(len(parts), _DEPTH)):
        around = ".".join(parts[:start])
        if _TEXT.search(around):
            return None
        for name, spelling in _candidates(".".join(parts[start:]), vision, start == 0):
            if name in modules:
                return [name], spelling, around
            if name.endswith(_PACKED) and f"{name}.q_proj" in modules:
                return [f"{name}.{part}" for part in _PARTS], spelling, around
    return None


def _candidates(name: str, vision: bool, whole: bool) -> Iterator[tuple[str, str]]:
    """What the tower may call a module, and who calls it `name`."""
    if whole:
        yield name, _OWN
    first, _, rest = name.partition(".")
    if first == "visual" or (first == "blocks" and rest):
        inner = rest if first == "visual" else f"trunk.{name}"
        program = "open_clip" if first == "visual" else "timm"
        yield ("projection" if inner in ("head.proj", "trunk.head") else f"trunk.{inner}"), program
    if name == "visual_projection":
        yield "projection", "transformers"
    if first == "vision_model" or (vision and first == "encoder"):
        inner = name.removeprefix("vision_model.")
        layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(?:self_attn\.(\w+)|mlp\.(fc[12]))", inner)
        if layer is not None:
            number, attention, mlp = layer.groups()
            of_clip = f"attn.{attention}" if attention else f"mlp.{'c_fc' if mlp == 'fc1' else 'c_proj'}"
            yield f"trunk.transformer.resblocks.{number}.{of_clip}", "transformers"
            of_timm = f"mlp.{mlp}" if mlp else "attn.proj" if attention == "out_proj" else f"attn.qkv.{attention}"
            yield f"trunk.trunk.blocks.{number}.{of_timm}", "transformers"
        pool = re.fullmatch(r"head\.mlp\.(fc[12])", inner)
        if pool is not None:
            yield f"trunk.trunk.attn_pool.mlp.{pool[1]}", "transformers"


def _examples(modules: Collection[str]) -> str:
    names = [each for each in sorted(modules) if re.search(r"\.0\.", each) or "." not in each]
    return ", ".join(names[:3])
