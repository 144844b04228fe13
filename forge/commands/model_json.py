"""A model as the verbs' --json prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
                "adapter": entry.adapter,
                "config": entry.config,
                "distilled": entry.distilled,
            }
            for entry in item.contributions
        ],
        "search": None if search is None else {**vars(search), "scales": dict(search.scales)},
        "scores": [{**vars(score), "labels": list(score.labels)} for score in item.scores],
        "own_scores": [dict(vars(score)) for score in item.own_scores],
        "consolidation": None if item.consolidation is None else vars(item.consolidation),
        "accepted": list(item.accepted),
    }
