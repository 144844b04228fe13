"""Coefficients for a label set that a task-aware recipe has never seen, from the tasks that it knows.

An unseen label set is closer to some known tasks than to others: its labels read alike. The known tasks' coefficients
are averaged by that closeness. `python -m examples.paper unseen` compares that with the shared coefficients, and with a
closeness that also looks at images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from torch import Tensor
from torch.nn import functional as F

from forge.model.base import BaseModel
from forge.model.composing import Coefficient

TEMPERATURE = 0.05  # of the blend: cosines of related label sets lie some tenths apart

Labels = tuple[str, ...]
TaskCoefficients = Mapping[Labels, Mapping[str, Coefficient]]  # known label set -> contribution -> its coefficient


def blend(
    by_labels_coefficients: TaskCoefficients, similarities: Mapping[Labels, float], temperature: float = TEMPERATURE
) -> dict[str, Coefficient]:
    """Coefficients by contribution: sum_t w_t c_t over known tasks t, with w = softmax(similarities / temperature).

    The same label sets in both mappings. A contribution that a task does not name has coefficient 0 there. Where one
    task has a coefficient per module and another a single one, the single one counts for each of those modules.
    Temperatures near 0 take the nearest task's coefficients as they are, high ones the plain average.
    """
    known = sorted(by_labels_coefficients)
    if not known or known != sorted(similarities):
        raise ValueError("a blend needs the similarity of every known task, and one task at least")
    if not temperature > 0:
        raise ValueError("the temperature must be above 0")
    shares = _softmax([similarities[labels] / temperature for labels in known])
    blended: dict[str, Coefficient] = {}
    for name in sorted({name for labels in known for name in by_labels_coefficients[labels]}):
        each = [by_labels_coefficients[labels].get(name, 0.0) for labels in known]
        modules = sorted({module for one in each if isinstance(one, Mapping) for module in one})
        if modules:
            blended[name] = {
                module: sum(share * _of_module(one, module) for share, one in zip(shares, each, strict=True))
                for module in modules
            }
        else:
            blended[name] = sum(share * _of_module(one, "") for share, one in zip(shares, each, strict=True))
    return blended


def label_similarities(base: BaseModel, labels: Labels, known: Iterable[Labels]) -> dict[Labels, float]:
    """How alike an unseen label set and each known one read to the base's text tower, in [-1, 1]."""
    texts = base.text_embeddings(labels)
    return {task: mean_best_cosine(texts, base.text_embeddings(task)) for task in known}


def mean_best_cosine(first: Tensor, second: Tensor) -> float:
    """The cosine of each embedding with its nearest in the other set, averaged both ways; 1 for equal sets.

    Embeddings [n, width] and [m, width], of any length. The mean of both ways' means, so the order does not matter.
    """
    cosines = F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T
    return float((cosines.amax(1).mean() + cosines.amax(0).mean()) / 2)


def _of_module(coefficient: Coefficient, module: str) -> float:
    return coefficient.get(module, 0.0) if isinstance(coefficient, Mapping) else float(coefficient)


def _softmax(values: list[float]) -> list[float]:
    most = max(values)
    each = [math.exp(value - most) for value in values]
    return [value / sum(each) for value in each]
