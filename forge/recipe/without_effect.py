"""Contributions that came into a model and changed nothing in it: nobody sees that in figures that stay as they are."""

from __future__ import annotations

from collections.abc import Mapping

from forge.recipe.item import Entry, ForgeItem, OwnScore, identity

_SAME = 1.5e-6  # of cross-entropy: figures have six decimals


def without_effect(item: ForgeItem, before: ForgeItem) -> list[str]:
    """One line for each contribution that is new or replaced since `before` and changes no score in `item`.

    Either its coefficients are all 0, or the model says what it said: of that contribution's own images, and, where no
    other came with it, of everybody's.
    """
    coming = [
        entry
        for entry in item.contributions
        if (old := before.entry(entry.name)) is None or identity(old) != identity(entry)
    ]
    others_moved = any(not _is_same(score) for score in item.own_scores)
    lines = []
    for entry in coming:
        own = item.own_score(entry.name)
        if _has_no_weight(entry):
            lines.append(f"contribution {entry.name!r} changes no score: its coefficients are 0")
        elif own is not None and _is_same(own) and (len(coming) > 1 or not others_moved):
            lines.append(
                f"contribution {entry.name!r} changes no score: the model says of its images what it said before "
                "(was the adapter trained?)"
            )
    return lines


def _has_no_weight(entry: Entry) -> bool:
    each = (entry.coefficient, *entry.tasks.values())
    return not any(any(one.values()) if isinstance(one, Mapping) else one for one in each)


def _is_same(score: OwnScore) -> bool:
    if score.cross_entropy_before is None or score.accuracy_before != score.accuracy:
        return False
    return abs(score.cross_entropy_before - score.cross_entropy) <= _SAME
