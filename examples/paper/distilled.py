"""The distilled datasets of an experiment, and what a fresh adapter learns from each alone; kept once made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from examples.paper.kept import keep
from examples.paper.scenarios import Participant, images_digest
from forge.console import progress
from forge.model.adapters import Adapter, LowRank, adapter_digest
from forge.model.attention import adaptable_modules
from forge.model.base import BaseModel
from forge.model.distillation import (
    DistilledImages,
    DistillSettings,
    as_images,
    default_settings,
    fit_on_distilled,
    used_settings,
)
from forge.model.scoring import TaskImages
from forge.operations.distill import distil_images


def participant_distilled(
    folder: Path, base: BaseModel, participant: Participant, adapter: Adapter, settings: DistillSettings | None = None
) -> DistilledImages:
    """The images that `git forge distill` would make of a participant's images with the defaults for this base.

    A single judgement at the end would change nothing but the score, so it is left out: see `distilled_only`.
    """
    chosen = replace(settings or default_settings(base.settings_family), seed=participant.seed)
    if chosen.judge_points == 1:
        chosen = replace(chosen, judge_points=0)
    data = [images_digest(participant.train)]
    if chosen.judge_points:
        data.append(images_digest(participant.validation))
    teacher = adapter_digest(adapter) if chosen.needs_adapter else None

    def make() -> tuple[dict, dict]:  # type: ignore[type-arg]
        images = (participant.train, participant.validation)
        distilled = distil_images(base, participant.name, *images, chosen, adapter=adapter)
        return {name: getattr(distilled, name) for name in ("images", "targets", "offset", "scale")}, {}

    tensors, _ = keep(folder, "distilled", [base.fingerprint, used_settings(chosen), data, teacher], make)
    return DistilledImages(tensors["images"], tensors["targets"], tensors["offset"], tensors["scale"])


def as_task(base: BaseModel, distilled: DistilledImages, like: TaskImages) -> TaskImages:
    """Distilled images as the tower takes them, for the task and labels of `like`."""
    return as_images(base, distilled, like)


def distilled_only(
    folder: Path,
    base: BaseModel,
    participant: Participant,
    distilled: DistilledImages,
    steps: int = 150,
    *,
    dora: bool = False,
) -> Adapter:
    """A fresh LoRA (or DoRA) trained on the distilled images alone (MedForge (2025), "distilled data only")."""
    images = as_task(base, distilled, participant.train)

    def make() -> tuple[dict, dict]:  # type: ignore[type-arg]
        with progress(f"training on {participant.name}'s distilled images", steps) as advance:
            fitted = fit_on_distilled(
                base, images, steps=steps, seed=participant.seed, dora=dora, advance=lambda: advance(1)
            )
        factors = {f"{name}.{part}": getattr(fitted[name], part) for name in fitted for part in ("a", "b")}
        factors |= {f"{name}.magnitude": m.magnitude for name, m in fitted.items() if m.magnitude is not None}
        return factors, {"scaling": {name: fitted[name].scaling for name in fitted}}

    inputs = [base.fingerprint, images_digest(images), steps, participant.seed, *(["dora"] if dora else [])]
    tensors, notes = keep(folder, "distilled-only", inputs, make)
    modules = adaptable_modules(base.tower)
    adapter = {}
    for name, scaling in notes["scaling"].items():
        a, b = (tensors[f"{name}.{part}"].to(base.device) for part in ("a", "b"))
        if not dora:
            adapter[name] = LowRank(a, b, scaling)
            continue
        magnitude = tensors[f"{name}.magnitude"].to(base.device)
        adapter[name] = LowRank(a, b, scaling, magnitude, modules[name].weight.detach())
    return adapter
