"""A model as the verbs' --json prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forge.recipe.item_keys import written
from forge.recipe.layout import entry_parts

if TYPE_CHECKING:
    from forge.recipe.item import ForgeItem


def item_as_json(item: ForgeItem) -> dict[str, Any]:
    """What the verbs' --json prints of a model; figures as in the forge item."""
    search = item.search
    return {
        "strategy": item.strategy,
        "base": {"reference": item.base.reference, "fingerprint": item.base.fingerprint},
        "contributions": [
            {
                "name": entry.name,
                "coefficient": entry.coefficient,
                "tasks": entry.tasks,
                **{part: getattr(entry, part) for part in entry_parts()},
            }
            for entry in item.contributions
        ],
        "search": None if search is None else written(search),
        "scores": [{"task": score.task, **written(score)} for score in item.scores],
        "own_scores": [{"name": score.name, **written(score)} for score in item.own_scores],
        "consolidation": None if item.consolidation is None else written(item.consolidation),
        "accepted": list(item.accepted),
    }
