"""What all generators paint with: pixel grids, smooth noise, blur, colours.

Images are float32 [n, 32, 32, 3] in [0, 1] until `to_bytes`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

SIZE: Final = 32

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

# The names that captions use, and the colour each stands for before jitter.
COLOURS: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.85, 0.15, 0.15),
    "green": (0.15, 0.65, 0.2),
    "blue": (0.15, 0.25, 0.85),
    "yellow": (0.93, 0.87, 0.15),
    "orange": (0.95, 0.55, 0.1),
    "purple": (0.5, 0.15, 0.65),
    "pink": (0.95, 0.6, 0.75),
    "cyan": (0.15, 0.8, 0.85),
    "brown": (0.45, 0.28, 0.12),
    "grey": (0.5, 0.5, 0.5),
    "white": (0.97, 0.97, 0.97),
    "black": (0.04, 0.04, 0.04),
}
COLOUR_NAMES: Final = tuple(COLOURS)
_COLOUR_VALUES: Final = np.array(list(COLOURS.values()), dtype=np.float32)

_AXIS: Final = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
# Pixel centres in the unit square, x to the right and y down: float32 [32, 32].
GRID_X, GRID_Y = (np.ascontiguousarray(grid, dtype=np.float32) for grid in np.meshgrid(_AXIS, _AXIS))


def uniform(rng: np.random.Generator, low: float, high: float, shape: int | tuple[int, ...]) -> Floats:
    """Uniform float32 numbers in [low, high)."""
    return (rng.random(shape, dtype=np.float32) * np.float32(high - low) + np.float32(low)).astype(np.float32)


def normal(rng: np.random.Generator, deviation: float, shape: int | tuple[int, ...]) -> Floats:
    """Normal float32 numbers of mean zero."""
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(deviation)


def jittered_colours(rng: np.random.Generator, names: Integers, jitter: float = 0.05) -> Floats:
    """The colours of indices into COLOUR_NAMES [n], each a little off: [n, 3]."""
    colours = _COLOUR_VALUES[names] + normal(rng, jitter, (len(names), 3))
    return np.asarray(np.clip(colours, 0, 1), dtype=np.float32)


def distinct_pairs(rng: np.random.Generator, count: int, choices: int) -> tuple[Integers, Integers]:
    """Two index arrays [count] below `choices` that differ everywhere."""
    first = rng.integers(0, choices, count)
    second = (first + rng.integers(1, choices, count)) % choices
    return first, second


def blend(background: Floats, colour: Floats, coverage: Floats) -> Floats:
    """Lay colour [n, 3] over background [n, 32, 32, 3] where coverage [n, 32, 32] is one."""
    alpha = coverage[..., None]
    return background * (1 - alpha) + colour[:, None, None, :] * alpha


def plain(colour: Floats) -> Floats:
    """Images [n, 32, 32, 3] of one colour [n, 3] each."""
    return np.broadcast_to(colour[:, None, None, :], (len(colour), SIZE, SIZE, 3)).astype(np.float32)


def edge(distance: Floats, softness: float = 0.5 / SIZE) -> Floats:
    """Anti-aliased coverage of a signed distance (negative inside, in unit-square lengths)."""
    return np.asarray(np.clip(0.5 - distance / np.float32(2 * softness), 0, 1), dtype=np.float32)


def upscale(images: Floats, size: int = SIZE) -> Floats:
    """Bilinear resize of square images [n, s, s, ...] to [n, size, size, ...], pixel centres aligned."""
    weights = _bilinear_weights(images.shape[1], size)
    rows = np.tensordot(weights, images, axes=(1, 1))  # [size, n, s, ...]
    both = np.tensordot(weights, rows, axes=(1, 2))  # [size (x), size (y), n, ...]
    return np.ascontiguousarray(np.moveaxis(both, (2, 1, 0), (0, 1, 2)), dtype=np.float32)


def _bilinear_weights(source: int, target: int) -> Floats:
    """Interpolation matrix [target, source] whose rows sum to one."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.minimum(position.astype(np.int64), max(source - 2, 0))
    fraction = position - low
    weights = np.zeros((target, source), dtype=np.float32)
    weights[np.arange(target), low] += 1 - fraction
    weights[np.arange(target), np.minimum(low + 1, source - 1)] += fraction
    return weights


def shrink(images: Floats, size: int) -> Floats:
    """Mean of equal blocks: [n, s, s] to [n, size, size]; s must be a multiple of size."""
    count, source = images.shape[0], images.shape[1]
    block = source // size
    blocks = images.reshape(count, size, block, size, block)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def smooth_noise(rng: np.random.Generator, count: int, cells: int) -> Floats:
    """Noise [count, 32, 32] of about unit deviation that varies over 32 / cells pixels."""
    return upscale(normal(rng, 1.0, (count, cells, cells)))


def blur(images: Floats, sigma: Floats) -> Floats:
    """Blur [n, 32, 32, c] by a 3-tap binomial kernel mixed to deviation sigma [n] pixels (at most 0.7)."""
    weight = np.clip(np.square(sigma) / 2, 0, 0.25).astype(np.float32)[:, None, None, None]
    for axis in (1, 2):
        padded = np.concatenate([np.take(images, [0], axis), images, np.take(images, [SIZE - 1], axis)], axis=axis)
        before = padded.take(range(SIZE), axis)
        after = padded.take(range(2, SIZE + 2), axis)
        images = images * (1 - 2 * weight) + (before + after) * weight
    return images.astype(np.float32)


def to_bytes(images: Floats) -> Bytes:
    """Images in [0, 1] as uint8, rounded and clipped."""
    return np.asarray(np.clip(images * 255 + 0.5, 0, 255), dtype=np.uint8)


def with_article(noun: str) -> str:
    """The noun with "a" or "an" before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
