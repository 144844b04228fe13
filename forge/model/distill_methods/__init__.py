"""The distillation methods of the catalogue, one file each, with the settings of each and their defaults.

- "dm": distribution matching (Zhao & Bilen, 2023) under a random LoRA;
- "dm-dsa": the same under siamese augmentation: MedForge (2025), Algorithm 1;
- "dc-dsa": gradient matching, also "dataset condensation" (Zhao et al., 2021), with siamese augmentation
  (Zhao & Bilen, 2021), for the parameters of a random LoRA;
- "teacher-points": whitened class statistics of several layers, matched at points on the way from the base to
  the contributor's own adapter.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from forge.model.distill_methods import distribution_matching, gradient_matching, teacher_points
from forge.model.distill_methods.method import DistillMethod
from forge.model.distill_settings import DistillSettings
from forge.recipe.catalogue import DC_DSA, DM, DM_DSA, TEACHER_POINTS, default_distillation, look_up

METHODS: dict[str, DistillMethod] = {
    DM.name: distribution_matching.PLAIN,
    DM_DSA.name: distribution_matching.AUGMENTED,
    DC_DSA.name: gradient_matching.METHOD,
    TEACHER_POINTS.name: teacher_points.METHOD,
}

ALWAYS_USED = ("method", "steps", "optimizer", "pixel_rate", "ipc", "strength", "judge_steps", "judge_points", "seed")


def method_of(settings: DistillSettings) -> DistillMethod:
    """What distils by these settings; ForgeError where there is no such method."""
    return look_up(METHODS, settings.method, "distillation method")


def used_settings(settings: DistillSettings) -> dict[str, Any]:
    """The settings that the method looks at, in a fixed order; the others cannot change the result."""
    names = {*ALWAYS_USED, *method_of(settings).uses}
    if settings.mixed_precision != "no":
        names.add("mixed_precision")
    used = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name in names}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in used.items()}


def default_settings(family: str, method: str | None = None) -> DistillSettings:
    """The published settings of a method for the family "paper", ours for "small"; the family's own method if None."""
    name = method or default_distillation(family).name
    return look_up(METHODS, name, "distillation method").defaults[family]
