"""Class means of frozen embeddings, held against plain loops."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from forge.model.base import BaseModel
from forge.model.prototypes import class_means, embeddings, nearest, prototype_accuracy
from forge.model.scoring import TaskImages

MakeTask = Callable[..., TaskImages]


def test_means_by_hand() -> None:
    embedded = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    means = class_means(embedded, torch.tensor([0, 2, 2]), 3)
    assert means.tolist() == [[1, 0], [0, 0], [0, 2]]
    assert nearest(torch.tensor([[0.9, 0.3], [0.1, 0.1], [0.0, 9.0]]), means).tolist() == [0, 1, 2]


def test_the_share_by_loops(base: BaseModel, bright_or_dark: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation = bright_or_dark(20), bright_or_dark(15, 1)
    with torch.no_grad():
        of_train, of_validation = (
            F.normalize(base.tower(base.prepare(task.pixels)), dim=-1) for task in (train, validation)
        )
    torch.testing.assert_close(embeddings(base, train), of_train, rtol=1e-4, atol=1e-5)
    right = 0
    for image, target in zip(of_validation, validation.targets.tolist(), strict=True):
        apart = []
        for number in (0, 1):
            own = [row for row, label in zip(of_train, train.targets.tolist(), strict=True) if label == number]
            apart.append(float((image - sum(own) / len(own)).norm()))
        right += apart.index(min(apart)) == target
    assert prototype_accuracy(base, train, validation) == pytest.approx(right / 15)


def test_labels_that_mean_nothing_are_read_by_chance(base: BaseModel, bright_or_dark: MakeTask) -> None:
    train, validation = bright_or_dark(40), bright_or_dark(40, 1)
    assert prototype_accuracy(base, train, validation) > 0.9
    swapped = TaskImages(validation.task, validation.labels, validation.pixels, 1 - validation.targets)
    assert prototype_accuracy(base, train, swapped) < 0.1
