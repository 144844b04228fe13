"""Captioned images of digits drawn as strokes, so that the embedded base knows digits and number words.

No real handwriting is involved: a digit is a few polylines, each point shaken, the whole sheared, turned and
scaled, drawn with a pen of varying width and then often seen through a coarse sensor.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from examples.generated.painting import (
    COLOUR_NAMES,
    GRID_X,
    GRID_Y,
    SIZE,
    Bytes,
    Floats,
    Integers,
    blend,
    distinct_pairs,
    edge,
    jittered_colours,
    normal,
    plain,
    shrink,
    to_bytes,
    uniform,
    upscale,
    with_article,
)

NUMBER_WORDS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_Line = list[tuple[float, float]]


def _arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, steps: int = 8) -> _Line:
    """Points of an ellipse's arc, degrees clockwise from the right (y runs down)."""
    angles = np.deg2rad(np.linspace(start, stop, steps + 1))
    return [(x + rx * float(np.cos(angle)), y + ry * float(np.sin(angle))) for angle in angles]


# Every digit in a few hands; coordinates in the unit square, y down.
_HANDS: Final[dict[int, list[list[_Line]]]] = {
    0: [[_arc(0.5, 0.5, 0.31, 0.45, -90, 270, 12)], [_arc(0.5, 0.5, 0.22, 0.45, -100, 250, 12)]],
    1: [
        [[(0.5, 0.04), (0.5, 0.5), (0.5, 0.96)]],
        [[(0.3, 0.28), (0.54, 0.04), (0.54, 0.5), (0.54, 0.96)]],
        [[(0.32, 0.25), (0.52, 0.04), (0.52, 0.96)], [(0.28, 0.96), (0.76, 0.96)]],
    ],
    2: [
        [[*_arc(0.48, 0.3, 0.28, 0.26, -160, 40), (0.2, 0.95), (0.82, 0.95)]],
        [
            [
                *_arc(0.48, 0.27, 0.26, 0.22, -170, 50),
                (0.3, 0.82),
                *_arc(0.28, 0.86, 0.1, 0.09, 60, 300, 4),
                (0.85, 0.93),
            ]
        ],
    ],
    3: [
        [[*_arc(0.45, 0.28, 0.28, 0.23, -150, 90), *_arc(0.45, 0.73, 0.31, 0.23, -90, 150)]],
        [[(0.22, 0.06), (0.75, 0.06), (0.47, 0.42), *_arc(0.45, 0.7, 0.3, 0.26, -80, 150)]],
    ],
    4: [
        [[(0.62, 0.04), (0.18, 0.64), (0.85, 0.64)], [(0.64, 0.36), (0.64, 0.96)]],
        [[(0.28, 0.05), (0.22, 0.52), (0.8, 0.52)], [(0.72, 0.08), (0.66, 0.96)]],
        [[(0.66, 0.96), (0.66, 0.04), (0.18, 0.66), (0.86, 0.66)]],
    ],
    5: [
        [[(0.78, 0.06), (0.3, 0.06), (0.27, 0.45), *_arc(0.47, 0.68, 0.3, 0.27, -125, 145)]],
        [[(0.75, 0.05), (0.36, 0.05), (0.32, 0.42), (0.55, 0.42), *_arc(0.5, 0.69, 0.27, 0.26, -75, 140)]],
    ],
    6: [
        [[*_arc(0.72, 0.62, 0.48, 0.58, -105, -185, 6), *_arc(0.5, 0.7, 0.27, 0.25, 180, -180, 10)]],
        [[(0.58, 0.04), (0.33, 0.4), *_arc(0.5, 0.7, 0.25, 0.25, 200, -160, 10)]],
    ],
    7: [
        [[(0.18, 0.06), (0.8, 0.06), (0.55, 0.5), (0.42, 0.96)]],
        [[(0.18, 0.07), (0.8, 0.07), (0.6, 0.5), (0.42, 0.96)], [(0.36, 0.5), (0.78, 0.48)]],
    ],
    8: [
        [_arc(0.5, 0.27, 0.23, 0.22, -90, 270, 9), _arc(0.5, 0.73, 0.28, 0.24, -90, 270, 9)],
        [[*_arc(0.5, 0.27, 0.2, 0.22, 60, -240, 8), *_arc(0.5, 0.73, 0.24, 0.23, -60, 240, 8), (0.62, 0.45)]],
    ],
    9: [
        [_arc(0.48, 0.3, 0.26, 0.25, 0, 360, 10), [(0.75, 0.25), (0.73, 0.6), (0.62, 0.96)]],
        [[*_arc(0.5, 0.28, 0.25, 0.24, 0, -360, 10), *_arc(0.42, 0.62, 0.33, 0.34, -10, 120, 5)]],
    ],
}


def _pad(hand: list[_Line], length: int) -> Floats:
    """One hand's strokes as segments [length, 2 ends, 2]; the last one repeats."""
    segments = [(a, b) for line in hand for a, b in itertools.pairwise(line)]
    return np.array(segments + segments[-1:] * (length - len(segments)), dtype=np.float32)


_MOST: Final = max(sum(len(line) - 1 for line in hand) for hands in _HANDS.values() for hand in hands)
_SEGMENTS: Final = np.stack([_pad(hand, _MOST) for digit in range(10) for hand in _HANDS[digit]])
_FIRST_HAND: Final = np.cumsum([0] + [len(_HANDS[digit]) for digit in range(9)])
_HAND_COUNT: Final = np.array([len(_HANDS[digit]) for digit in range(10)])


def _strokes(rng: np.random.Generator, digits: Integers) -> Floats:
    """Segments [n, most, 2 ends, 2] of shaken, sheared, turned and scaled digits in the unit square."""
    count = len(digits)
    hands = _FIRST_HAND[digits] + rng.integers(0, _HAND_COUNT[digits])
    points = _SEGMENTS[hands] - 0.5
    # A slow warp moves the ends of neighbouring segments together, so that strokes stay connected.
    wave = normal(rng, 0.035, (2, count, 3, 1, 1, 1))
    turn = uniform(rng, 0, 2 * np.pi, (2, count, 3, 1, 1, 1))
    x, y = points[..., 0][:, None], points[..., 1][:, None]
    frequency = np.array([3.0, 5.0, 7.0], dtype=np.float32)[None, :, None, None]
    bend_x = (wave[0, ..., 0] * np.sin(frequency * (y + 0.5 * x) + turn[0, ..., 0])).sum(axis=1)
    bend_y = (wave[1, ..., 0] * np.sin(frequency * (x - 0.5 * y) + turn[1, ..., 0])).sum(axis=1)
    points = points + np.stack([bend_x, bend_y], axis=-1)
    angle, shear = normal(rng, 0.13, count), normal(rng, 0.18, count)
    height = uniform(rng, 0.6, 0.98, count)
    width = height * uniform(rng, 0.65, 1.1, count)
    matrix = np.empty((count, 2, 2), dtype=np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = width * np.cos(angle), width * (shear - np.sin(angle))
    matrix[:, 1, 0], matrix[:, 1, 1] = height * np.sin(angle), height * np.cos(angle)
    centre = 0.5 + normal(rng, 0.03, (count, 1, 1, 2))
    return np.asarray(np.einsum("nsep,nqp->nseq", points, matrix) + centre, dtype=np.float32)


def ink(rng: np.random.Generator, digits: Integers) -> Floats:
    """Pen coverage [n, 32, 32] in [0, 1] of digits [n]; about half seen through a coarse 8 or 16 pixel sensor."""
    count = len(digits)
    segments = _strokes(rng, digits)
    pen = uniform(rng, 1.0, 2.4, count)[:, None, None] / SIZE
    masks = np.empty((count, SIZE, SIZE), dtype=np.float32)
    for start in range(0, count, 128):
        part = slice(start, start + 128)
        nearest = np.full(masks[part].shape, 9.0, dtype=np.float32)
        for number in range(_MOST):
            a, b = segments[part, number, 0], segments[part, number, 1]
            step = b - a
            length = np.maximum((step**2).sum(axis=1), 1e-6)
            dx, dy = GRID_X - a[:, 0, None, None], GRID_Y - a[:, 1, None, None]
            sx, sy = step[:, 0, None, None], step[:, 1, None, None]
            t = np.clip((dx * sx + dy * sy) / length[:, None, None], 0, 1)
            np.minimum(nearest, (dx - t * sx) ** 2 + (dy - t * sy) ** 2, out=nearest)
        masks[part] = edge(np.asarray(np.sqrt(nearest) - pen[part], dtype=np.float32), 0.75 / SIZE)
    sensor = rng.random(count)
    for cells, low, high in ((8, 0.0, 0.15), (16, 0.15, 0.5)):
        chosen = np.flatnonzero((sensor >= low) & (sensor < high))
        if chosen.size:
            seen = shrink(masks[chosen], cells)
            seen /= np.maximum(seen.max(axis=(1, 2), keepdims=True), 0.3)
            masks[chosen] = upscale(seen)
    return masks


def draw_glyphs(rng: np.random.Generator, count: int) -> tuple[Bytes, list[str]]:
    """Digits in ink, mostly light on dark: images uint8 [count, 32, 32, 3] and captions."""
    digits = rng.integers(0, 10, count)
    colour, ground = distinct_pairs(rng, count, len(COLOUR_NAMES))
    style = rng.random(count)  # light on dark, dark on light, or in colours
    light, dark = COLOUR_NAMES.index("white"), COLOUR_NAMES.index("black")
    colour = np.where(style < 0.6, light, np.where(style < 0.8, dark, colour))
    ground = np.where(style < 0.6, dark, np.where(style < 0.8, light, ground))
    mask = ink(rng, digits) * uniform(rng, 0.7, 1.0, count)[:, None, None]
    images = blend(plain(jittered_colours(rng, ground)), jittered_colours(rng, colour), mask)
    images = images + normal(rng, 0.02, images.shape)
    wording = rng.integers(0, 6, count)
    captions = []
    for i in range(count):
        word, numeral = NUMBER_WORDS[digits[i]], digits[i]
        captions.append(
            (
                f"the digit {word}",
                f"a handwritten {numeral}",
                f"the number {word}",
                f"the digit {numeral}",
                f"{with_article(COLOUR_NAMES[colour[i]])} {word} on {COLOUR_NAMES[ground[i]]}",
                f"a handwritten {word}",
            )[wording[i]]
        )
    return to_bytes(images), captions
