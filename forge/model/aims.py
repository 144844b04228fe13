"""What a coefficient search wants of a model: images, and the probabilities that it should give their labels.

Two kinds, both of distilled images only. Their labels, every task counting the same (MedForge (2025), section 3.3); and
the distillation loss (Hinton et al., 2015), averaged over contributors: how far the merged model's outputs on a
contributor's distilled images are from targets that are half their labels and half what the contributors of that label
set say of them. Both are cross-entropies with targets, hard or soft.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from forge.model.adapters import Adapter, plain_delta
from forge.model.base import BaseModel
from forge.model.scoring import TaskImages, images_at_once, logits, outputs
from forge.text import same_labels

MOST_TEACHERS = 8
LABEL_SHARE = 0.5  # of the labels in the distillation loss; the rest is the teachers'


@dataclass(frozen=True)
class Aim:
    """Images [n, 3, h, w], and the probabilities [n, classes] that the model should give their labels.

    `share` is the part this aim has in the objective. `floor` is the least that its loss can be (the entropy of
    soft targets), which is taken off, so that 0 is a perfect match.
    """

    labels: tuple[str, ...]
    pixels: Tensor
    targets: Tensor
    share: float
    floor: float = 0.0


def label_aims(tasks: Sequence[TaskImages]) -> list[Aim]:
    """Cross-entropy on the distilled images' labels; every task counts the same however many images it has."""
    return [
        Aim(task.labels, task.pixels, F.one_hot(task.targets, len(task.labels)).float(), 1 / len(tasks))
        for task in tasks
    ]


def teacher_aims(
    base: BaseModel, teachers: Sequence[tuple[Adapter, TaskImages]], label_share: float | None = None
) -> list[Aim]:
    """The distillation loss on everybody's distilled images; `label_share` is LABEL_SHARE where it is None.

    The teachers of a label set are its contributors, each adapter at coefficient 1; where several hospitals share a
    task, none of them knows all of it, so the mean of what they say counts: of MOST_TEACHERS at most for any image, its
    own contributor and those that follow in the order given, so that each is asked as often as the others.
    """
    answers: list[list[Tensor]] = [[] for _ in teachers]
    for same in _by_label_set(teachers):
        for place, number in enumerate(same):
            # Whom this teacher is asked by: itself, and those for whom it is among the next.
            asking = [same[place - back] for back in range(min(MOST_TEACHERS, len(same)))]
            for labels in dict.fromkeys(teachers[each][1].labels for each in asking):  # in their own order
                here = [each for each in asking if teachers[each][1].labels == labels]
                pixels = torch.cat([teachers[each][1].pixels for each in here])
                spoken = outputs(base, plain_delta(teachers[number][0]), pixels, labels).softmax(-1)
                sizes = [len(teachers[each][1].targets) for each in here]
                for each, part in zip(here, torch.split(spoken, sizes), strict=True):
                    answers[each].append(part)
    aims = []
    for (_, images), taught in zip(teachers, answers, strict=True):
        probabilities = soft_targets(images.targets, taught, LABEL_SHARE if label_share is None else label_share)
        aims.append(Aim(images.labels, images.pixels, probabilities, 1 / len(teachers), _entropy(probabilities)))
    return aims


def _by_label_set(teachers: Sequence[tuple[Adapter, TaskImages]]) -> list[list[int]]:
    """The numbers of the teachers of each label set, in the order given."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, (_, images) in enumerate(teachers):
        groups.setdefault(same_labels(images.labels), []).append(number)
    return list(groups.values())


@dataclass(frozen=True)
class Batch:
    """Images [n, 3, h, w] of aims with the same labels, which go through the tower at once.

    targets [n, classes]; weights [n]: what each image's cross-entropy counts in the objective.
    """

    labels: tuple[str, ...]
    pixels: Tensor
    targets: Tensor
    weights: Tensor


def batches_of(base: BaseModel, aims: Sequence[Aim]) -> Iterator[Batch]:
    """All images of some aims: those of many contributors with a few images each share a batch."""
    for labels in dict.fromkeys(aim.labels for aim in aims):
        of_labels = [aim for aim in aims if aim.labels == labels]
        at_once = images_at_once(base, of_labels[0].pixels)
        pieces = [
            (aim.pixels[first : first + at_once], aim.targets[first : first + at_once], aim.share / len(aim.targets))
            for aim in of_labels
            for first in range(0, len(aim.targets), at_once)
        ]
        while pieces:
            count = 0
            some: list[tuple[Tensor, Tensor, float]] = []
            while pieces and (not some or count + len(pieces[0][1]) <= at_once):
                some.append(pieces.pop(0))
                count += len(some[-1][1])
            weights = torch.cat([torch.full((len(targets),), weight) for _, targets, weight in some])
            targets = torch.cat([targets for _, targets, _ in some])
            yield Batch(labels, torch.cat([pixels for pixels, _, _ in some]), targets, weights.to(targets))


def floor_of(aims: Sequence[Aim]) -> float:
    """The least that the aims' objective can be."""
    return sum(aim.share * aim.floor for aim in aims)


def places_in_class(targets: Tensor) -> Tensor:
    """For each image [n] how many of its class come before it."""
    place = torch.zeros(len(targets), dtype=torch.long)
    for label in sorted(set(targets.tolist())):
        there = torch.nonzero(targets.cpu() == label).flatten()
        place[there] = torch.arange(len(there))
    return place


def _entropy(probabilities: Tensor) -> float:
    """The mean entropy of probabilities [n, classes], the least that a cross-entropy with them can be."""
    return -float(torch.special.xlogy(probabilities, probabilities).sum(-1).mean())


def colleagues(teachers: Sequence[tuple[Adapter, TaskImages]], labels: tuple[str, ...]) -> list[Adapter]:
    """The adapters of everybody with the same labels, in whatever order they list them."""
    return [adapter for adapter, images in teachers if same_labels(images.labels) == same_labels(labels)]


def soft_targets(targets: Tensor, answers: Sequence[Tensor], label_share: float) -> Tensor:
    """Probabilities [n, classes]: a share of the labels' [n], the rest the mean of the teachers' [n, classes]."""
    taught = torch.stack(list(answers)).mean(0)
    return label_share * F.one_hot(targets, taught.shape[1]).to(taught) + (1 - label_share) * taught


def total_loss(base: BaseModel, aims: Sequence[Aim]) -> float:
    """The objective of the tower as it stands (fold a change in first)."""
    total = -floor_of(aims)
    for batch in batches_of(base, aims):
        out = logits(base, batch.pixels, batch.labels).log_softmax(-1)
        total -= float(batch.weights @ (batch.targets * out).sum(-1))
    return total


def aim_loss(aim: Aim, out: Tensor) -> Tensor:
    """The aim's part of the objective from outputs [n, classes]."""
    return aim.share * (-(aim.targets * out.log_softmax(-1)).sum(-1).mean() - aim.floor)
