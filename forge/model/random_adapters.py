"""The random theta_LoRA that MedForge (2025), Algorithm 1 distils under."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from forge.model.adapters import lora_config
from forge.model.base import BaseModel
from forge.model.distill_settings import DistillSettings
from forge.model.precision import precision
from forge.model.sharing import own_part, summed_all

# The settings that a method under a random theta_LoRA looks at beside those of every method.
USES = ("real_batch", "redraw", "adapter_rate", "adapter_steps")


class RandomAdapter:
    """The tower with a LoRA whose A and B are drawn at random, both."""

    def __init__(self, base: BaseModel, model: Any, settings: DistillSettings) -> None:
        self.base, self.model, self.settings = base, model, settings
        self.layers = [layer for layer in model.modules() if hasattr(layer, "lora_A") and hasattr(layer, "base_layer")]
        self.parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(self.parameters, settings.adapter_rate)

    def redraw(self, generator: torch.Generator) -> None:
        """Draw theta_LoRA anew, with B A away from zero.

        PEFT starts B at zero, where B A is zero whatever A is and theta is the base itself; so A and B are both
        drawn, and scaled until |dW| is a random share (up to settings.strength) of |W|.
        """
        for layer in self.layers:
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            with torch.no_grad():
                a.copy_(torch.randn(a.shape, generator=generator))
                b.copy_(torch.randn(b.shape, generator=generator))
                share = self.settings.strength * float(torch.rand((), generator=generator))
                norm = (layer.scaling["default"] * b @ a).norm()
                b.mul_(share * layer.base_layer.weight.norm() / norm)
                root = (a.norm() / b.norm().clamp_min(1e-12)).sqrt()  # the same product from factors of one size
                a.div_(root)
                b.mul_(root)

    def embed(self, images: Tensor) -> Tensor:
        """psi: embeddings [n, joint width] of normalised images, not of unit length."""
        with precision(self.settings.mixed_precision, self.base.device):
            embedded: Tensor = self.model(images)
        return embedded.float()

    def classification_loss(self, images: Tensor, targets: Tensor, labels: tuple[str, ...]) -> Tensor:
        """Mean cross-entropy of normalised images on the label similarities; this process's part of the sum."""
        own = own_part(len(targets))
        similarity = F.normalize(self.embed(images[own]), dim=-1)
        similarity = self.base.logit_scale * similarity @ self.base.text_embeddings(labels).T
        return F.cross_entropy(similarity, targets[own], reduction="sum") / len(targets)

    def update(self, images: Tensor, targets: Tensor, labels: tuple[str, ...]) -> None:
        """One step of SGD of theta_LoRA on the classification loss."""
        loss = self.classification_loss(images, targets, labels)
        gradients = summed_all(torch.autograd.grad(loss, self.parameters))
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()


@contextmanager
def random_adapter(base: BaseModel, settings: DistillSettings) -> Iterator[RandomAdapter]:
    """The tower with a LoRA to be drawn; the base is as it was on exit."""
    from peft import get_peft_model

    with torch.random.fork_rng(devices=[]):  # PEFT's initialisation draws from the global generator
        model = get_peft_model(
            base.tower, lora_config(rank=16, alpha=16, dropout=0.0, modules=base.tower.plugin_modules)
        )
    try:
        model.eval()
        yield RandomAdapter(base, model, settings)
    finally:
        model.unload()
        base.tower.eval().requires_grad_(False)
