"""Training images varied at random, in the ways that leave their classes what they are.

Tissue looks the same from every side and in another stain, and a digit turned over does not. The frozen base tells the
two apart before anything is trained: where class means of one half of the images read the other half as well when it is
varied, the variation does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from forge.model.augmentation import KINDS
from forge.model.base import BaseModel
from forge.model.prototypes import class_means, embeddings, nearest
from forge.model.scoring import TaskImages
from forge.recipe.catalogue import AUGMENT_ALL, AUGMENT_MIRROR, AUGMENT_NONE

STAIN_GAIN = 0.2  # of each channel's optical density, up to this share either way

MIRROR, UPSIDE_DOWN, TRANSPOSE, STAIN = "mirror", "upside-down", "transpose", "stain"
FLIPS: Mapping[str, Callable[[Tensor], Tensor]] = {
    MIRROR: lambda images: images.flip(-1),
    UPSIDE_DOWN: lambda images: images.flip(-2),
    TRANSPOSE: lambda images: images.transpose(-1, -2),  # with the other two: every turn by ninety degrees
}
MOST_LOOKED_AT = 240  # images that "auto" looks at, five times each: 2 CPU seconds on the embedded base
LEAST_LOOKED_AT = 40  # of fewer images "auto" varies none: thirty digits would not show that they are digits
CLEARLY = 3.0  # standard deviations by which a variation must do harm to be left out


def chosen_augmentation(base: BaseModel, images: TaskImages, choice: str, seed: int = 0) -> tuple[str, ...]:
    """The variations that `choice`, one of catalogue.AUGMENT_CHOICES, stands for with these images."""
    if choice == AUGMENT_NONE:
        return ()
    if choice == AUGMENT_MIRROR:
        return (MIRROR,)
    square, bytes_each = images.pixels.shape[-1] == images.pixels.shape[-2], images.pixels.dtype == torch.uint8
    possible = [MIRROR, UPSIDE_DOWN] + [TRANSPOSE] * square + [STAIN] * bytes_each
    return tuple(possible) if choice == AUGMENT_ALL else harmless(base, images, possible, seed)


def harmless(base: BaseModel, images: TaskImages, variations: list[str], seed: int = 0) -> tuple[str, ...]:
    """Those of `variations` under which the frozen base tells the classes apart as well as without.

    The class means of either half of the images (drawn by `seed`, at most MOST_LOOKED_AT) read the other half, as it is
    and varied. A variation is left out where more images are read wrongly with it, by CLEARLY of the deviation that the
    number of those read otherwise would have if it made no difference (the sign test's).
    """
    count = len(images.targets)
    if count < LEAST_LOOKED_AT:
        return ()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(count, generator=generator)[:MOST_LOOKED_AT]
    some = replace(images, pixels=images.pixels[drawn], targets=images.targets[drawn], groups=None)
    plain = embeddings(base, some)
    right = _right(plain, plain, some)
    kept = []
    for name in variations:
        varied = FLIPS[name](some.pixels) if name in FLIPS else stained(some.pixels, generator)
        still = _right(plain, embeddings(base, replace(some, pixels=varied)), some)
        lost, won = int((right & ~still).sum()), int((still & ~right).sum())
        if lost - won <= CLEARLY * (lost + won) ** 0.5:
            kept.append(name)
    return tuple(kept)


def siamese_kinds(base: BaseModel, images: TaskImages, seed: int = 0) -> tuple[str, ...]:
    """The kinds of siamese augmentation (augmentation.py) for these images: mirrored only where that does no harm.

    Too few images to see that get all of them, as in the paper.
    """
    few = len(images.targets) < LEAST_LOOKED_AT
    return KINDS if few or harmless(base, images, [MIRROR], seed) else tuple(kind for kind in KINDS if kind != "flip")


def varied_at_random(images: Tensor, variations: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """Images [n, 3, h, w]: each turned by each of the flips with probability one half, all in a stain of their own."""
    for name in variations:
        if name in FLIPS:
            chosen = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
            images = torch.where(chosen[:, None, None, None], FLIPS[name](images), images)
        else:
            images = stained(images, generator)
    return images


def stained(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images [n, 3, h, w] uint8 with other optical densities -log(v / 255): a random gain for each image's channel."""
    density = -torch.log(images.float().clamp_min(1) / 255)
    gain = 1 + STAIN_GAIN * (2 * torch.rand(len(images), 3, 1, 1, generator=generator) - 1)
    return (torch.exp(-density * gain.to(images.device)) * 255).round().to(torch.uint8)


def _right(plain: Tensor, embedded: Tensor, images: TaskImages) -> Tensor:
    """Which images [n] are nearest to the mean of their own class, made of the `plain` embeddings of the other half."""
    targets = images.targets.cpu()
    half = torch.arange(len(targets)) % 2
    right = torch.zeros(len(targets), dtype=torch.bool)
    for this in (0, 1):
        others, own = half != this, half == this
        means = class_means(plain[others], targets[others], len(images.labels))
        right[own] = nearest(embedded[own], means) == targets[own]
    return right
