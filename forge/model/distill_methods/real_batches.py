"""Batches of the private images of a class."""

from __future__ import annotations

import torch
from torch import Tensor

from forge.model.scoring import TaskImages


def class_members(real: TaskImages) -> list[Tensor]:
    """The numbers of each class's images.

    Real images wait on the CPU until a batch needs them, so the index of a batch lies there too.
    """
    return [torch.nonzero(real.targets.cpu() == c).flatten() for c in range(len(real.labels))]


def pick(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """As many of the members at random, all of them where there are fewer."""
    return members[torch.randperm(len(members), generator=generator)[:count]]
