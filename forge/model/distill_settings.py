"""The distillation methods, the settings of each and their defaults.

- "dm": distribution matching (Zhao & Bilen, 2023) under a random LoRA;
- "dm-dsa": the same under siamese augmentation: MedForge (2025), Algorithm 1;
- "dc-dsa": gradient matching, also "dataset condensation" (Zhao et al., 2021), with siamese augmentation
  (Zhao & Bilen, 2021), for the parameters of a random LoRA;
- "teacher-points": whitened class statistics of several layers, matched at points on the way from the base to
  the contributor's own adapter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

METHODS = ("dm", "dm-dsa", "dc-dsa", "teacher-points")
TEACHER_POINTS = "teacher-points"


@dataclass(frozen=True)
class DistillSettings:
    """Settings of a distillation; `default_settings` gives the published ones and ours for small towers.

    Those that a method does not use are left out of `used_settings`.
    """

    steps: int
    real_batch: int  # real images per class and step
    optimizer: str  # of the pixels: "sgd" with momentum .5, or "adam" under a cosine
    pixel_rate: float
    ipc: int = 20  # synthetic images per class
    redraw: int = 1  # steps between draws of theta_LoRA; it is updated on the synthetic set in between
    adapter_rate: float = 0.01  # of theta_LoRA's updates
    strength: float = 0.3  # Frobenius norm of a random dW, at most this share of its W's
    judge_steps: int = 150  # of the fresh LoRA that judges the result
    judge_points: int = 1  # how many moments of the run are judged, the best is kept; 0: none is
    seed: int = 0
    method: str = "dm-dsa"
    final_rate: float = 0.0  # of the pixels, where "adam" ends
    adapter_steps: int = 1  # updates of theta_LoRA per step
    points: int = 12  # u * (the adapter's dW) + a random dW, each under one augmentation of its own
    reach: float = 1.1  # the largest u is just under this
    token_depths: tuple[float, ...] = (0.5, 0.75, 1.0)  # blocks whose tokens' mean and deviation are matched
    class_depths: tuple[float, ...] = (0.75, 1.0)  # blocks whose class token is matched; 1 is the last block
    shrinkage: float = 0.2  # of the within-class covariance towards a multiple of the identity
    second_moments: float = 0.3  # their weight beside the means'
    step_images: int = 60  # synthetic images per forward pass at most, in whole classes (one class at least)

    @property
    def needs_adapter(self) -> bool:
        """Whether the method starts from the contributor's own adapter."""
        return self.method == TEACHER_POINTS

    @property
    def augments(self) -> bool:
        """Whether the method draws siamese augmentations."""
        return self.method != "dm"


_ALWAYS = ("method", "steps", "optimizer", "pixel_rate", "ipc", "strength", "judge_steps", "judge_points", "seed")
_RANDOM_ADAPTER = ("real_batch", "redraw", "adapter_rate", "adapter_steps")
_POINTS = (
    "final_rate",
    "points",
    "reach",
    "token_depths",
    "class_depths",
    "shrinkage",
    "second_moments",
    "step_images",
)


def used_settings(settings: DistillSettings) -> dict[str, Any]:
    """The settings that the method looks at, in a fixed order; the others cannot change the result."""
    names = _ALWAYS + (_POINTS if settings.needs_adapter else _RANDOM_ADAPTER)
    found = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name in names}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def default_settings(family: str, method: str | None = None) -> DistillSettings:
    """The published settings of a method for the family "paper", ours for "small"; the family's own method if None.

    MedForge (2025): 5000 steps, SGD 10 with momentum .5, 256 real images a class. Gradient matching: those of
    Zhao et al. (2021) for 20 images a class, for as many steps.
    """
    small = family == "small"
    method = method or (TEACHER_POINTS if small else "dm-dsa")
    judge_steps = 150 if small else 1000
    if method == TEACHER_POINTS:
        return DistillSettings(
            steps=300,
            real_batch=0,
            optimizer="adam",
            pixel_rate=0.1,
            final_rate=0.005,
            strength=0.05,
            judge_steps=judge_steps,
            method=method,
        )
    if method == "dc-dsa":
        if small:
            return DistillSettings(60, 24, "adam", 0.1, redraw=4, judge_steps=judge_steps, method=method)
        return DistillSettings(5000, 256, "sgd", 0.1, redraw=20, adapter_steps=25, judge_steps=1000, method=method)
    if small:
        return DistillSettings(100, 48, "adam", 0.1, judge_steps=judge_steps, method=method)
    return DistillSettings(5000, 256, "sgd", 10.0, judge_steps=judge_steps, method=method)
