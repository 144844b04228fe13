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

from forge.model.adapters import Adapter
from forge.model.augmentation import augment, draw
from forge.model.base import BaseModel
from forge.model.distill_methods.method import DistillMethod, Open
from forge.model.distill_methods.real_batches import class_members, pick
from forge.model.distill_settings import DistillSettings
from forge.model.pixel_steps import Advance
from forge.model.random_adapters import USES, RandomAdapter, random_adapter
from forge.model.scoring import TaskImages
from forge.model.sharing import summed, summed_all
from forge.recipe.catalogue import DC_DSA

# Keeps rows without a gradient from dividing by zero. The authors' code has 1e-6, which would hide a LoRA's gradients:
# two rows of length .001 have that very product.
_SMALL = 1e-12


def gradient_distance(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Sum over layers and output rows of 1 - cosine of the gradients (Zhao et al., 2021, "gradient matching loss").

    Both hold one matrix [out, in] per layer, in the same order.
    """
    total = torch.zeros((), device=real[0].device)
    for one, other in zip(real, synthetic, strict=True):
        lengths = one.norm(dim=1) * other.norm(dim=1)
        total = total + (1 - (one * other).sum(1) / (lengths + _SMALL)).sum()
    return total


@contextmanager
def gradient_matcher(base: BaseModel, real: TaskImages, settings: DistillSettings) -> Iterator[GradientMatcher]:
    """The steps of gradient matching on `real`; the base is as it was on exit."""
    with random_adapter(base, settings) as network:
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
            real_gradients = self._gradients(real, self.real.targets[batch], again=False)
            # The fused attention kernels have no second derivative.
            with sdpa_kernel(SDPBackend.MATH):
                gradients = self._gradients(augment(pixels[own], operation), self.targets[own], again=True)
                loss = gradient_distance(real_gradients, gradients)
                gradient += torch.autograd.grad(loss, [pixels])[0]
            total += float(loss.detach())
        self.generator = generator
        return total, summed(gradient)

    def _gradients(self, images: Tensor, targets: Tensor, *, again: bool) -> Sequence[Tensor]:
        """Gradients of the classification loss per A and B; `again`: this process's part can be differentiated."""
        loss = self.network.classification_loss(images, targets, self.real.labels)
        own = torch.autograd.grad(loss, self.network.parameters, create_graph=again)
        every = [gradient.detach() for gradient in summed_all(own)]
        return [whole + (part - part.detach()) for whole, part in zip(every, own, strict=True)] if again else every

    def follow(self, pixels: Tensor) -> None:
        for _ in range(self.settings.adapter_steps):
            images = augment(pixels, draw(self.generator))
            self.network.update(images, self.targets, self.real.labels)


def _prepare(
    base: BaseModel,
    real: TaskImages,
    settings: DistillSettings,
    adapter: Adapter | None,
    advance: Advance,
) -> Open:
    return lambda: gradient_matcher(base, real, settings)


# "paper" is Zhao et al. (2021) for 20 images a class, for as many steps as MedForge (2025) has.
METHOD = DistillMethod(
    defaults={
        "small": DistillSettings(60, 24, "adam", 0.1, redraw=4, judge_steps=100, method=DC_DSA.name),
        "paper": DistillSettings(
            5000, 256, "sgd", 0.1, redraw=20, adapter_steps=25, judge_steps=1000, method=DC_DSA.name
        ),
    },
    uses=USES,
    prepare=_prepare,
)
