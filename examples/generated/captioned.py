"""The embedded base's pretraining set: a seeded mix of shapes, textures, digits and tissue, with captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from examples.generated.glyphs import draw_glyphs
from examples.generated.painting import Bytes, Floats, to_bytes, uniform
from examples.generated.shapes import draw_shapes
from examples.generated.textures import draw_textures
from examples.generated.tissue import GROUND, NUCLEAR, Stain, Tissue, absorb, make_stain

Mix = Mapping[str, float]  # the share of each kind

MIX: Final[Mix] = {"shapes": 0.30, "textures": 0.10, "glyphs": 0.18, "tissue": 0.42}
GLYPH_MIX: Final[Mix] = {"shapes": 0.18, "textures": 0.06, "glyphs": 0.50, "tissue": 0.26}
_CHUNK: Final = 1000

# An organ's only mark is its stain, so that the words are known and say nothing of sick or well.
ORGANS: Final[dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]]] = {
    "breast": ((0.95, 1.05, 0.42), (0.10, 0.62, 0.32)),
    "lung": ((1.05, 0.95, 0.35), (0.16, 0.50, 0.18)),
    "colon": ((0.85, 1.10, 0.55), (0.10, 0.58, 0.42)),
    "skin": ((0.80, 0.95, 0.60), (0.06, 0.45, 0.38)),
    "liver": ((0.90, 0.95, 0.50), (0.22, 0.60, 0.55)),
    "kidney": ((1.10, 1.05, 0.45), (0.28, 0.55, 0.22)),
    "brain": ((1.00, 0.90, 0.30), (0.20, 0.38, 0.15)),
}


@dataclass(frozen=True)
class CaptionedImages:
    """Images uint8 [n, 32, 32, 3] and their n captions."""

    images: Bytes
    captions: tuple[str, ...]


def _random_stain(rng: np.random.Generator, count: int, organs: list[str | None]) -> Stain:
    """An organ's own stain where one is named, anything between pink and violet elsewhere."""
    wide = make_stain(rng, count, NUCLEAR, GROUND, jitter=0.16)
    nuclear, ground = wide.nuclear.copy(), wide.ground.copy()
    for organ, (centre, pale) in ORGANS.items():
        chosen = np.flatnonzero([name == organ for name in organs])
        own = make_stain(rng, len(chosen), centre, pale, jitter=0.05)
        nuclear[chosen], ground[chosen] = own.nuclear, own.ground
    return Stain(nuclear, ground)


def _grade(value: float, low: str, high: str) -> str:
    """The word for a latent's end of the scale, nothing in the middle."""
    return low if value < 0.33 else high if value > 0.67 else ""


def _nuclei_words(values: dict[str, float], chosen: tuple[bool, ...]) -> str:
    words = (
        _grade(values["density"], "few", "dense"),
        _grade(values["size"], "small", "large"),
        _grade(values["variety"], "uniform", "irregular"),
        _grade(values["darkness"], "pale", "dark"),
    )
    said = [word for word, wanted in zip(words, chosen, strict=True) if word and wanted]
    return " ".join([*said, "nuclei"])


def _gland_words(values: dict[str, float]) -> str:
    number = _grade(values["glands"], "no", "many")
    if number == "no":
        return "no glands"
    return " ".join(word for word in (number, _grade(values["disorder"], "round", "distorted"), "glands") if word)


def _ground_words(values: dict[str, float]) -> str:
    if values["keratin"] > 0.6:
        return "keratin"
    return _grade(values["fibres"], "smooth stroma", "fibrous stroma")


def _tissue_caption(
    rng: np.random.Generator, values: dict[str, float], organ: str | None, severity: float | None
) -> str:
    nuclei = _nuclei_words(values, tuple(rng.random(4) < 0.6))
    parts = [nuclei] if nuclei != "nuclei" else []
    if rng.random() < 0.55:
        parts.append(_gland_words(values))
    ground = _ground_words(values)
    if ground and rng.random() < 0.4:
        parts.append(ground)
    if severity is not None and rng.random() < 0.45:
        level = ("calm", "mildly changed", "atypical", "highly atypical")[min(int(severity * 4), 3)]
        head = f"{level} {organ} tissue" if organ else f"{level} tissue"
    else:
        head = f"{organ} tissue" if organ else ("tissue", "a stained slide", "")[rng.integers(0, 3)]
    if not parts:
        return head or "a stained slide of tissue"
    return f"{head} with {' and '.join(parts)}" if head else " and ".join(parts)


def draw_tissue(rng: np.random.Generator, count: int) -> tuple[Bytes, list[str]]:
    """Tissue-like images with captions of what can be seen: images uint8 [count, 32, 32, 3] and captions."""
    names = ("density", "size", "variety", "darkness", "glands", "disorder", "fibres", "keratin")
    latents: dict[str, Floats] = {name: uniform(rng, 0, 1, count) for name in names}
    severity = uniform(rng, 0, 1, count)
    graded = rng.random(count) < 0.5
    for name in ("density", "size", "variety", "darkness", "disorder"):
        latents[name] = np.where(graded, 0.7 * severity + 0.3 * latents[name], latents[name]).astype(np.float32)
    latents["glands"] = np.where(rng.random(count) < 0.25, 0.0, latents["glands"]).astype(np.float32)
    latents["keratin"] = np.where(rng.random(count) < 0.7, 0.0, latents["keratin"]).astype(np.float32)
    known = tuple(ORGANS)
    organs = [known[k] if k < len(known) else None for k in rng.integers(0, 2 * len(known), count)]
    images = absorb(rng, Tissue(**latents), _random_stain(rng, count, organs))
    captions = [
        _tissue_caption(
            rng,
            {name: float(values[i]) for name, values in latents.items()},
            organs[i],
            float(severity[i]) if graded[i] else None,
        )
        for i in range(count)
    ]
    return to_bytes(images), captions


_DRAW: Final = {"shapes": draw_shapes, "textures": draw_textures, "glyphs": draw_glyphs, "tissue": draw_tissue}


def captioned_images(seed: int, count: int, mix: Mix = MIX) -> CaptionedImages:
    """The seeded mix, shuffled; the same seed, count and mix give the same bytes. About 2,500 images a second."""
    images: list[Bytes] = []
    captions: list[str] = []
    for number, start in enumerate(range(0, count, _CHUNK)):
        rng = np.random.default_rng([seed, number])
        size = min(_CHUNK, count - start)
        parts = rng.multinomial(size, list(mix.values()))
        chunk: list[Bytes] = []
        said: list[str] = []
        for kind, part in zip(mix, parts, strict=True):
            drawn, told = _DRAW[kind](rng, int(part))
            chunk.append(drawn)
            said.extend(told)
        order = rng.permutation(size)
        images.append(np.concatenate(chunk)[order])
        captions.extend(said[i] for i in order)
    return CaptionedImages(np.concatenate(images), tuple(captions))
