"""Distilling a private set into a few synthetic images, by one of several methods, and judging the result.

The methods are in distill_methods; a run is the same whether it is interrupted or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.formats.adapter import minimal_config
from forge.model.adapters import Adapter, plain_delta, read_adapter
from forge.model.augmentation import augment, draw
from forge.model.base import BaseModel
from forge.model.distill_methods import default_settings, method_of, used_settings
from forge.model.distill_methods.method import Open
from forge.model.distill_settings import DistillSettings
from forge.model.pixel_steps import Advance, Progress, run_steps, unwatched
from forge.model.scoring import Score, TaskImages, score_tasks
from forge.model.synthetic import DistilledImages, as_images, quantise, restore
from forge.model.training import fit_on_images
from forge.model.training_augmentation import siamese_kinds

__all__ = [
    "DistillSettings",
    "DistilledImages",
    "Progress",
    "as_images",
    "default_settings",
    "distil",
    "fit_on_distilled",
    "judge",
    "quantise",
    "restore",
    "used_settings",
]

LEAST_BATCH = 24  # distilled images in a step of a fresh adapter
LEARNING_RATE = 3e-3  # of such an adapter: on lung in 100 steps the AUC that 2e-3 reaches in 150


def distil(
    base: BaseModel,
    real: TaskImages,
    validation: TaskImages,
    settings: DistillSettings,
    *,
    adapter: Adapter | None = None,
    resume: Progress | None = None,
    save: Callable[[Progress], None] = lambda progress: None,
    advance: Advance = unwatched,
) -> DistilledImages:
    """Distil `real` into settings.ipc images a class, judged on `validation`.

    `adapter` is the contributor's own, for the methods that need one. `save` is given the run's state wherever it
    can be continued from; passing the last one as `resume` continues to the same result as an uninterrupted
    run. `advance` is told of every step with its loss, and of no step where something else takes time. Raises
    ForgeError where a class has no image, the adapter is missing or the loss is no longer finite.
    """
    classes = len(real.labels)
    if any(int((real.targets == c).sum()) == 0 for c in range(classes)):
        raise ForgeError("every class needs at least one real image to be distilled")
    if settings.needs_adapter and adapter is None:
        raise ForgeError(
            f"the distillation method {settings.method!r} needs the contribution's adapter",
            hint="run git forge train first, or choose another --method",
        )
    targets = torch.arange(classes).repeat_interleave(settings.ipc)
    method = method_of(settings)
    state = resume or Progress(0, method.start(base, real, len(targets), settings.seed), {})
    best = state.best
    open_steps: Open | None = None
    for last in _judging_steps(settings):
        if last <= state.step and best is not None:
            continue
        if last > state.step:
            open_steps = open_steps or method.prepare(base, real, settings, adapter, advance)
            with open_steps() as matcher:
                state = replace(
                    run_steps(matcher, settings, state, last, base.device, save, advance),
                    best=best,
                )
        best = _better_of(best, _judged(base, state.pixels, targets, real, validation, settings, advance))
        state = replace(state, best=best)
        save(state)
    assert best is not None, "a run has at least one moment at which it is judged"
    return best


def fit_on_distilled(
    base: BaseModel,
    images: TaskImages,
    *,
    steps: int,
    seed: int,
    dora: bool = False,
    mixed_precision: str = "no",
    advance: Callable[[], None] = lambda: None,
) -> Adapter:
    """A fresh LoRA (or DoRA) trained on `images` alone under augmentation: MedForge (2025), "distilled data only".

    Half of the images are in a step, LEAST_BATCH at least: on lung the same AUC as with all of them in each.
    They are not mirrored where the frozen base tells mirrored ones apart less well, as of digits.
    """
    kinds = siamese_kinds(base, images, seed)
    tensors = fit_on_images(
        base,
        images.pixels,
        images.targets,
        images.labels,
        steps=steps,
        batch=max(LEAST_BATCH, len(images.targets) // 2),
        learning_rate=LEARNING_RATE,
        seed=seed,
        augmentation=lambda batch, generator: augment(batch, draw(generator, kinds)),
        advance=advance,
        dora=dora,
        mixed_precision=mixed_precision,
    )
    return read_adapter(minimal_config(16, 16, dora=dora), tensors, base.tower, source="judging adapter")


def judge(base: BaseModel, images: TaskImages, validation: TaskImages, settings: DistillSettings) -> Score:
    """The score on `validation` of a fresh LoRA trained on `images` alone."""
    adapter = fit_on_distilled(
        base, images, steps=settings.judge_steps, seed=settings.seed, mixed_precision=settings.mixed_precision
    )
    return score_tasks(base, plain_delta(adapter), [validation])[0]


def _judged(
    base: BaseModel,
    pixels: Tensor,
    targets: Tensor,
    real: TaskImages,
    validation: TaskImages,
    settings: DistillSettings,
    advance: Advance,
) -> DistilledImages:
    stored = quantise(base, pixels, targets)
    if settings.judge_points == 0:
        return stored
    advance(0, "judging")
    return replace(stored, score=judge(base, as_images(base, stored, real), validation, settings))


def _judging_steps(settings: DistillSettings) -> list[int]:
    points = max(1, settings.judge_points)
    return sorted({round(settings.steps * (i + 1) / points) for i in range(points)})


def _better_of(old: DistilledImages | None, new: DistilledImages) -> DistilledImages:
    """The one with the better score on validation; the earlier where they are equal."""
    if old is None or old.score is None or new.score is None:
        return new
    ranks = [(score.accuracy, -score.cross_entropy) for score in (old.score, new.score)]
    return new if ranks[1] > ranks[0] else old
