"""How a model does on distilled images: by task, on every contribution's own, and against newcomers that contradict.

Every contribution is judged on its own images, never only in a pool that a newcomer shares: with images of its own in
the pool, a newcomer decides what is measured. All figures come from one forward pass over each pool.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forge.recipe.gate import Contradiction
from forge.recipe.item import OwnScore, TaskScore

if TYPE_CHECKING:
    from torch import Tensor

    from forge.model.adapters import Adapter
    from forge.model.base import BaseModel
    from forge.model.composing import Model
    from forge.model.merging import Pool
    from forge.model.scoring import TaskImages


@dataclass(frozen=True)
class Judged:
    """The scores of a recipe: by task as they are pooled, and of every contribution on its own images."""

    scores: tuple[TaskScore, ...]
    own_scores: tuple[OwnScore, ...]


def answers(base: BaseModel, model: Model, pools: Sequence[Pool]) -> list[Tensor]:
    """What a model says of each pool's images: outputs [n, classes], as of forge.model.scoring.outputs."""
    from forge.model.scoring import outputs

    return [outputs(base, model, pool.task.pixels, pool.task.labels) for pool in pools]


def judge(pools: Sequence[Pool], after: Sequence[Tensor], before: Sequence[Tensor] | None) -> Judged:
    """Scores from the answers of a model, and of the one that it was made from, if that is known."""
    from forge.model.scoring import score_of

    scores, own = [], []
    for number, pool in enumerate(pools):
        task, now = pool.task, after[number]
        then = before[number] if before is not None else None
        whole = score_of(now, task.targets)
        was = None if then is None else score_of(then, task.targets)
        scores.append(
            TaskScore(
                task.task,
                task.labels,
                len(task.targets),
                whole.accuracy,
                whole.cross_entropy,
                None if was is None else was.accuracy,
                None if was is None else was.cross_entropy,
            )
        )
        own += [_own(name, task.targets, part, now, then) for name, part in pool.parts.items()]
    return Judged(tuple(scores), tuple(sorted(own, key=lambda score: score.name)))


def score_on(base: BaseModel, images: Mapping[str, TaskImages], after: Model, before: Model) -> tuple[OwnScore, ...]:
    """How two models do on distilled sets by themselves, sorted by name: of contributions that are no longer there."""
    from forge.model.scoring import outputs

    scores = []
    for name in sorted(images):
        task = images[name]
        now, then = (outputs(base, model, task.pixels, task.labels) for model in (after, before))
        scores.append(_own(name, task.targets, slice(None), now, then))
    return tuple(scores)


def find_contradictions(
    base: BaseModel,
    pools: Sequence[Pool],
    before: Sequence[Tensor],
    adapters: Mapping[str, Adapter],
    newcomers: Collection[str],
    others: Collection[str],
) -> tuple[Contradiction, ...]:
    """The newcomers whose labels clearly mean something else than those of `others` with the same labels.

    before: what the model of the others says of each pool. A newcomer whose labels nobody else has contradicts nobody.
    """
    import numpy as np

    from forge.model.adapters import plain_delta
    from forge.model.contradiction import confusion, find_relabelling
    from forge.model.scoring import outputs

    contradictions = []
    for pool, pool_outputs in zip(pools, before, strict=True):
        theirs = [part for name, part in pool.parts.items() if name in others]
        classes, targets = len(pool.task.labels), pool.task.targets.cpu().numpy()
        for name, part in pool.parts.items():
            if name not in newcomers or not theirs:
                continue
            alone = plain_delta(adapters[name])
            of_others = np.zeros((classes, classes), np.int64)
            for each in theirs:
                out = outputs(base, alone, pool.task.pixels[each], pool.task.labels)
                of_others += confusion(targets[each], out.argmax(-1).cpu().numpy(), classes)
            of_newcomer = confusion(targets[part], pool_outputs[part].argmax(-1).cpu().numpy(), classes)
            other = find_relabelling(of_newcomer, of_others)
            if other is not None:
                read = [
                    f"its {pool.task.labels[calls]!r} is what the others call {label!r}"
                    for label, calls in zip(pool.task.labels, other.calls, strict=True)
                    if label != pool.task.labels[calls]
                ]
                contradictions.append(
                    Contradiction(
                        name,
                        f"its labels contradict those of the contributions with the same labels: {', '.join(read)} "
                        f"(of {other.images} distilled images {other.same} agree as they are labelled, "
                        f"{other.otherwise} if they are read like that)",
                    )
                )
    return tuple(sorted(contradictions, key=lambda each: each.name))


def _own(name: str, targets: Tensor, part: slice, after: Tensor, before: Tensor | None) -> OwnScore:
    from forge.model.scoring import score_of

    now = score_of(after[part], targets[part])
    then = None if before is None else score_of(before[part], targets[part])
    return OwnScore(
        name,
        len(targets[part]),
        now.accuracy,
        now.cross_entropy,
        None if then is None else then.accuracy,
        None if then is None else then.cross_entropy,
    )
