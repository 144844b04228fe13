"""Distilling a private set into a few synthetic images by distribution matching.

MedForge (2025), Algorithm 1 and Eq. 1-2. Per step: theta = theta_main + theta_LoRA with a random theta_LoRA;
psi is the image embedding under theta; the same siamese augmentation on real and synthetic images; the loss
is the squared distance between the class means of psi; one step on the synthetic pixels, then one update of
theta_LoRA on the synthetic images. The images start from noise that owes nothing to the private set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forge.errors import ForgeError
from forge.model.adapters import lora_config, plain_delta, read_adapter
from forge.model.augmentation import augment, draw
from forge.model.base import BaseModel
from forge.model.scoring import Score, TaskImages, score_tasks
from forge.model.training import fit_on_images


@dataclass(frozen=True)
class DistillSettings:
    """Settings of Algorithm 1; `default_settings` gives the paper's and ours for small towers."""

    steps: int
    real_batch: int  # real images per class and step
    optimizer: str  # of the pixels: "sgd" with momentum .5, or "adam" under a cosine
    pixel_rate: float
    ipc: int = 20  # synthetic images per class
    redraw: int = 1  # steps between draws of theta_LoRA; it is updated on the synthetic set in between
    adapter_rate: float = 0.01  # of theta_LoRA's updates
    strength: float = 0.3  # Frobenius norm of a random dW, at most this share of its W's
    judge_steps: int = 150  # of the fresh LoRA that judges the result
    judge_points: int = 1  # how many moments of the run are judged; the best is kept
    seed: int = 0


def default_settings(family: str) -> DistillSettings:
    """The paper's settings (5000 steps, SGD 10 with momentum .5, 256 a class) or those for small towers."""
    if family == "small":
        return DistillSettings(steps=100, real_batch=48, optimizer="adam", pixel_rate=0.1, judge_steps=100)
    return DistillSettings(steps=5000, real_batch=256, optimizer="sgd", pixel_rate=10.0, judge_steps=1000)


@dataclass(frozen=True)
class DistilledImages:
    """Synthetic images as they are stored: pixel = offset + scale * images, in [0, 1] space, per channel."""

    images: Tensor  # uint8 [n, 3, h, w]
    targets: Tensor  # int64 [n]
    offset: Tensor  # float32 [3]
    scale: Tensor  # float32 [3]
    score: Score | None = None  # of a fresh LoRA trained on them alone, on validation


@dataclass(frozen=True)
class Progress:
    """A run that can be continued: pixels [classes * ipc, 3, h, w], the optimiser's moments, steps done."""

    step: int
    pixels: Tensor
    moments: Mapping[str, Tensor]
    best: DistilledImages | None = None


def distil(
    base: BaseModel,
    real: TaskImages,
    validation: TaskImages,
    settings: DistillSettings,
    *,
    resume: Progress | None = None,
    save: Callable[[Progress], None] = lambda progress: None,
    advance: Callable[[str], None] = lambda note: None,
) -> DistilledImages:
    """Distil `real` into settings.ipc images a class, judged on `validation`.

    `save` is given the run's state at every draw of theta_LoRA; passing the last one as `resume` continues
    to the same result as an uninterrupted run. Raises ForgeError where a class has no image or the loss is
    no longer finite.
    """
    classes = len(real.labels)
    if any(int((real.targets == c).sum()) == 0 for c in range(classes)):
        raise ForgeError("every class needs at least one real image to be distilled")
    targets = torch.arange(classes).repeat_interleave(settings.ipc)
    state = resume or Progress(0, start_from_noise(base, len(targets), settings.seed), {})
    best = state.best
    for last in _judging_steps(settings):
        if last <= state.step:
            continue
        state = replace(_match(base, real, settings, state, last, save, advance), best=best)
        stored = quantise(base, state.pixels, targets)
        advance("judging")
        reached = judge(base, as_images(base, stored, real), validation, settings)
        if best is None or best.score is None or _better(reached, best.score):
            best = replace(stored, score=reached)
        state = replace(state, best=best)
        save(state)
    assert best is not None, "a run that was judged to its end is not saved as unfinished"
    return best


def _match(
    base: BaseModel,
    real: TaskImages,
    settings: DistillSettings,
    state: Progress,
    last: int,
    save: Callable[[Progress], None],
    advance: Callable[[str], None],
) -> Progress:
    """Run the matching steps from state.step up to `last`."""
    classes = len(real.labels)
    # Real images wait on the CPU until a batch needs them, so the index of a batch lies there too.
    members = [torch.nonzero(real.targets.cpu() == c).flatten() for c in range(classes)]
    targets = torch.arange(classes, device=base.device).repeat_interleave(settings.ipc)
    pixels = state.pixels.clone().to(base.device).requires_grad_()
    optimizer = _pixel_optimizer(pixels, settings, state)
    with _random_adapter(base, settings) as (model, redraw):
        adapter_optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], settings.adapter_rate)
        for step in range(state.step, last):
            # A generator of its own for every step: continuing at a step draws what an unbroken run would.
            generator = torch.Generator().manual_seed(_mix(settings.seed, step))
            if step == state.step or step % settings.redraw == 0:
                if step > state.step:
                    save(Progress(step, pixels.detach().clone(), _moments(optimizer, pixels), state.best))
                redraw(generator)
            batch = torch.cat([_pick(m, settings.real_batch, generator) for m in members])
            operation = draw(generator)
            with torch.no_grad():
                wanted = class_means(
                    model(augment(base.prepare(real.pixels[batch]), operation)), real.targets[batch], classes
                )
            loss = matching_loss(wanted, class_means(model(augment(pixels, operation)), targets, classes))
            if not torch.isfinite(loss):
                raise ForgeError(f"distillation diverged at step {step + 1}", hint="try a smaller --pixel-rate")
            (pixels.grad,) = torch.autograd.grad(loss, [pixels])
            for group in optimizer.param_groups:
                group["lr"] = _rate(settings, step)
            optimizer.step()
            if settings.redraw > 1:  # an adapter drawn anew at every step would forget its update at once
                similarity = F.normalize(model(augment(pixels.detach(), operation)), dim=-1)
                fit = F.cross_entropy(base.logit_scale * similarity @ base.text_embeddings(real.labels).T, targets)
                adapter_optimizer.zero_grad()
                fit.backward()  # type: ignore[no-untyped-call]
                adapter_optimizer.step()
            advance(f"loss {float(loss.detach()):.3f}")
        return Progress(last, pixels.detach().clone(), _moments(optimizer, pixels), state.best)


def start_from_noise(base: BaseModel, count: int, seed: int) -> Tensor:
    """Standard normal noise in the tower's normalised space [count, 3, h, w]: independent of any private image."""
    generator = torch.Generator().manual_seed(_mix(seed, -1))
    return torch.randn(count, 3, *base.image_size, generator=generator)


def class_means(embedded: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Mean embedding [classes, width] of each class."""
    members = F.one_hot(targets, classes).to(embedded.dtype)
    return (members.T @ embedded) / members.sum(0).unsqueeze(1)


def matching_loss(real_means: Tensor, synthetic_means: Tensor) -> Tensor:
    """Sum over classes of || mean psi(real) - mean psi(synthetic) ||^2 (MedForge (2025), Eq. 2)."""
    return (real_means - synthetic_means).square().sum()


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


def judge(base: BaseModel, images: TaskImages, validation: TaskImages, settings: DistillSettings) -> Score:
    """Train a fresh LoRA on `images` alone and score it on `validation` ("distilled data only")."""
    tensors = fit_on_images(
        base,
        images.pixels,
        images.targets,
        images.labels,
        steps=settings.judge_steps,
        seed=settings.seed,
        augmentation=lambda batch, generator: augment(batch, draw(generator)),
    )
    adapter = read_adapter({"r": 16, "lora_alpha": 16}, tensors, base.tower, source="judging adapter")
    return score_tasks(base, plain_delta(adapter), [validation])[0]


def _judging_steps(settings: DistillSettings) -> list[int]:
    return sorted({round(settings.steps * (i + 1) / settings.judge_points) for i in range(settings.judge_points)})


def _better(new: Score, old: Score) -> bool:
    return (new.accuracy, -new.cross_entropy) > (old.accuracy, -old.cross_entropy)


def _pick(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return members[torch.randperm(len(members), generator=generator)[:count]]


def _mix(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step + 1) % 2**63


def _rate(settings: DistillSettings, step: int) -> float:
    if settings.optimizer == "sgd":
        return settings.pixel_rate
    return settings.pixel_rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def _pixel_optimizer(pixels: Tensor, settings: DistillSettings, state: Progress) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer
    if settings.optimizer == "sgd":
        optimizer = torch.optim.SGD([pixels], settings.pixel_rate, momentum=0.5)
    else:
        optimizer = torch.optim.Adam([pixels], settings.pixel_rate)
    for name, value in state.moments.items():  # Adam's count of steps is a scalar and stays on the CPU
        optimizer.state[pixels][name] = value.clone().to(pixels.device if value.shape else "cpu")
    return optimizer


def _moments(optimizer: torch.optim.Optimizer, pixels: Tensor) -> dict[str, Tensor]:
    state = optimizer.state[pixels]
    return {name: value.detach().clone() for name, value in state.items() if isinstance(value, Tensor)}


@contextmanager
def _random_adapter(
    base: BaseModel, settings: DistillSettings
) -> Iterator[tuple[nn.Module, Callable[[torch.Generator], None]]]:
    """The tower with a LoRA, and a function that draws theta_LoRA anew with B A away from zero.

    PEFT starts B at zero, where B A is zero whatever A is and theta is the base itself; so A and B are both
    drawn, and scaled until |dW| is a random share (up to `strength`) of |W|.
    """
    from peft import get_peft_model

    model = get_peft_model(base.tower, lora_config(rank=16, alpha=16, dropout=0.0))
    layers = [layer for layer in model.modules() if hasattr(layer, "lora_A") and hasattr(layer, "base_layer")]

    def redraw(generator: torch.Generator) -> None:
        for layer in layers:
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            with torch.no_grad():
                a.copy_(torch.randn(a.shape, generator=generator))
                b.copy_(torch.randn(b.shape, generator=generator))
                share = settings.strength * float(torch.rand((), generator=generator))
                norm = (layer.scaling["default"] * b @ a).norm()
                b.mul_(share * layer.base_layer.weight.norm() / norm)
                root = (a.norm() / b.norm().clamp_min(1e-12)).sqrt()  # the same product from factors of one size
                a.div_(root)
                b.mul_(root)

    try:
        model.eval()
        yield model, redraw
    finally:
        model.unload()
        base.tower.eval().requires_grad_(False)
