"""What a distillation method is: a value that its file gives, looked up by the catalogue's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from forge.model.adapters import Adapter
from forge.model.base import BaseModel
from forge.model.distill_settings import DistillSettings
from forge.model.pixel_steps import Advance, Matcher, generator_of
from forge.model.scoring import TaskImages

Open = Callable[[], AbstractContextManager[Matcher]]


def start_from_noise(base: BaseModel, count: int, seed: int) -> Tensor:
    """Standard normal noise in the tower's normalised space [count, 3, h, w]: independent of any private image."""
    return torch.randn(count, 3, *base.image_size, generator=generator_of(seed, -1))


@dataclass(frozen=True)
class DistillMethod:
    """How synthetic images are made.

    defaults: by the family of bases, "small" or "paper" (BaseModel.settings_family). uses: the settings that it looks
    at beside those of every method (distill_methods.ALWAYS_USED). prepare: from the base, the real images, the
    settings, the contributor's adapter (None where the method needs none) and who is told what takes time, what opens
    the method's steps: anew between any two moments of judging, for which the tower has to be plain. start: the first
    pixels [count, 3, h, w] from the base, the real images, their count and the seed.
    """

    defaults: Mapping[str, DistillSettings]
    uses: tuple[str, ...]
    prepare: Callable[[BaseModel, TaskImages, DistillSettings, Adapter | None, Advance], Open]
    start: Callable[[BaseModel, TaskImages, int, int], Tensor] = lambda base, real, count, seed: start_from_noise(
        base, count, seed
    )
