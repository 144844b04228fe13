"""The steps that every distillation method shares: move the pixels along a loss, save, continue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.model.distill_settings import DistillSettings
from forge.model.synthetic import DistilledImages

# Runs have few steps: a second moment over a thousand of them would still know of the noise that they began with.
ADAM_BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class Progress:
    """A run that can be continued: pixels [classes * ipc, 3, h, w], the optimiser's moments, steps done."""

    step: int
    pixels: Tensor
    moments: Mapping[str, Tensor]
    best: DistilledImages | None = None


class Advance(Protocol):
    """Told how many steps more of a run are done, and what it is at in words; none where something else takes time."""

    def __call__(self, steps: int, note: str, /) -> None: ...


def unwatched(steps: int, note: str) -> None:
    """An Advance that nobody looks at."""


class Matcher(Protocol):
    """What a method does in a step."""

    def redraw(self, generator: torch.Generator) -> None:
        """Forget the network so far: what follows depends on the pixels and the generators alone."""

    def gradient(self, pixels: Tensor, generator: torch.Generator) -> tuple[float, Tensor]:
        """The loss of a step and its gradient with respect to the pixels (a leaf that asks for one)."""

    def follow(self, pixels: Tensor) -> None:
        """Update the network on the pixels, which have moved."""


def run_steps(
    matcher: Matcher,
    settings: DistillSettings,
    state: Progress,
    last: int,
    device: torch.device,
    save: Callable[[Progress], None],
    advance: Advance,
) -> Progress:
    """Run the steps from state.step up to `last`; `save` is given the state wherever it can be continued from.

    Raises ForgeError where the loss is no longer finite.
    """
    pixels = state.pixels.clone().to(device).requires_grad_()
    optimizer = _pixel_optimizer(pixels, settings, state)
    for step in range(state.step, last):
        # A generator of its own for every step: continuing at a step draws what an unbroken run would.
        generator = generator_of(settings.seed, step)
        if step == state.step or step % settings.redraw == 0:
            if step > state.step:
                save(Progress(step, pixels.detach().clone(), _moments(optimizer, pixels), state.best))
            matcher.redraw(generator)
        loss, pixels.grad = matcher.gradient(pixels, generator)
        if not math.isfinite(loss):
            raise ForgeError(f"distillation diverged at step {step + 1}", hint="try a smaller --pixel-rate")
        for group in optimizer.param_groups:
            group["lr"] = pixel_rate(settings, step)
        optimizer.step()
        if (step + 1) % settings.redraw != 0:  # a network that is drawn anew next would forget its update at once
            matcher.follow(pixels.detach())
        advance(1, f"loss {loss:.3f}")
    return Progress(last, pixels.detach().clone(), _moments(optimizer, pixels), state.best)


def generator_of(seed: int, step: int) -> torch.Generator:
    """The generator of a step; what is drawn once for the run counts as a step below zero."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step + 1) % 2**63)


def pixel_rate(settings: DistillSettings, step: int) -> float:
    """The pixels' learning rate in a step: constant for SGD, a cosine from pixel_rate to final_rate for Adam."""
    if settings.optimizer == "sgd":
        return settings.pixel_rate
    fall = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return settings.final_rate + (settings.pixel_rate - settings.final_rate) * fall


def _pixel_optimizer(pixels: Tensor, settings: DistillSettings, state: Progress) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer
    if settings.optimizer == "sgd":
        optimizer = torch.optim.SGD([pixels], settings.pixel_rate, momentum=0.5)
    else:
        optimizer = torch.optim.Adam([pixels], settings.pixel_rate, betas=ADAM_BETAS)
    for name, value in state.moments.items():  # Adam's count of steps is a scalar and stays on the CPU
        optimizer.state[pixels][name] = value.clone().to(pixels.device if value.shape else "cpu")
    return optimizer


def _moments(optimizer: torch.optim.Optimizer, pixels: Tensor) -> dict[str, Tensor]:
    state = optimizer.state[pixels]
    return {name: value.detach().clone() for name, value in state.items() if isinstance(value, Tensor)}
