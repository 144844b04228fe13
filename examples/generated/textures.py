"""Captioned images of regular textures: stripes, checks, dots and the like in two colours."""

from __future__ import annotations

from typing import Final

import numpy as np

from examples.generated.painting import (
    COLOUR_NAMES,
    GRID_X,
    GRID_Y,
    Bytes,
    Floats,
    blend,
    distinct_pairs,
    jittered_colours,
    normal,
    plain,
    smooth_noise,
    to_bytes,
    uniform,
)

TEXTURES: Final = (
    "horizontal stripes", "vertical stripes", "diagonal stripes", "checks", "dots", "waves", "rings", "grain",
    "clouds", "fade",
)  # fmt: skip
SCALES: Final = (("fine", 7.5), ("", 5.0), ("coarse", 3.0))


def _pattern(rng: np.random.Generator, texture: str, cycles: Floats) -> Floats:
    """Values [n, 32, 32] of one texture, its two colours at 0 and 1; cycles [n] across the image."""
    count = len(cycles)
    omega = (cycles * np.float32(2 * np.pi))[:, None, None]
    phase, phase_y = uniform(rng, 0, 2 * np.pi, (2, count, 1, 1))
    tilt = normal(rng, 0.08, (count, 1, 1))
    x, y = GRID_X + tilt * GRID_Y, GRID_Y - tilt * GRID_X
    match texture:
        case "horizontal stripes":
            wave = np.sin(omega * y + phase)
        case "vertical stripes":
            wave = np.sin(omega * x + phase)
        case "diagonal stripes":
            slant = np.where(rng.random((count, 1, 1)) < 0.5, 1.0, -1.0)
            wave = np.sin(omega * 0.75 * (x + slant * y) + phase)
        case "checks":
            wave = np.sin(omega * 0.7 * x + phase) * np.sin(omega * 0.7 * y + phase_y) * 3
        case "dots":
            wave = np.sin(omega * 0.8 * x + phase) + np.sin(omega * 0.8 * y + phase_y) - 0.9
        case "waves":
            wave = np.sin(omega * (y + 0.06 * np.sin(4 * np.pi * x + phase_y)) + phase)
        case "rings":
            wave = np.sin(omega * np.hypot(x - 0.5, y - 0.5) + phase)
        case "grain":
            wave = normal(rng, 0.5, (count, 32, 32))
        case "clouds":
            wave = 0.35 * smooth_noise(rng, count, 5)
        case _:
            angle = uniform(rng, 0, 2 * np.pi, (count, 1, 1))
            wave = ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)) * 0.5
    return np.asarray(np.clip(0.5 + 2 * wave, 0, 1), dtype=np.float32)


def draw_textures(rng: np.random.Generator, count: int) -> tuple[Bytes, list[str]]:
    """Two-coloured textures: images uint8 [count, 32, 32, 3] and captions."""
    first, second = distinct_pairs(rng, count, len(COLOUR_NAMES))
    kind = rng.integers(0, len(TEXTURES), count)
    scale = rng.integers(0, len(SCALES), count)
    cycles = np.array([value for _, value in SCALES], dtype=np.float32)[scale] * uniform(rng, 0.87, 1.15, count)
    values = np.zeros((count, 32, 32), dtype=np.float32)
    for number, texture in enumerate(TEXTURES):
        chosen = np.flatnonzero(kind == number)
        if chosen.size:
            values[chosen] = _pattern(rng, texture, cycles[chosen])
    images = blend(plain(jittered_colours(rng, second)), jittered_colours(rng, first), values)
    images = images + normal(rng, 0.02, images.shape)
    wording = rng.integers(0, 3, count)
    captions = []
    for i in range(count):
        one, two = COLOUR_NAMES[first[i]], COLOUR_NAMES[second[i]]
        scaled = TEXTURES[kind[i]] if kind[i] > 6 else f"{SCALES[scale[i]][0]} {TEXTURES[kind[i]]}".strip()
        captions.append(
            (f"{scaled} in {one} and {two}", f"a texture of {scaled}", f"{one} {scaled} on {two}")[wording[i]]
        )
    return to_bytes(images), captions
