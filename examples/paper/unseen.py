"""Label sets that a task-aware model has never seen: what it should fall back to.

A task-aware recipe has coefficients for each label set it knows. Here its tasks are asked for in other words, the
lung task for two of its three labels, and all tasks for all their labels at once. Compared are the shared
coefficients, the known tasks' coefficients blended by how near their labels are (task_fallback.py, what git forge
does), the same by labels and images, and those of the task itself, which nobody could know from the labels: the most
that a fallback can reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from examples.paper.experiment import Experiment
from examples.paper.merges import Coefficients, merge_in_order
from examples.paper.methods import METHODS, Merge
from forge.model.base import BaseModel
from forge.model.scoring import TaskImages, batch_size, evaluate
from forge.model.strategies import compose
from forge.model.task_fallback import Labels, blend, label_similarities

METHOD = "mixture-joint-module-distillation-task-aware"
# Known task -> the label texts asked for, and which of the task's classes they stand for.
ASKED: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "breast": (("benign breast", "malignant breast"), (0, 1)),
    "lung": (("lung adenocarcinomas", "lung squamous cell carcinomas"), (1, 2)),
    "colon": (("negative colon", "positive colon"), (0, 1)),
}


@dataclass(frozen=True)
class Fallback:
    """ACC and AUC of one fallback on one unseen label set."""

    task: str
    fallback: str
    accuracy: float
    auc: float | None


def measure_fallbacks(experiment: Experiment, distillation: str, split: str) -> list[Fallback]:
    """Every fallback on every label set of ASKED, on images of `split` ("validation" or "test")."""
    how = METHODS[METHOD].how
    assert isinstance(how, Merge)
    row = experiment.first_row(METHOD, distillation)
    contributions = experiment.contributions(row)
    merged = merge_in_order(experiment.folder, experiment.base, contributions, how, experiment.settings.search)
    adapters = {each.name: each.adapter for each in contributions}
    known: dict[tuple[str, ...], Coefficients] = {
        tuple(merged.notes["labels"][task]): coefficients for task, coefficients in merged.notes["by_task"].items()
    }
    looks = {each.images.labels: each.images.pixels for each in contributions}
    fallbacks = []
    for images, asked in _asked(getattr(experiment.scenario, split)):
        near = label_similarities(experiment.base, asked.labels, known)
        alike = image_similarities(experiment.base, asked.pixels, looks)
        choices: dict[str, Coefficients] = {
            "shared": merged.notes["coefficients"],
            "nearest by labels": blend(known, near),
            "nearest by labels and images": blend(known, {task: (near[task] + alike[task]) / 2 for task in known}),
        }
        if images is not None:
            choices["the task's own"] = known[images.labels]
        for name, coefficients in choices.items():
            parts = compose(how.strategy, [(adapters[each], coefficients[each]) for each in adapters])
            metrics = evaluate(experiment.base, parts, asked)
            fallbacks.append(Fallback(asked.task, name, metrics.accuracy, metrics.auc))
    return fallbacks


def image_similarities(base: BaseModel, pixels: Tensor, known: Mapping[Labels, Tensor]) -> dict[Labels, float]:
    """The cosine of the images' mean embedding with that of each known task's distilled images, [n, 3, h, w] each."""
    seen = mean_embedding(base, pixels)
    return {
        task: float(F.cosine_similarity(seen, mean_embedding(base, images), dim=0)) for task, images in known.items()
    }


def mean_embedding(base: BaseModel, pixels: Tensor) -> Tensor:
    """The mean [width] of the images' unit-length embeddings under the tower as it stands."""
    with torch.no_grad():
        parts = torch.split(pixels, batch_size(pixels))
        return torch.cat([F.normalize(base.tower(base.prepare(part)), dim=-1) for part in parts]).mean(0)


def _asked(tasks: Sequence[TaskImages]) -> Iterator[tuple[TaskImages | None, TaskImages]]:
    """(a known task, its images under the labels asked for); None for those of all tasks together."""
    for images in tasks:
        labels, classes = ASKED[images.task]
        kept = torch.isin(images.targets, torch.tensor(classes))
        targets = torch.tensor([classes.index(int(target)) for target in images.targets[kept]])
        yield images, TaskImages(images.task, labels, images.pixels[kept], targets)
    starts = accumulate((len(images.labels) for images in tasks), initial=0)
    yield (
        None,
        TaskImages(
            "together",
            tuple(label for images in tasks for label in images.labels),
            torch.cat([images.pixels for images in tasks]),
            torch.cat([images.targets + start for images, start in zip(tasks, starts, strict=False)]),
        ),
    )
