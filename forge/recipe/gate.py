"""The gate: how much accuracy a contribution may lose on its own distilled images before a person has to say yes.

The gate belongs to the fold that makes a recipe: its merge, or its commit. It compares what the forge item records of
every contribution, before and after: each by itself, because in a pool that a newcomer shares the newcomer's own images
would hide what the others lose. What was accepted is recorded in the item by the names of the contributions. Who looks
at an item that somebody else made (a review) takes neither the gate nor what was accepted from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from forge.errors import MergeConflict
from forge.recipe.item import ForgeItem, OwnScore, TaskScore


@dataclass(frozen=True)
class AccuracyDrop:
    """A contribution (in recipes of earlier versions a task) that does worse; cross-entropies in nats."""

    name: str
    accuracy_before: float
    accuracy: float
    cross_entropy_before: float | None = None
    cross_entropy: float | None = None

    def __str__(self) -> str:
        line = f"{self.name}: accuracy {self.accuracy_before:.3f} -> {self.accuracy:.3f}"
        if self.cross_entropy_before is not None and self.cross_entropy is not None:
            line += f", cross-entropy {self.cross_entropy_before:.3f} -> {self.cross_entropy:.3f}"
        return line


@dataclass(frozen=True)
class Contradiction:
    """A newcomer whose labels mean something else than those of the others; `what` says how."""

    name: str
    what: str


def drops_among(scores: Iterable[OwnScore | TaskScore], gate: float) -> tuple[AccuracyDrop, ...]:
    """Those of the scores that lost more accuracy than `gate`, in their order."""
    return tuple(
        AccuracyDrop(
            score.name if isinstance(score, OwnScore) else score.task,
            score.accuracy_before,
            score.accuracy,
            score.cross_entropy_before,
            score.cross_entropy,
        )
        for score in scores
        if score.accuracy_before is not None and round(score.accuracy_before - score.accuracy, 6) > gate
    )


def accuracy_drops(item: ForgeItem, gate: float) -> tuple[AccuracyDrop, ...]:
    """What lost more than `gate` when this recipe was made, accepted or not; by task if there is no own score."""
    return drops_among(item.own_scores or item.scores, gate)


def pass_gate(
    item: ForgeItem,
    gate: float,
    *,
    accept: bool,
    hint: str,
    replaced: Sequence[OwnScore] = (),
    contradictions: Sequence[Contradiction] = (),
) -> ForgeItem:
    """`item` itself where nothing is against it; with `accept`, `item` with what was against it recorded.

    replaced: how the models before and after do on distilled images that this recipe puts others in the place of.
    Raises MergeConflict with both scores of every drop, with every contradiction, and `hint`, which says how to accept.
    """
    drops = [*accuracy_drops(item, gate), *drops_among(replaced, gate)]
    if not drops and not contradictions:
        return item
    if accept:
        names = {*(drop.name for drop in drops), *(each.name for each in contradictions)}
        return replace(item, accepted=tuple(sorted(names)))
    lines = [f"{each.name}: {each.what}" for each in contradictions]
    if drops:
        lines.append(
            f"the merged model loses more than the gate of forge.toml allows ({gate:g} of accuracy on distilled "
            "images):"
        )
        lines += [f"  {drop}" for drop in drops]
    raise MergeConflict("\n".join(lines), hint=hint)
