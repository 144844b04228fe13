"""Gradient matching, "dc-dsa": Zhao et al. (2021), Algorithm 1, with siamese augmentation (Zhao & Bilen, 2021).

Here the parameters are those of the random theta_LoRA of MedForge (2025), Algorithm 1. Per step and class: one
augmentation for real and synthetic images; the gradients of the classification loss on both with respect to
theta_LoRA; the loss is their distance, summed over the classes; one step on the synthetic pixels, then updates of
theta_LoRA on the synthetic images, under augmentations of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from forge.model.augmentation import augment, draw
from forge.model.base import BaseModel
from forge.model.distill_settings import DistillSettings
from forge.model.matching import class_members, pick
from forge.model.random_adapters import RandomAdapter, random_adapter
from forge.model.scoring import TaskImages

# Keeps rows without a gradient from dividing by zero. The authors' code has 1e-6, which would hide a LoRA's gradients:
# two rows of length .001 have that very product.
_SMALL = 1e-12


def gradient_distance(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Sum over layers and output rows of 1 - cosine of the gradients (Zhao et al., 2021, "gradient matching loss").

    Both hold one matrix [out, in] per layer, in the same order.
    """
    total = torch.zeros((), device=real[0].device)
    for wanted, found in zip(real, synthetic, strict=True):
        lengths = wanted.norm(dim=1) * found.norm(dim=1)
        total = total + (1 - (wanted * found).sum(1) / (lengths + _SMALL)).sum()
    return total


@contextmanager
def gradient_matcher(base: BaseModel, real: TaskImages, settings: DistillSettings) -> Iterator[GradientMatcher]:
    """The steps of gradient matching on `real`; the base is as it was on exit."""
    with random_adapter(base, strength=settings.strength, learning_rate=settings.adapter_rate) as network:
        yield GradientMatcher(base, real, settings, network)


class GradientMatcher:
    """A step of gradient matching."""

    def __init__(self, base: BaseModel, real: TaskImages, settings: DistillSettings, network: RandomAdapter) -> None:
        self.base, self.real, self.settings, self.network = base, real, settings, network
        self.members = class_members(real)
        classes = len(real.labels)
        self.targets = torch.arange(classes, device=base.device).repeat_interleave(settings.ipc)
        self.generator = torch.Generator()

    def redraw(self, generator: torch.Generator) -> None:
        self.network.redraw(generator)

    def gradient(self, pixels: Tensor, generator: torch.Generator) -> tuple[float, Tensor]:
        total, gradient = 0.0, torch.zeros_like(pixels)
        for number, members in enumerate(self.members):  # one class at a time: only its graph is held
            batch = pick(members, self.settings.real_batch, generator)
            operation = draw(generator)
            own = slice(number * self.settings.ipc, (number + 1) * self.settings.ipc)
            real = augment(self.base.prepare(self.real.pixels[batch]), operation)
            wanted = self._gradients(real, self.real.targets[batch], again=False)
            # The fused attention kernels have no second derivative.
            with sdpa_kernel(SDPBackend.MATH):
                found = self._gradients(augment(pixels[own], operation), self.targets[own], again=True)
                loss = gradient_distance(wanted, found)
                gradient += torch.autograd.grad(loss, [pixels])[0]
            total += float(loss.detach())
        self.generator = generator
        return total, gradient

    def _gradients(self, images: Tensor, targets: Tensor, *, again: bool) -> tuple[Tensor, ...]:
        """Gradients of the classification loss per A and B; `again`: they can be differentiated."""
        loss = self.network.classification_loss(images, targets, self.real.labels)
        return torch.autograd.grad(loss, self.network.parameters, create_graph=again)

    def follow(self, pixels: Tensor) -> None:
        for _ in range(self.settings.adapter_steps):
            images = augment(pixels, draw(self.generator))
            self.network.update(images, self.targets, self.real.labels)
