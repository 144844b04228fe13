"""git forge with a fold that searches nothing, so that it starts at once and can be killed hundreds of times.

All that touches the disk is git forge's own. Run as a program, it is what git calls in the repositories of these tests.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from forge import cli

if TYPE_CHECKING:
    from forge.git.running import Repository
    from forge.operations.folding import Folded
    from forge.operations.loading import ReadBlobs
    from forge.recipe.checks import Coefficient
    from forge.recipe.item import ForgeItem
    from forge.recipe.settings import Settings
    from forge.recipe.three_way import MergePlan


def fold(
    repo: Repository, plan: MergePlan, before: ForgeItem, settings: Settings, read: ReadBlobs, **options: Any
) -> Folded:
    """Everything halved; the payloads are read, as by a search."""
    from forge.operations.folding import Folded
    from forge.recipe.item import ForgeItem

    entries = (*plan.ours, *plan.theirs)
    read([blob for entry in entries for blob in (entry.config, entry.adapter, entry.distilled)])
    halved = tuple(replace(entry, coefficient=_half(entry.coefficient)) for entry in entries)
    return Folded(ForgeItem(plan.base, plan.strategy, halved))


def _half(coefficient: Coefficient) -> Coefficient:
    if isinstance(coefficient, Mapping):
        return {module: number / 2 for module, number in coefficient.items()}
    return coefficient / 2


if __name__ == "__main__":
    if "merge-driver" in sys.argv:  # filter and hooks start as quickly as ever
        from forge.operations import folding

        folding.fold = fold
    cli.main(sys.argv[1:])
