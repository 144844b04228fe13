"""Differentiable siamese augmentation (DSA): one draw, the same for real and synthetic images.

MedForge (2025), Algorithm 1 distils under it; the operations are those of Zhao and Bilen (2021):
colour, crop, cutout, flip, scale and rotate. A draw is a value, so the same one can be applied to any
batch, whatever its size, and gradients flow to the pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

KINDS = ("colour", "crop", "cutout", "flip", "scale", "rotate")

BRIGHTNESS = 1.0  # added, up to half of this either way
SATURATION = 2.0  # factor in [0, 2]
CONTRAST = 0.5  # factor in [.5, 1.5]
CROP = 0.125  # shift, share of the side
CUTOUT = 0.5  # side of the hole, share of the image's
SCALE = 1.2  # factor in [1/1.2, 1.2] per axis
ROTATION = 15.0  # degrees either way


@dataclass(frozen=True)
class Augmentation:
    """One operation with its numbers, drawn uniformly in [0, 1)."""

    kind: str
    numbers: tuple[float, float, float]


IDENTITY = Augmentation("none", (0.5, 0.5, 0.5))


def draw(generator: torch.Generator, kinds: tuple[str, ...] = KINDS) -> Augmentation:
    """Draw one of the operations and its numbers."""
    kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    first, second, third = torch.rand(3, generator=generator).tolist()
    return Augmentation(kind, (first, second, third))


def augment(images: Tensor, draw: Augmentation) -> Tensor:
    """Apply a draw to normalised images [n, 3, h, w]; differentiable in the images."""
    first, second, third = draw.numbers
    match draw.kind:
        case "none":
            return images
        case "colour":
            return _colour(images, first, second, third)
        case "crop":
            return _crop(images, first, second)
        case "cutout":
            return _cutout(images, first, second)
        case "flip":
            return images.flip(-1) if first < 0.5 else images
        case "scale":
            return _warp(images, 0.0, SCALE ** (2 * first - 1), SCALE ** (2 * second - 1))
        case "rotate":
            return _warp(images, math.radians(ROTATION) * (2 * first - 1), 1.0, 1.0)
    raise ValueError(f"unknown augmentation {draw.kind!r}")


def _colour(images: Tensor, brightness: float, saturation: float, contrast: float) -> Tensor:
    images = images + BRIGHTNESS * (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * SATURATION * saturation
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (1 + CONTRAST * (2 * contrast - 1))


def _crop(images: Tensor, down: float, right: float) -> Tensor:
    height, width = images.shape[-2:]
    pad_y, pad_x = math.floor(height * CROP + 0.5), math.floor(width * CROP + 0.5)
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y))
    top, left = math.floor(down * (2 * pad_y + 1)), math.floor(right * (2 * pad_x + 1))
    return padded[..., top : top + height, left : left + width]


def _cutout(images: Tensor, down: float, right: float) -> Tensor:
    height, width = images.shape[-2:]
    hole_y, hole_x = math.floor(height * CUTOUT + 0.5), math.floor(width * CUTOUT + 0.5)
    # The hole's centre may lie anywhere, so part of it can fall outside.
    top, left = math.floor(down * (height + 1)) - hole_y // 2, math.floor(right * (width + 1)) - hole_x // 2
    mask = torch.ones(height, width, dtype=images.dtype, device=images.device)
    mask[max(0, top) : max(0, top + hole_y), max(0, left) : max(0, left + hole_x)] = 0
    return images * mask


def _warp(images: Tensor, angle: float, scale_y: float, scale_x: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[scale_x * cos, -sin, 0.0], [sin, scale_y * cos, 0.0]], device=images.device)
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
