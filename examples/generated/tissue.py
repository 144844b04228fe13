"""Tissue-like images: stained nuclei, glands and fibres, drawn by Beer-Lambert absorption of two stains.

They look a little like haematoxylin and eosin slides and mean nothing medically. Every image has latent numbers in
[0, 1] (how many nuclei, how large, how uneven, ...), from which captions and the tasks' labels are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from examples.generated.painting import GRID_X, GRID_Y, SIZE, Floats, normal, smooth_noise, uniform

_STAMP: Final = 11  # side of the patch that one nucleus is drawn in
_MOST_GLANDS: Final = 3


@dataclass(frozen=True)
class Tissue:
    """Latents of n images, each float32 [n] in about [0, 1]."""

    density: Floats  # how many nuclei
    size: Floats  # how large they are
    variety: Floats  # pleomorphism: how uneven in size, form and darkness
    darkness: Floats  # how much stain nuclei take up
    glands: Floats  # how many rings of nuclei around an open lumen
    disorder: Floats  # how irregular those rings are
    fibres: Floats  # how streaky the ground is
    keratin: Floats  # how many rounded, strongly pink patches


@dataclass(frozen=True)
class Stain:
    """Absorption of the two stains per image, float32 [n, 3] over red, green, blue."""

    nuclear: Floats
    ground: Floats


NUCLEAR: Final = (0.95, 1.05, 0.42)  # haematoxylin: blue-violet
GROUND: Final = (0.10, 0.55, 0.28)  # eosin: pink


def make_stain(
    rng: np.random.Generator,
    count: int,
    nuclear: tuple[float, float, float] = NUCLEAR,
    ground: tuple[float, float, float] = GROUND,
    jitter: float = 0.07,
) -> Stain:
    """Stains around the given absorption, off by `jitter` per image and channel and in strength."""

    def around(centre: tuple[float, float, float]) -> Floats:
        strength = 1 + normal(rng, jitter, (count, 1))
        colour = np.asarray(centre, dtype=np.float32) * strength + normal(rng, jitter, (count, 3))
        return np.asarray(np.clip(colour, 0.02, 2.0), dtype=np.float32)

    return Stain(around(nuclear), around(ground))


def _glands(rng: np.random.Generator, tissue: Tissue) -> tuple[Floats, Floats, Floats, Floats]:
    """Presence, centres and radii [n, most] of glands: present (0/1), x, y, radius."""
    count = len(tissue.glands)
    slot = (np.arange(_MOST_GLANDS, dtype=np.float32) + uniform(rng, 0, 1, (count, 1)))[None][0]
    present = (slot < tissue.glands[:, None] * (_MOST_GLANDS + 0.4)).astype(np.float32)
    angle = uniform(rng, 0, 2 * np.pi, (count, 1)) + np.arange(_MOST_GLANDS) * (2 * np.pi / 3)
    angle = angle + normal(rng, 0.25, (count, _MOST_GLANDS))
    reach = uniform(rng, 0.2, 0.34, (count, _MOST_GLANDS))
    radius = uniform(rng, 0.12, 0.2, (count, _MOST_GLANDS))
    x, y = 0.5 + reach * np.cos(angle), 0.5 + reach * np.sin(angle)
    return present, x.astype(np.float32), y.astype(np.float32), radius


def _lumens(tissue: Tissue, glands: tuple[Floats, Floats, Floats, Floats], warp: Floats) -> Floats:
    """Open space [n, 32, 32] in [0, 1] inside the glands, its outline bent by disorder."""
    present, x, y, radius = glands
    space = np.zeros(warp.shape, dtype=np.float32)
    bend = warp * (0.05 * tissue.disorder)[:, None, None]
    for number in range(_MOST_GLANDS):
        away = np.hypot(GRID_X - x[:, number, None, None], GRID_Y - y[:, number, None, None]) + bend
        inside = np.clip((radius[:, number, None, None] * 0.75 - away) * 24 + 0.5, 0, 1)
        np.maximum(space, inside * present[:, number, None, None], out=space)
    return space


def _stamp_nuclei(
    image: Floats, x: Floats, y: Floats, a: Floats, b: Floats, turn: Floats, depth: Floats, n: int
) -> Floats:
    """Nuclear stain [n, 32, 32]: ellipses with half axes a, b in pixels, each [m], summed up."""
    offset = np.arange(_STAMP, dtype=np.float32) - _STAMP // 2
    column, row = np.floor(x), np.floor(y)
    dx = (column - x + 0.5)[:, None, None] + offset[None, None, :]
    dy = (row - y + 0.5)[:, None, None] + offset[None, :, None]
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    along, across = (dx * cos + dy * sin) / a[:, None, None], (dy * cos - dx * sin) / b[:, None, None]
    distance = (np.sqrt(along * along + across * across) - 1) * np.sqrt(a * b)[:, None, None]
    value = np.clip(0.5 - distance, 0, 1) * depth[:, None, None]
    px, py = column[:, None, None] + offset[None, None, :], row[:, None, None] + offset[None, :, None]
    value *= (px >= 0) & (px < SIZE) & (py >= 0) & (py < SIZE)
    index = np.clip(py, 0, SIZE - 1) * SIZE + np.clip(px, 0, SIZE - 1)
    flat = index.astype(np.int64) + image.astype(np.int64)[:, None, None] * (SIZE * SIZE)
    total = np.bincount(flat.ravel(), weights=value.ravel(), minlength=n * SIZE * SIZE)
    return total.reshape(n, SIZE, SIZE).astype(np.float32)


def _nuclei(rng: np.random.Generator, tissue: Tissue, glands: tuple[Floats, Floats, Floats, Floats]) -> Floats:
    """Nuclear stain [n, 32, 32]: some lie around the glands, the others anywhere."""
    count = len(tissue.density)
    most = 34
    number = 4 + tissue.density * 24 + normal(rng, 1.0, count)
    image, slot = np.nonzero(np.arange(most)[None, :] < np.clip(number, 1, most)[:, None])
    total = len(image)
    present, gx, gy, radius = glands
    # A nucleus joins a gland more often the more glands there are; disorder moves it off the ring.
    gland = slot % _MOST_GLANDS
    ringed = (present[image, gland] > 0) & (rng.random(total) < 0.8)
    angle = uniform(rng, 0, 2 * np.pi, total)
    spread = normal(rng, 1.0, total) * (0.012 + 0.07 * tissue.disorder[image])
    reach = radius[image, gland] * 1.05 + spread
    x = np.where(ringed, gx[image, gland] + reach * np.cos(angle), uniform(rng, -0.03, 1.03, total)) * SIZE
    y = np.where(ringed, gy[image, gland] + reach * np.sin(angle), uniform(rng, -0.03, 1.03, total)) * SIZE
    variety = tissue.variety[image]
    mean = 1.15 + 1.5 * tissue.size[image]
    half = mean * np.exp(normal(rng, 1.0, total) * (0.06 + 0.34 * variety))
    aspect = np.exp(np.abs(normal(rng, 1.0, total)) * (0.1 + 0.35 * variety))
    a, b = np.clip(half * np.sqrt(aspect), 0.7, 5.0), np.clip(half / np.sqrt(aspect), 0.7, 5.0)
    depth = (0.55 + 0.75 * tissue.darkness[image]) * np.exp(normal(rng, 1.0, total) * (0.05 + 0.25 * variety))
    turn = uniform(rng, 0, np.pi, total)
    parts = [array.astype(np.float32) for array in (image, x, y, a, b, turn, depth)]
    return _stamp_nuclei(parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6], count)


def absorb(rng: np.random.Generator, tissue: Tissue, stain: Stain, noise: float = 0.06) -> Floats:
    """Images float32 [n, 32, 32, 3] in about [0, 1]: light left over by the two stains, plus pixel noise."""
    count = len(tissue.density)
    glands = _glands(rng, tissue)
    warp = smooth_noise(rng, count, 6)
    lumen = _lumens(tissue, glands, warp)
    angle, phase = uniform(rng, 0, np.pi, (2, count, 1, 1))
    run = GRID_X * np.cos(angle) + GRID_Y * np.sin(angle)
    fibre = np.sin(run * 42 + 1.6 * warp + phase * 2) * tissue.fibres[:, None, None]
    keratin = np.clip(smooth_noise(rng, count, 5) * 1.6 - 2.2 + 2.4 * tissue.keratin[:, None, None], 0, 1)
    ground = 0.75 + 0.14 * smooth_noise(rng, count, 4) + 0.32 * fibre + 0.75 * keratin
    ground = np.clip(ground, 0.1, 2.2) * (1 - 0.92 * lumen)
    nuclear = np.minimum(_nuclei(rng, tissue, glands), 1.7) * (1 - 0.8 * keratin) * (1 - 0.7 * lumen)
    density = nuclear[..., None] * stain.nuclear[:, None, None] + ground[..., None] * stain.ground[:, None, None]
    return np.asarray(np.exp(-density) + normal(rng, noise, density.shape), dtype=np.float32)
