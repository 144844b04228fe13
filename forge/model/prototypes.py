"""Class means of the frozen base's embeddings: what images tell untrained, and the least that an adapter must reach."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from forge.model.base import BaseModel
from forge.model.scoring import TaskImages, in_batches
from forge.model.sharing import gathered, own_part

MOST = 1000  # images that class means are made of


def embeddings(base: BaseModel, images: TaskImages) -> Tensor:
    """Embeddings [n, d] of unit length, on the CPU; each of several processes makes a part, and all get the whole."""
    own = images.pixels[own_part(len(images.pixels))]
    with torch.no_grad():
        parts = [base.tower(base.prepare(batch)).float() for (batch,) in in_batches(base, own) if len(batch)]
    none = base.text_embeddings(images.labels)[:0]  # of the same width
    return F.normalize(gathered(torch.cat(parts) if parts else none, len(images.pixels)).cpu(), dim=-1)


def class_means(embedded: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Mean [classes, d] of each class's embeddings; zeros where a class has none."""
    members = F.one_hot(targets, classes).to(embedded.dtype)
    return members.T @ embedded / members.sum(0).clamp_min(1).unsqueeze(1)


def nearest(embedded: Tensor, means: Tensor) -> Tensor:
    """The class [n] whose mean is nearest."""
    return torch.cdist(embedded, means).argmin(1)


def prototype_accuracy(base: BaseModel, train: TaskImages, validation: TaskImages, seed: int = 0) -> float:
    """Share of validation images that are nearest to their own class's mean over (at most MOST) training images."""
    drawn = torch.randperm(len(train.targets), generator=torch.Generator().manual_seed(seed))[:MOST]
    some = TaskImages(train.task, train.labels, train.pixels[drawn], train.targets[drawn])
    means = class_means(embeddings(base, some), some.targets.cpu(), len(train.labels))
    return float((nearest(embeddings(base, validation), means) == validation.targets.cpu()).float().mean())
