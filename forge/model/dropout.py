"""Dropout that does not ask how a batch is cut up: the same where parts of it go through the tower one by one.

What is dropped of an image depends on the seed, the step, the module and the number of the image in the batch alone.
The numbers come from a counter-based generator (Philox), which starts anywhere at once, 16 bits each: two fifths of the
time of torch's own dropout on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_LEVELS = 2**16
_PER_COUNT = 16  # numbers of 16 bits that Philox gives for one count


@dataclass
class Place:
    """Where in a run of training a forward pass is: the step, and which images of the step's batch go through."""

    seed: int
    step: int = 0
    first: int = 0
    images: int = 1


class Dropout(nn.Module):
    """Keeps each number with probability 1 - p, times 1 / (1 - p); p to the nearest of 65,536 levels."""

    def __init__(self, p: float, place: Place, module: int) -> None:
        super().__init__()
        level = min(round(p * _LEVELS), _LEVELS - 1)
        self.threshold, self.scale = level - _LEVELS // 2, _LEVELS / (_LEVELS - level)
        self.place, self.module = place, module

    def forward(self, x: Tensor) -> Tensor:
        """x: [n, ...] of the images at `place`, one after the other; n is a multiple of their number."""
        if not self.training:
            return x
        keep = self._draws(x) >= self.threshold
        return x * keep.to(x.dtype).mul_(self.scale)

    def _draws(self, x: Tensor) -> Tensor:
        place = self.place
        size = x.numel() // place.images
        if x.device.type != "cpu":
            generator = torch.Generator(x.device).manual_seed(hash((place.seed, self.module, place.step)) % 2**63)
            shape, last = (place.first + place.images, size), _LEVELS // 2
            every = torch.randint(-last, last, shape, dtype=torch.int16, device=x.device, generator=generator)
            return every[place.first :].view(x.shape)
        counts = -(-size // _PER_COUNT)
        counter = np.array([place.first * counts, place.step, self.module, 0], dtype=np.uint64)
        bits = np.random.Philox(key=place.seed, counter=counter).random_raw(place.images * counts * 4)
        rows = torch.from_numpy(bits.view(np.int16)).view(place.images, counts * _PER_COUNT)
        return rows[:, :size].reshape(x.shape)


def use_own_dropout(model: Any, p: float, place: Place) -> None:
    """Give every LoRA layer of PEFT's `model` this dropout in place of torch's."""
    if p == 0:
        return
    layers = [layer for layer in model.modules() if hasattr(layer, "lora_dropout")]
    for number, layer in enumerate(layers):
        for name in layer.lora_dropout:
            layer.lora_dropout[name] = Dropout(p, place, number)
