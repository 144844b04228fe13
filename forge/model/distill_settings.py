"""The settings of a distillation, whatever the method: distill_methods says which of them a method looks at."""

from __future__ import annotations

from dataclasses import dataclass

from forge.model.precision import MIXED_PRECISIONS
from forge.recipe.catalogue import DM_DSA, distillation_method_named
from forge.recipe.checks import check_between, check_choice, check_whole


@dataclass(frozen=True)
class DistillSettings:
    """Settings of a distillation; the published ones and ours for small towers are with the method."""

    steps: int
    real_batch: int  # real images per class and step; of teacher-points per class and point, 0: all
    optimizer: str  # of the pixels: "sgd" with momentum .5, or "adam" under a cosine
    pixel_rate: float
    ipc: int = 20  # synthetic images per class
    redraw: int = 1  # steps between draws of theta_LoRA; it is updated on the synthetic set in between
    adapter_rate: float = 0.01  # of theta_LoRA's updates
    strength: float = 0.3  # Frobenius norm of a random dW, at most this share of its W's
    judge_steps: int = 100  # of the fresh LoRA that judges the result
    judge_points: int = 1  # how many moments of the run are judged, the best is kept; 0: none is
    seed: int = 0
    method: str = DM_DSA.name
    final_rate: float = 0.0  # of the pixels, where "adam" ends
    adapter_steps: int = 1  # updates of theta_LoRA per step
    points: int = 12  # u * (the adapter's dW) + a random dW, each under one augmentation of its own
    reach: float = 1.1  # the largest u is just under this
    token_depths: tuple[float, ...] = (0.5, 0.75)  # blocks whose tokens' mean and deviation are matched
    class_depths: tuple[float, ...] = (0.75, 1.0)  # blocks whose class token is matched; 1 is the last block
    shrinkage: float = 0.2  # of the within-class covariance towards a multiple of the identity
    second_moments: float = 0.3  # their weight beside the means'
    mixed_precision: str = "no"  # "bf16": the tower computes in 16 bits in the steps, statistics and sums stay in 32
    step_images: int = 60  # synthetic images per forward pass at most, in whole classes (one class at least)

    def __post_init__(self) -> None:
        check_choice(self.optimizer, "the optimizer", ("sgd", "adam"))
        check_choice(self.mixed_precision, "the mixed precision", MIXED_PRECISIONS)
        for name in ("steps", "ipc", "redraw", "points", "judge_steps", "step_images"):
            check_whole(getattr(self, name), name, least=1)
        for name in ("real_batch", "judge_points", "adapter_steps", "seed"):
            check_whole(getattr(self, name), name, least=0)
        check_between(self.pixel_rate, "pixel_rate", 0)

    @property
    def needs_adapter(self) -> bool:
        """Whether the method starts from the contributor's own adapter."""
        return distillation_method_named(self.method).needs_adapter

    @property
    def augments(self) -> bool:
        """Whether the method draws siamese augmentations."""
        return distillation_method_named(self.method).augments
