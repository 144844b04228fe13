"""Captioned images of coloured shapes: the part of pretraining that ties words to colour, form, size and place."""

from __future__ import annotations

from typing import Final

import numpy as np

from examples.generated.painting import (
    COLOUR_NAMES,
    GRID_X,
    GRID_Y,
    Bytes,
    Floats,
    Integers,
    blend,
    distinct_pairs,
    edge,
    jittered_colours,
    normal,
    plain,
    to_bytes,
    uniform,
    with_article,
)

SHAPES: Final = ("circle", "square", "triangle", "ring", "cross", "diamond", "bar", "ellipse", "frame", "crescent")
SIZES: Final = (("small", 0.14), ("", 0.22), ("large", 0.31))
PLACES: Final = (
    ("in the centre", 0.5, 0.5),
    ("at the left", 0.28, 0.5),
    ("at the right", 0.72, 0.5),
    ("at the top", 0.5, 0.28),
    ("at the bottom", 0.5, 0.72),
    ("at the top left", 0.3, 0.3),
    ("at the top right", 0.7, 0.3),
    ("at the bottom left", 0.3, 0.7),
    ("at the bottom right", 0.7, 0.7),
)


def _distance(shape: str, x: Floats, y: Floats, radius: Floats) -> Floats:
    """Signed distance, about, of one shape around the origin; x, y [n, 32, 32], radius [n, 1, 1]."""
    far = np.maximum(np.abs(x), np.abs(y))
    round_ = np.hypot(x, y)
    match shape:
        case "circle":
            return np.asarray(round_ - radius)
        case "square":
            return np.asarray(far - radius * 0.9)
        case "triangle":
            return np.asarray(np.maximum(np.abs(x) * 0.87 + y * 0.5, -y) - radius * 0.55)
        case "ring":
            return np.asarray(np.abs(round_ - radius * 0.8) - radius * 0.2)
        case "cross":
            arm = np.minimum(np.abs(x), np.abs(y))
            return np.asarray(np.maximum(arm - radius * 0.28, far - radius))
        case "diamond":
            return np.asarray((np.abs(x) + np.abs(y)) * 0.707 - radius * 0.75)
        case "bar":
            return np.asarray(np.maximum(np.abs(x) - radius * 1.15, np.abs(y) - radius * 0.33))
        case "ellipse":
            return np.asarray(np.hypot(x, y * 1.8) - radius * 1.1)
        case "frame":
            return np.asarray(np.abs(far - radius * 0.75) - radius * 0.18)
        case "crescent":
            bite = np.hypot(x - radius * 0.45, y) - radius * 0.8
            return np.asarray(np.maximum(round_ - radius, -bite))
    raise ValueError(f"no such shape: {shape}")


def _coverage(kinds: Integers, x: Floats, y: Floats, radius: Floats, turn: Floats) -> Floats:
    """Anti-aliased masks [n, 32, 32] of shapes at x, y [n], of radius [n], turned by `turn` [n] radians."""
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    dx, dy = GRID_X - x[:, None, None], GRID_Y - y[:, None, None]
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    mask = np.zeros(along.shape, dtype=np.float32)
    for number, shape in enumerate(SHAPES):
        chosen = np.flatnonzero(kinds == number)
        if chosen.size:
            mask[chosen] = edge(_distance(shape, along[chosen], across[chosen], radius[chosen, None, None]))
    return mask


def draw_shapes(rng: np.random.Generator, count: int) -> tuple[Bytes, list[str]]:
    """One or two coloured shapes on a plain ground: images uint8 [count, 32, 32, 3] and captions."""
    colour, ground = distinct_pairs(rng, count, len(COLOUR_NAMES))
    kind, other_kind = distinct_pairs(rng, count, len(SHAPES))
    size = rng.integers(0, len(SIZES), count)
    place = rng.integers(0, len(PLACES), count)
    double = rng.random(count) < 0.25
    other_colour = (ground + rng.integers(1, len(COLOUR_NAMES), count)) % len(COLOUR_NAMES)
    stacked = rng.random(count) < 0.5

    scale = np.array([value for _, value in SIZES], dtype=np.float32)[size]
    x = np.array([value for _, value, _ in PLACES], dtype=np.float32)[place]
    y = np.array([value for _, _, value in PLACES], dtype=np.float32)[place]
    x, y = np.where(double, np.where(stacked, 0.5, 0.27), x), np.where(double, np.where(stacked, 0.27, 0.5), y)
    scale = np.where(double, 0.19, scale) * uniform(rng, 0.88, 1.12, count)
    turn = normal(rng, 0.12, count)

    images = plain(jittered_colours(rng, ground))
    first = _coverage(kind, x + normal(rng, 0.025, count), y + normal(rng, 0.025, count), scale, turn)
    images = blend(images, jittered_colours(rng, colour), first)
    second = _coverage(other_kind, 1 - x + normal(rng, 0.02, count), 1 - y + normal(rng, 0.02, count), scale, turn)
    images = blend(images, jittered_colours(rng, other_colour), second * double[:, None, None])
    images = images + normal(rng, 0.02, images.shape)

    wording = rng.integers(0, 4, count)
    captions = []
    for i in range(count):
        one = f"{COLOUR_NAMES[colour[i]]} {SHAPES[kind[i]]}"
        if double[i]:
            other = f"{COLOUR_NAMES[other_colour[i]]} {SHAPES[other_kind[i]]}"
            relation = "above" if stacked[i] else "left of"
            captions.append(f"{with_article(one)} {relation} {with_article(other)}")
            continue
        sized = with_article(f"{SIZES[size[i]][0]} {one}".strip())
        ground_name = with_article(COLOUR_NAMES[ground[i]])
        captions.append(
            (
                f"{sized} on {ground_name} background",
                f"{sized} {PLACES[place[i]][0]}",
                f"{sized} {PLACES[place[i]][0]} on {COLOUR_NAMES[ground[i]]}",
                f"a picture of {sized}",
            )[wording[i]]
        )
    return to_bytes(images), captions
