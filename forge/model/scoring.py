"""How well a model does: cross-entropy and accuracy on distilled sets, ACC and AUC on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from forge.model.base import BaseModel
from forge.model.composing import Delta, folded

# Pixels per forward pass: 256 images of 32x32, 5 of 224x224; bounds memory whatever the image size.
PIXELS_PER_BATCH = 256 * 32 * 32


@dataclass(frozen=True)
class TaskImages:
    """Images of one task: `pixels` [n, 3, h, w], uint8 or normalised; `targets` [n] index into `labels`."""

    task: str
    labels: tuple[str, ...]
    pixels: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy (nats) and accuracy of a model on one task."""

    cross_entropy: float
    accuracy: float


@dataclass(frozen=True)
class Metrics:
    """What is reported on real images. `auc` is one-vs-rest, macro; None where a class has no image."""

    images: int
    accuracy: float
    auc: float | None
    cross_entropy: float


def batch_size(pixels: Tensor) -> int:
    """How many of these images [n, 3, h, w] go through the tower at once."""
    return max(8, PIXELS_PER_BATCH // (pixels.shape[-1] * pixels.shape[-2]))


def logits(base: BaseModel, pixels: Tensor, labels: tuple[str, ...]) -> Tensor:
    """CLIP's similarities [n, classes], scaled, of images with the label texts; no gradients."""
    texts = base.text_embeddings(labels)
    with torch.no_grad():
        parts = [
            base.logit_scale * F.normalize(base.tower(base.prepare(batch)), dim=-1) @ texts.T
            for batch in torch.split(pixels, batch_size(pixels))
        ]
    return torch.cat(parts)


def score(base: BaseModel, task: TaskImages) -> Score:
    """Score the tower as it stands (fold a recipe in first) on one task."""
    out = logits(base, task.pixels, task.labels)
    loss = F.cross_entropy(out, task.targets)
    return Score(float(loss), float((out.argmax(-1) == task.targets).float().mean()))


def score_tasks(base: BaseModel, delta: Delta, tasks: Sequence[TaskImages]) -> list[Score]:
    """Scores of base + dW on each task, in the tasks' order."""
    with folded(base.tower, delta):
        return [score(base, task) for task in tasks]


def evaluate(base: BaseModel, delta: Delta, task: TaskImages) -> Metrics:
    """ACC, AUC and cross-entropy of base + dW on (real) images."""
    probabilities, loss = probabilities_of(base, delta, task.pixels, task.labels, task.targets)
    targets = task.targets.cpu().numpy()
    accuracy = float((probabilities.argmax(-1) == targets).mean())
    return Metrics(len(targets), accuracy, area_under_curve(probabilities, targets), loss)


def probabilities_of(
    base: BaseModel, delta: Delta, pixels: Tensor, labels: tuple[str, ...], targets: Tensor | None = None
) -> tuple[np.ndarray, float]:
    """Label probabilities [n, classes] of base + dW; with targets also the mean cross-entropy, else NaN."""
    with folded(base.tower, delta):
        out = logits(base, pixels, labels)
    loss = float(F.cross_entropy(out, targets)) if targets is not None else float("nan")
    return out.softmax(-1).double().cpu().numpy(), loss


def area_under_curve(probabilities: np.ndarray, targets: np.ndarray) -> float | None:
    """ROC AUC: of the second label for two classes, one-vs-rest macro average for more."""
    classes = probabilities.shape[1]
    if classes < 2 or len(np.unique(targets)) < classes:
        return None
    from sklearn.metrics import roc_auc_score

    if classes == 2:
        return float(roc_auc_score(targets, probabilities[:, 1]))
    normalised = probabilities / probabilities.sum(1, keepdims=True)
    return float(roc_auc_score(targets, normalised, multi_class="ovr", labels=list(range(classes))))
