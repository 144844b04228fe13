"""The shared, frozen CLIP model that every adapter of a repository belongs to."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from forge.errors import ForgeError
from forge.model.attention import VisualTower
from forge.model.base_config import FolderConfig
from forge.model.base_places import Source, locate

# Texts whose tokens stand for the tokeniser in the fingerprint: two bases that read labels differently are
# different bases even where their weights are equal.
PROBE_TEXTS = (
    "lung squamous cell carcinomas",
    "Benign Breast Tissues, grade II/III (40x)",
    "the quick brown fox jumps over the lazy dog 0123456789",
    "naïve café größe µm — “quoted”",
)

# What an adapter_config.json calls a base of git forge, before the fingerprint.
OWN_BASE = "git-forge:"


@dataclass(frozen=True)
class BaseModel:
    """A CLIP base, split for PEFT and frozen.

    `tower` embeds normalised images [n, 3, h, w]; `mean` and `std` are per channel of [0, 1] pixels;
    `logit_scale` is CLIP's temperature as a factor (already exponentiated).
    """

    reference: str
    fingerprint: str
    clip: Any
    tower: VisualTower
    tokenizer: Callable[[list[str]], Tensor]
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocess: dict[str, Any]
    model_config: dict[str, Any]
    bpe_path: Path | None
    logit_scale: float
    _texts: dict[tuple[str, ...], Tensor] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        first: Tensor = next(self.tower.parameters())
        return first.device

    @property
    def settings_family(self) -> str:
        """Which defaults suit this base: "small" for towers under 10 million parameters, else "paper"."""
        return "small" if sum(p.numel() for p in self.tower.parameters()) < 10_000_000 else "paper"

    def goes_by(self, name: str) -> bool:
        """Whether an adapter_config.json means this base by `name`."""
        return name == f"{OWN_BASE}{self.fingerprint}"

    def prepare(self, pixels: Tensor) -> Tensor:
        """A batch as the tower takes it: uint8 pixels are normalised now, floats were normalised before.

        Real images stay uint8 until they are used: ten thousand of 224 pixels are 1.5 GB so, 6 as floats.
        """
        return self.normalise(pixels) if pixels.dtype == torch.uint8 else pixels

    def normalise(self, pixels: Tensor) -> Tensor:
        """[0, 1] pixels (or uint8) [n, 3, h, w] in the tower's normalised space."""
        pixels = pixels.to(self.device)
        if pixels.dtype == torch.uint8:
            pixels = pixels.float() / 255
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (self.mean, self.std))
        return (pixels - mean) / std

    def text_embeddings(self, labels: tuple[str, ...]) -> Tensor:
        """Unit-length embeddings [classes, joint width] of the label texts; computed once per label set."""
        if labels not in self._texts:
            with torch.no_grad():
                tokens = self.tokenizer(list(labels)).to(self.device)
                self._texts[labels] = F.normalize(self.clip.encode_text(tokens), dim=-1)
        return self._texts[labels]


def load_base(reference: str, *, fingerprint: str | None = None, override: str | None = None) -> BaseModel:
    """Load a base by reference and, where a fingerprint is given, make sure that it is that very model.

    A reference is `embedded`; `NAME/TAG`, an open_clip architecture with a pretrained tag; a folder that holds
    open_clip_config.json and open_clip_model.safetensors; or `NAME=FILE.safetensors`. `override` names where
    this machine keeps a base that others know by `reference`.

    Raises ForgeError where the base cannot be found, is not safetensors, is not a supported ViT, or differs
    from the fingerprint.
    """
    place = override or reference
    source = locate(place)
    clip = _build(source, place)
    clip.eval().requires_grad_(False)
    from open_clip.model import get_model_preprocess_cfg

    preprocess = {**get_model_preprocess_cfg(clip), **source.preprocess}
    tokenizer = _tokenizer(source, place)
    actual = _fingerprint(clip, tokenizer, preprocess)
    if fingerprint is not None and actual != fingerprint:
        raise ForgeError(
            f"the base found at {place} is not the one this repository was made with\n"
            f"  expected {fingerprint}\n  found    {actual}",
            hint="point this clone at the right weights with: git config forge.base <NAME/TAG, folder or NAME=FILE>",
        )
    size = clip.visual.image_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    scale = float(clip.logit_scale.exp())
    tower = VisualTower(clip.visual)
    # PEFT writes this into adapter_config.json, so that a stray adapter tells what it was trained on.
    tower.name_or_path = f"{OWN_BASE}{actual}"  # type: ignore[assignment]
    clip.visual = torch.nn.Identity()
    tower.eval().requires_grad_(False)
    device = _device()
    return BaseModel(
        reference=reference,
        fingerprint=actual,
        clip=clip.to(device),
        tower=tower.to(device),
        tokenizer=tokenizer,
        image_size=(int(size[0]), int(size[1])),
        mean=_per_channel(preprocess, "mean", place),
        std=_per_channel(preprocess, "std", place),
        preprocess=preprocess,
        model_config=source.config,
        bpe_path=source.bpe_path,
        logit_scale=scale,
    )


def _per_channel(preprocess: dict[str, Any], name: str, place: str) -> tuple[float, ...]:
    values = preprocess.get(name)
    if not isinstance(values, list | tuple) or len(values) != 3 or {type(v) for v in values} - {int, float}:
        raise ForgeError(f"the base at {place} gives {name} {values!r} for its pixels, not one number per channel")
    return tuple(float(value) for value in values)


def _device() -> torch.device:
    from accelerate import PartialState

    device: torch.device = PartialState().device
    return device


def _build(source: Source, place: str) -> Any:
    """The open_clip model of a source, weights loaded from safetensors alone."""
    import open_clip
    from safetensors import SafetensorError

    try:
        with _quiet():
            if source.folder is not None:
                clip = _build_folder(source.folder, source.weights)
            else:
                clip = open_clip.create_model(
                    source.name, load_weights=False, pretrained_text=False, force_quick_gelu=source.quick_gelu
                )
    except (ForgeError, SafetensorError):
        raise
    except Exception as error:
        raise ForgeError(f"open_clip cannot build the base at {place} from its configuration: {error}") from error
    try:
        open_clip.load_checkpoint(clip, str(source.weights))
    except (SafetensorError, OSError) as error:
        raise _broken_weights(source.weights, error) from error
    except Exception as error:  # open_clip asserts, indexes and reshapes on the way
        reason = " ".join(str(error).split())[:200]
        raise ForgeError(
            f"{source.weights} does not fit the architecture of {place}: {reason}", hint="check the NAME in NAME=FILE"
        ) from error
    return clip


def _build_folder(config: FolderConfig, weights: Path) -> Any:
    """The CLIP that a folder's checked configuration describes, with random weights.

    Built without memory first: what claims to be far larger than its weights is refused before it fills this machine.
    """
    from open_clip.model import CLIP, CustomTextCLIP, set_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    kind = CustomTextCLIP if config.custom_text else CLIP
    with torch.device("meta"):
        claimed = sum(parameter.numel() for parameter in kind(**config.model).parameters())
    there = _numbers_in(weights)
    if claimed > 2 * there + 2**20:  # positions are resized to other image sizes
        raise ForgeError(
            f"{weights} does not fit the architecture beside it: {there:,} numbers, where {claimed:,} are needed",
            hint="fetch the base again",
        )
    clip = kind(**config.model)
    preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), config.preprocess)
    set_model_preprocess_cfg(clip, {**preprocess, "size": clip.visual.image_size})
    return clip


def _numbers_in(weights: Path) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="pt") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError) as error:
        raise _broken_weights(weights, error) from error


def _broken_weights(weights: Path, error: Exception) -> ForgeError:
    return ForgeError(f"{weights} cannot be read as safetensors: {error}", hint="fetch the base again")


def _tokenizer(source: Source, place: str) -> Callable[[list[str]], Tensor]:
    import open_clip

    try:
        if source.folder is None:
            return open_clip.get_tokenizer(source.name)  # type: ignore[no-any-return]
        found = source.folder
        arguments = {**found.tokenizer, **({"bpe_path": str(found.bpe_path)} if found.bpe_path else {})}
        length = found.model["text_cfg"].get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
        return open_clip.SimpleTokenizer(context_length=length, **arguments)  # type: ignore[no-any-return]
    except Exception as error:
        raise ForgeError(f"the label tokeniser of the base at {place} cannot be read: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip logs a warning for every model built without weights, which is how we build all of them."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _fingerprint(clip: Any, tokenizer: Callable[[list[str]], Tensor], preprocess: dict[str, Any]) -> str:
    """sha256 over every weight as float32 (by name), what weights do not show, the probe texts' tokens and the
    pixel normalisation.

    The number of heads and the activation change no shape, so that the same weights fit another model.
    """
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
    return f"sha256:{digest.hexdigest()}"
