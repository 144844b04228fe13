"""Synthetic images as they are stored: one byte a pixel, scaled per channel to the range in use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forge.model.base import BaseModel
from forge.model.scoring import Score, TaskImages


@dataclass(frozen=True)
class DistilledImages:
    """Synthetic images as they are stored: pixel = offset + scale * images, in [0, 1] space, per channel."""

    images: Tensor  # uint8 [n, 3, h, w]
    targets: Tensor  # int64 [n]
    offset: Tensor  # float32 [3]
    scale: Tensor  # float32 [3]
    score: Score | None = None  # of a fresh LoRA trained on them alone, on validation


def quantise(base: BaseModel, pixels: Tensor, targets: Tensor) -> DistilledImages:
    """Store normalised pixels as one byte each, scaled per channel to the range they use."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (base.mean, base.std))
    plain = pixels.cpu() * std + mean
    low, high = plain.amin((0, 2, 3)), plain.amax((0, 2, 3))
    scale = ((high - low) / 255).clamp_min(1e-8)
    stored = ((plain - low.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)).round().clamp(0, 255).to(torch.uint8)
    return DistilledImages(stored, targets.cpu(), low, scale)


def restore(images: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
    """[0, 1]-space pixels (they may reach beyond) of stored images; the inverse of `quantise`."""
    return offset.view(1, 3, 1, 1) + scale.view(1, 3, 1, 1) * images.float()


def as_images(base: BaseModel, stored: DistilledImages, like: TaskImages) -> TaskImages:
    """Stored images as the tower takes them, for the task and labels of `like`."""
    pixels = base.normalise(restore(stored.images, stored.offset, stored.scale))
    return TaskImages(like.task, like.labels, pixels, stored.targets.to(base.device))
