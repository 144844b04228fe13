"""Label sets that a task-aware model has never seen: what it should fall back to.

A task-aware recipe has coefficients for each label set it knows. Here its tasks are asked for in other words, and the
lung task for two of its three labels. Compared are the shared coefficients, the known tasks' coefficients blended
by how near they are (task_fallback.py), by labels alone or by labels and images, and those of the task itself, which
nobody could know from the labels: the most that a fallback can reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from forge.bench.experiment import Experiment
from forge.bench.merges import Coefficients, merge_in_order
from forge.bench.methods import METHODS, Merge
from forge.model.composing import compose
from forge.model.scoring import TaskImages, evaluate
from forge.model.task_fallback import blend, task_similarities

METHOD = "mixture-joint-module-distillation-task-aware"
TEMPERATURE = 0.05  # of the blend: cosines of related label sets lie some tenths apart
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
    found = []
    for images in getattr(experiment.scenario, split):
        asked = _in_other_words(images)
        near = {
            "nearest by labels": task_similarities(experiment.base, asked.labels, looks),
            "nearest by labels and images": task_similarities(experiment.base, asked.labels, looks, asked.pixels),
        }
        choices: dict[str, Coefficients] = {
            "shared": merged.notes["coefficients"],
            **{name: blend(known, similar, TEMPERATURE) for name, similar in near.items()},
            "the task's own": known[images.labels],
        }
        for name, coefficients in choices.items():
            parts = compose(how.strategy, [(adapters[each], coefficients[each]) for each in adapters])
            metrics = evaluate(experiment.base, parts, asked)
            found.append(Fallback(images.task, name, metrics.accuracy, metrics.auc))
    return found


def _in_other_words(images: TaskImages) -> TaskImages:
    """The images of the classes that are asked for, with the labels asked for."""
    labels, classes = ASKED[images.task]
    kept = torch.isin(images.targets, torch.tensor(classes))
    targets = torch.tensor([classes.index(int(target)) for target in images.targets[kept]])
    return TaskImages(f"{images.task}, in other words", labels, images.pixels[kept], targets)
