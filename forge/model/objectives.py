"""What a coefficient search minimises, as a differentiable function of the coefficients.

Two objectives, both on distilled images only. Cross-entropy on their labels, averaged over tasks (MedForge (2025),
section 3.3); and the distillation loss (Hinton et al., 2015), averaged over contributors: how far the merged model's
outputs on a contributor's distilled images are from targets that are half their labels and half what the contributors
of that label set say of them. Both are cross-entropies with targets, hard or soft, so both are a list of `Aim`s.
Coefficients are C [members, modules], or [members, 1] where the strategy has none per module; a module that a member
does not adapt has a coefficient without effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from forge.model.adapters import Adapter, plain_delta
from forge.model.attention import adaptable_modules
from forge.model.base import BaseModel
from forge.model.composing import Delta, Members, folded
from forge.model.scoring import TaskImages, in_batches, logits, outputs
from forge.text import same_labels

LABEL_SHARE = 0.5  # of the labels in the distillation loss; the rest is the teachers'


@dataclass(frozen=True)
class Objective:
    """A loss of coefficients C [members, columns]: its value, and its value with the gradient [members, columns]."""

    value: Callable[[Tensor], float]
    with_gradient: Callable[[Tensor], tuple[float, Tensor]]


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
    task, none of them knows all of it, so the mean of what they say counts.
    """
    aims = []
    for _, images in teachers:
        answers = [
            outputs(base, plain_delta(adapter), images.pixels, images.labels).softmax(-1)
            for adapter in colleagues(teachers, images.labels)
        ]
        probabilities = soft_targets(images.targets, answers, LABEL_SHARE if label_share is None else label_share)
        entropy = -float(torch.special.xlogy(probabilities, probabilities).sum(-1).mean())
        aims.append(Aim(images.labels, images.pixels, probabilities, 1 / len(teachers), entropy))
    return aims


def colleagues(teachers: Sequence[tuple[Adapter, TaskImages]], labels: tuple[str, ...]) -> list[Adapter]:
    """The adapters of everybody with the same labels, in whatever order they list them."""
    return [adapter for adapter, images in teachers if same_labels(images.labels) == same_labels(labels)]


def soft_targets(targets: Tensor, answers: Sequence[Tensor], label_share: float) -> Tensor:
    """Probabilities [n, classes]: a share of the labels' [n], the rest the mean of the teachers' [n, classes]."""
    taught = torch.stack(list(answers)).mean(0)
    return label_share * F.one_hot(targets, taught.shape[1]).to(taught) + (1 - label_share) * taught


def module_names(adapters: Sequence[Adapter]) -> list[str]:
    """The columns of C: every module that some member adapts, sorted."""
    return sorted({name for adapter in adapters for name in adapter})


def weight_objective(
    base: BaseModel, adapters: Sequence[Adapter], aims: Sequence[Aim], delta_of: Callable[[Members], Delta]
) -> Objective:
    """The objective of a strategy that is one set of weights, whose dW is `delta_of` the members.

    delta_of is differentiable in coefficients given as tensors. One call is one forward and backward pass over the
    aims' images. Batches go back as far as the adapted weights only, and from their summed gradients to C once, so
    that memory does not grow with the number of images.
    """
    names = module_names(adapters)
    frozen = {name: adaptable_modules(base.tower)[name].weight.detach() for name in names}

    def compose(coefficients: Tensor) -> Delta:
        # One column is for all modules.
        rows = [dict(zip(names, row.expand(len(names)).unbind(), strict=True)) for row in coefficients]
        return delta_of(list(zip(adapters, rows, strict=True)))

    def value(point: Tensor) -> float:
        with torch.no_grad(), folded(base.tower, compose(point.to(base.device))):
            return total_loss(base, aims)

    def with_gradient(point: Tensor) -> tuple[float, Tensor]:
        coefficients = point.detach().to(base.device).requires_grad_()
        with torch.enable_grad():
            deltas = compose(coefficients)
            weights = {name: (frozen[name] + deltas[name].detach()).requires_grad_() for name in names}
            total = sum(_backward(base, aim, weights) for aim in aims)
            gradients = [weights[name].grad for name in names]
            (gradient,) = torch.autograd.grad([deltas[name] for name in names], [coefficients], gradients)
        return total, gradient.detach().cpu()

    return Objective(value, with_gradient)


def total_loss(base: BaseModel, aims: Sequence[Aim]) -> float:
    """The objective of the tower as it stands (fold a change in first)."""
    return sum(float(aim_loss(aim, logits(base, aim.pixels, aim.labels))) for aim in aims)


def aim_loss(aim: Aim, out: Tensor) -> Tensor:
    """The aim's part of the objective from outputs [n, classes]."""
    return aim.share * (-(aim.targets * out.log_softmax(-1)).sum(-1).mean() - aim.floor)


def _backward(base: BaseModel, aim: Aim, weights: dict[str, Tensor]) -> float:
    """Add the gradient of an aim's loss to the weights'; returns the aim's part of the objective."""
    texts = base.text_embeddings(aim.labels)
    replaced = {f"{name}.weight": weight for name, weight in weights.items()}
    total = 0.0
    for pixels, targets in in_batches(base, aim.pixels, aim.targets):
        embedded = F.normalize(functional_call(base.tower, replaced, (base.prepare(pixels),)), dim=-1)
        out = (base.logit_scale * embedded @ texts.T).log_softmax(-1)
        part = -(targets * out).sum() * (aim.share / len(aim.targets))
        part.backward()  # type: ignore[no-untyped-call]
        total += float(part.detach())
    return total - aim.share * aim.floor
