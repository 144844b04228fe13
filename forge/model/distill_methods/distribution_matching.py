"""Distribution matching, "dm" and "dm-dsa": MedForge (2025), Algorithm 1 and Eq. 1-2.

Per step: theta = theta_main + theta_LoRA with a random theta_LoRA; psi is the image embedding under theta; the
same siamese augmentation on real and synthetic images ("dm": none); the loss is the squared distance between
the class means of psi; one step on the synthetic pixels, then updates of theta_LoRA on the synthetic images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from forge.model.adapters import Adapter
from forge.model.augmentation import IDENTITY, augment, draw
from forge.model.base import BaseModel
from forge.model.distill_methods.method import DistillMethod, Open
from forge.model.distill_methods.real_batches import class_members, pick
from forge.model.distill_settings import DistillSettings
from forge.model.pixel_steps import Advance
from forge.model.random_adapters import USES, RandomAdapter, random_adapter
from forge.model.scoring import TaskImages, in_batches
from forge.model.sharing import gathered, own_part, summed
from forge.recipe.catalogue import DM, DM_DSA


def class_means(embedded: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Mean embedding [classes, width] of each class."""
    members = F.one_hot(targets, classes).to(embedded.dtype)
    return (members.T @ embedded) / members.sum(0).unsqueeze(1)


def matching_loss(real_means: Tensor, synthetic_means: Tensor) -> Tensor:
    """Sum over classes of || mean psi(real) - mean psi(synthetic) ||^2 (MedForge (2025), Eq. 2)."""
    return (real_means - synthetic_means).square().sum()


@contextmanager
def distribution_matcher(base: BaseModel, real: TaskImages, settings: DistillSettings) -> Iterator[DistributionMatcher]:
    """The steps of Algorithm 1 on `real`; the base is as it was on exit."""
    with random_adapter(base, settings) as network:
        yield DistributionMatcher(base, real, settings, network)


class DistributionMatcher:
    """A step of Algorithm 1."""

    def __init__(self, base: BaseModel, real: TaskImages, settings: DistillSettings, network: RandomAdapter) -> None:
        self.base, self.real, self.settings, self.network = base, real, settings, network
        self.classes = len(real.labels)
        self.members = class_members(real)
        self.targets = torch.arange(self.classes, device=base.device).repeat_interleave(settings.ipc)
        self.operation = IDENTITY

    def redraw(self, generator: torch.Generator) -> None:
        self.network.redraw(generator)

    def gradient(self, pixels: Tensor, generator: torch.Generator) -> tuple[float, Tensor]:
        batch = torch.cat([pick(m, self.settings.real_batch, generator) for m in self.members])
        self.operation = draw(generator) if self.settings.augments else IDENTITY
        with torch.no_grad():
            real_means = class_means(self._embedded(batch), self.real.targets[batch], self.classes)
        own = own_part(len(pixels))
        embedded = gathered(self.network.embed(augment(pixels[own], self.operation)), len(pixels))
        loss = matching_loss(real_means, class_means(embedded, self.targets, self.classes))
        (gradient,) = torch.autograd.grad(loss, [pixels])
        return float(loss.detach()), summed(gradient)

    def _embedded(self, batch: Tensor) -> Tensor:
        """Embeddings of these real images, in the parts that go through the tower at once."""
        own = in_batches(self.base, self.real.pixels[batch[own_part(len(batch))]])
        parts = [self.network.embed(augment(self.base.prepare(part), self.operation)) for (part,) in own]
        return gathered(torch.cat(parts), len(batch))

    def follow(self, pixels: Tensor) -> None:
        for _ in range(self.settings.adapter_steps):
            self.network.update(augment(pixels, self.operation), self.targets, self.real.labels)


def _prepare(
    base: BaseModel,
    real: TaskImages,
    settings: DistillSettings,
    adapter: Adapter | None,
    advance: Advance,
) -> Open:
    return lambda: distribution_matcher(base, real, settings)


# "paper" is MedForge (2025): 5000 steps, SGD 10 with momentum .5, 256 real images a class.
AUGMENTED = DistillMethod(
    defaults={
        "small": DistillSettings(100, 48, "adam", 0.1, judge_steps=100, method=DM_DSA.name),
        "paper": DistillSettings(5000, 256, "sgd", 10.0, judge_steps=1000, method=DM_DSA.name),
    },
    uses=USES,
    prepare=_prepare,
)
PLAIN = replace(
    AUGMENTED,
    defaults={family: replace(settings, method=DM.name) for family, settings in AUGMENTED.defaults.items()},
)
