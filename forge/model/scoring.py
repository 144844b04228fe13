"""How well a model does: cross-entropy and accuracy on distilled sets, ACC and AUC on real images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from forge.model.base import BaseModel
from forge.model.composing import Delta, Model, Parts, folded
from forge.model.sharing import gathered, own_part

# Pixels of a training step at most: 256 images of 32x32, 5 of 224x224; bounds memory whatever the image size.
PIXELS_PER_BATCH = 256 * 32 * 32
# Of a pass on a CPU, whose caches then hold what a layer works on: of 32 images of the embedded base at once each takes
# 11 % less time than of 128, and 28 % less than of 512.
PIXELS_IN_CACHE = 32 * 32 * 32


@dataclass(frozen=True)
class TaskImages:
    """Images of one task: `pixels` [n, 3, h, w], uint8 or normalised; `targets` [n] index into `labels`.

    `groups` [n], where given, numbers the slide that each image is a patch of; a slide has one target and is
    scored as one (MedForge (2025), section 4: BreakHis).
    """

    task: str
    labels: tuple[str, ...]
    pixels: Tensor
    targets: Tensor
    groups: Tensor | None = None


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
    """How many of these images [n, 3, h, w] a training step takes at most."""
    return max(8, PIXELS_PER_BATCH // (pixels.shape[-1] * pixels.shape[-2]))


def in_batches(base: BaseModel, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of n images each, the pixels [n, 3, h, w] first, in the parts in which they go through the tower."""
    size = images_at_once(base, tensors[0])
    return zip(*(torch.split(tensor, size) for tensor in tensors), strict=True)


def images_at_once(base: BaseModel, pixels: Tensor) -> int:
    """How many of these images [n, 3, h, w] go through the tower at once."""
    at_once = PIXELS_IN_CACHE if base.device.type == "cpu" else PIXELS_PER_BATCH
    return max(8, at_once // (pixels.shape[-1] * pixels.shape[-2]))


def logits(base: BaseModel, pixels: Tensor, labels: tuple[str, ...]) -> Tensor:
    """CLIP's similarities [n, classes], scaled, of images with the label texts; no gradients.

    Of several processes each embeds a part of the images, and all get the whole.
    """
    texts = base.text_embeddings(labels)
    own = pixels[own_part(len(pixels))]
    with torch.no_grad():
        parts = [
            base.logit_scale * F.normalize(base.tower(base.prepare(batch)), dim=-1) @ texts.T
            for (batch,) in in_batches(base, own)
            if len(batch)
        ]
        return gathered(torch.cat(parts) if parts else texts.new_zeros(0, len(labels)), len(pixels))


def outputs(base: BaseModel, model: Model | Parts | Delta, pixels: Tensor, labels: tuple[str, ...]) -> Tensor:
    """What softmax turns into the model's label probabilities, [n, classes].

    The logits of a model that is one change of the base's weights; log sum_k w_k p_k(y|x) / sum_k w_k of a model
    that is several (mixture-output).
    """
    parts = parts_of(model, labels)
    each = []
    for delta, _ in parts:
        with folded(base.tower, delta):
            each.append(logits(base, pixels, labels))
    if len(parts) == 1:
        return each[0]
    return mix_outputs(torch.stack(each).log_softmax(-1), torch.tensor([weight for _, weight in parts]))


def mix_outputs(log_probabilities: Tensor, weights: Tensor) -> Tensor:
    """log sum_k w_k p_k / sum_k w_k [n, classes] from log p_k [k, n, classes] and weights [k] of zero and more."""
    shares = (weights / weights.sum()).log().to(log_probabilities)
    return torch.logsumexp(log_probabilities + shares[:, None, None], dim=0)


def parts_of(model: Model | Parts | Delta, labels: tuple[str, ...]) -> Parts:
    """The parts that tell `labels` apart; a plain change of the base's weights is one part."""
    if isinstance(model, Model):
        return model.parts_for(labels)
    return model if isinstance(model, tuple) else ((model, 1.0),)


def score(base: BaseModel, task: TaskImages) -> Score:
    """Score the tower as it stands (fold a recipe in first) on one task."""
    return _score(logits(base, task.pixels, task.labels), task)


def score_tasks(base: BaseModel, model: Model | Parts | Delta, tasks: Sequence[TaskImages]) -> list[Score]:
    """Scores of a model on each task, in the tasks' order."""
    return [_score(outputs(base, model, task.pixels, task.labels), task) for task in tasks]


def evaluate(base: BaseModel, model: Model | Parts | Delta, task: TaskImages) -> Metrics:
    """ACC, AUC and cross-entropy of a model on (real) images; per slide where the task has groups."""
    out, targets = per_group(outputs(base, model, task.pixels, task.labels), task)
    numbers = targets.cpu().numpy()
    chosen = out.softmax(-1).double().cpu().numpy()
    accuracy = float((chosen.argmax(-1) == numbers).mean())
    return Metrics(len(numbers), accuracy, area_under_curve(chosen, numbers), float(F.cross_entropy(out, targets)))


def probabilities(base: BaseModel, model: Model | Parts | Delta, pixels: Tensor, labels: tuple[str, ...]) -> np.ndarray:
    """Label probabilities [n, classes] of a model."""
    values: np.ndarray = outputs(base, model, pixels, labels).softmax(-1).double().cpu().numpy()
    return values


def per_group(out: Tensor, task: TaskImages) -> tuple[Tensor, Tensor]:
    """Outputs averaged over the images of each slide, and the slides' targets; as they are without groups."""
    if task.groups is None:
        return out, task.targets
    numbers, member = torch.unique(task.groups.to(out.device), return_inverse=True)
    sums = torch.zeros(len(numbers), out.shape[1], dtype=out.dtype, device=out.device).index_add_(0, member, out)
    means = sums / torch.bincount(member, minlength=len(numbers)).unsqueeze(1)
    targets = torch.empty(len(numbers), dtype=task.targets.dtype, device=out.device)
    targets[member] = task.targets.to(out.device)  # a slide's patches share one target
    return means, targets


def score_of(out: Tensor, targets: Tensor) -> Score:
    """The score of outputs [n, classes] for targets [n]."""
    return Score(float(F.cross_entropy(out, targets)), float((out.argmax(-1) == targets).float().mean()))


def _score(out: Tensor, task: TaskImages) -> Score:
    return score_of(*per_group(out, task))


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
