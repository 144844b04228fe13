"""The gate: how much accuracy a task may lose on its distilled images before a person has to say yes.

The gate belongs to the fold that makes a recipe: its merge, or its commit. It compares what the forge item
records of every task, before and after, so who reads a forge item (a review of a pull request, say) can ask
the same question of it. What was accepted is recorded in the item by the names of the tasks.
"""

from __future__ import annotations

from dataclasses import replace

from forge.errors import MergeConflict
from forge.repo.recipe import ForgeItem, TaskScore


def losses(item: ForgeItem, gate: float) -> tuple[TaskScore, ...]:
    """The scores of tasks that lost more accuracy than `gate` when this recipe was made, accepted ones too."""
    return tuple(
        score
        for score in item.scores
        if score.accuracy_before is not None and round(score.accuracy_before - score.accuracy, 6) > gate
    )


def refused(item: ForgeItem, gate: float) -> tuple[TaskScore, ...]:
    """As `losses`, without those that a person has accepted."""
    return tuple(score for score in losses(item, gate) if score.task not in item.accepted)


def pass_gate(item: ForgeItem, gate: float, *, accept: bool, hint: str) -> ForgeItem:
    """`item` itself where no task loses more than the gate allows; with `accept`, `item` with what it loses recorded.

    Raises MergeConflict with both scores of every such task, and `hint`, which says how to accept it.
    """
    lost = losses(item, gate)
    if not lost:
        return item
    if accept:
        return replace(item, accepted=tuple(score.task for score in lost))
    lines = [
        f"{score.task}: accuracy {score.accuracy_before:.3f} -> {score.accuracy:.3f}"
        + ("" if score.cross_entropy_before is None else f", cross-entropy {score.cross_entropy_before:.3f} -> ")
        + ("" if score.cross_entropy_before is None else f"{score.cross_entropy:.3f}")
        for score in lost
    ]
    raise MergeConflict(
        f"the merged model loses more than the gate of forge.toml allows ({gate:g} of accuracy on distilled images):"
        + "".join(f"\n  {line}" for line in lines),
        hint=hint,
    )
