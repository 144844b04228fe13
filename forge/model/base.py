"""The shared, frozen CLIP model that every adapter of a repository belongs to."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from forge.errors import ForgeError
from forge.model.attention import PAPER_MODULES, VisualTower
from forge.model.base_config import FolderConfig
from forge.model.base_places import EMBEDDED_DIR as EMBEDDED_DIR  # the embedded base as a folder
from forge.model.base_places import Source, locate, resizes_as_named
from forge.model.fingerprint import identify
from forge.model.hf_text import bert_text, numbers_in, read_tokenizer, shapes_in
from forge.model.open_clip_import import import_open_clip, import_whole_open_clip, is_plain
from forge.model.unfilled import Unfilled

# What an adapter_config.json calls a base of git forge, before the fingerprint.
OWN_BASE = "git-forge:"

_AGAIN = "fetch the base again"


@dataclass(frozen=True)
class BaseModel:
    """A CLIP base, split for PEFT and frozen.

    `tower` embeds normalised images [n, 3, h, w]; `mean` and `std` are per channel of [0, 1] pixels;
    `logit_scale` is CLIP's temperature as a factor (already exponentiated). `description` says in words what weights
    do not show. `remark`, where there is one, is what its user should know of how it was recognised.
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
    description: str = ""
    remark: str | None = None
    _texts: dict[tuple[str, ...], Tensor] = field(default_factory=dict, repr=False)

    @property
    def device(self) -> torch.device:
        first: Tensor = next(self.tower.parameters())
        return first.device

    @property
    def settings_family(self) -> str:
        """Which defaults suit this base: "small" for open_clip's ViTs under 10 million parameters, else "paper"."""
        small = sum(p.numel() for p in self.tower.parameters()) < 10_000_000
        return "small" if small and self.tower.plugin_modules == PAPER_MODULES else "paper"

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

    A reference is `embedded`; `NAME/TAG`, an open_clip architecture with a pretrained tag; `NAME/TAG=FILE.safetensors`,
    the same with weights from a file; `NAME=FILE.safetensors`; or a folder that holds open_clip_config.json and
    open_clip_model.safetensors. `override` names where this machine keeps a base that others know by `reference`.

    Raises ForgeError where the base cannot be found, is not safetensors, holds numbers that are none, is not a
    supported ViT, or differs from the fingerprint.
    """
    place = override or reference
    import_open_clip()
    source = locate(place)
    import_whole_open_clip(source.config)
    clip = _build(source, place)
    clip.eval().requires_grad_(False)
    _check_finite(clip, source.weights)
    from open_clip.model import get_model_preprocess_cfg

    preprocess = {**get_model_preprocess_cfg(clip), **source.preprocess}
    mean, std = _per_channel(preprocess, "mean", place), _per_channel(preprocess, "std", place, least=1e-6)
    tokenizer = _tokenizer(source, place)
    identity = identify(clip, tokenizer, preprocess, source.config)
    actual, remark = identity.fingerprint, None
    if fingerprint == identity.older != actual and (as_named := resizes_as_named(reference, source)) is not False:
        actual = fingerprint
        if as_named is None:
            remark = (
                "the fingerprint of this base is of before resizing was part of it; here pictures are "
                f"{identity.resizing}: make sure that they were so where the model was made"
            )
    if fingerprint is not None and actual != fingerprint:
        raise ForgeError(
            f"the base found at {place} is not the one this repository was made with\n"
            f"  expected {fingerprint}\n  found    {actual}: {identity.description}",
            hint=_other_place(place, reference),
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
        mean=mean,
        std=std,
        preprocess=preprocess,
        model_config=source.config,
        bpe_path=source.bpe_path,
        logit_scale=scale,
        description=identity.description,
        remark=remark,
    )


def _other_place(place: str, reference: str) -> str:
    """What to try where a base is not the one that was asked for."""
    hint = "point this clone at the right weights with: git config forge.base <NAME/TAG, folder or NAME/TAG=FILE>"
    name, equals, file = place.partition("=")
    if equals and "/" not in name and reference.startswith(f"{name}/"):
        tagged = f"{reference.partition('=')[0]}={file}"
        return f"a tag also says which activation and pixels go with its weights: git config forge.base {tagged}"
    return hint


def _check_finite(clip: Any, weights: Path) -> None:
    for name, value in clip.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ForgeError(f"{weights} holds numbers that are none (NaN or infinity) in {name}", hint=_AGAIN)


def _per_channel(preprocess: dict[str, Any], name: str, place: str, least: float = -math.inf) -> tuple[float, ...]:
    values = preprocess.get(name)
    if not isinstance(values, list | tuple) or len(values) != 3 or {type(v) for v in values} - {int, float}:
        raise ForgeError(f"the base at {place} gives {name} {values!r} for its pixels, not one number per channel")
    if not all(math.isfinite(value) and value >= least for value in values):
        raise ForgeError(
            f"the base at {place} gives {name} {values!r} for its pixels, by which none can be normalised",
            hint="a deviation is above 0; correct preprocess_cfg, or fetch the base again",
        )
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
        # Every weight is loaded: load_checkpoint is strict. What timm and transformers do first is their own.
        with _quiet(), Unfilled() if is_plain(source.config) else nullcontext():
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
    """The CLIP that a folder's checked configuration describes, its weights not loaded yet.

    Built without memory first: what claims to be far larger than its weights is refused before it fills this machine.
    """
    from accelerate import init_empty_weights
    from open_clip.model import set_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict
    from safetensors import SafetensorError

    try:
        shapes = shapes_in(weights)
    except (SafetensorError, OSError) as error:
        raise _broken_weights(weights, error) from error
    with init_empty_weights():
        claimed = sum(parameter.numel() for parameter in _parts(config, shapes, weights).parameters())
    there = numbers_in(shapes)
    if claimed > 2 * there + 2**20:  # positions are resized to other image sizes
        raise ForgeError(
            f"{weights} does not fit the architecture beside it: {there:,} numbers, where {claimed:,} are needed",
            hint=_AGAIN,
        )
    clip = _parts(config, shapes, weights)
    preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), config.preprocess)
    set_model_preprocess_cfg(clip, {**preprocess, "size": clip.visual.image_size})
    return clip


def _parts(config: FolderConfig, shapes: Mapping[str, tuple[int, ...]], weights: Path) -> Any:
    from open_clip.model import CLIP, CustomTextCLIP

    kind = CustomTextCLIP if config.custom_text else CLIP
    if config.bert is None:
        return kind(**config.model)
    clip = kind(**{**config.model, "text_cfg": {"width": 8, "heads": 1, "layers": 1, "vocab_size": 8}})
    clip.text = bert_text(shapes, config.bert, config.model["embed_dim"], weights)
    return clip


def _broken_weights(weights: Path, error: Exception) -> ForgeError:
    return ForgeError(f"{weights} cannot be read as safetensors: {error}", hint=_AGAIN)


def _tokenizer(source: Source, place: str) -> Callable[[list[str]], Tensor]:
    import open_clip

    try:
        if source.folder is None:
            return open_clip.get_tokenizer(source.name)  # type: ignore[no-any-return]
        folder = source.folder
        arguments = {**folder.tokenizer, **({"bpe_path": str(folder.bpe_path)} if folder.bpe_path else {})}
        length = folder.config["text_cfg"].get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
        if folder.tokenizer_json:
            return read_tokenizer(source.weights.parent, folder.tokenizer, length)
        return open_clip.SimpleTokenizer(context_length=length, **arguments)  # type: ignore[no-any-return]
    except ForgeError:
        raise
    except Exception as error:
        name = source.config["text_cfg"].get("hf_tokenizer_name")
        raise ForgeError(
            f"the label tokeniser of the base at {place} cannot be read: {error}"[:500],
            hint=f"fetch {name} where there is a network: hf download {name}" if name else None,
        ) from error


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
