"""git forge whose search always finds the same two scales, so that a history costs no more than its git.

All else is git forge's own: which contributions a merge has and from which side, reading their blobs, the recipe, the
conflicts, the filter, the hooks. With real searches the same is shown by tests/story and the random histories.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from forge.git.running import Repository
from forge.operations.folding import Folded
from forge.recipe.item import Entry, ForgeItem, Search, TaskScore, empty
from forge.recipe.settings import Settings
from forge.recipe.three_way import MergePlan, combine

OURS, THEIRS = 0.8, 0.5


def fold(
    repo: Repository,
    plan: MergePlan,
    before: ForgeItem,
    settings: Settings,
    read: Any,
    *,
    again: bool = False,
    **_: Any,
) -> Folded:
    """In place of forge.operations.folding.fold, which it follows but for the search and the scores."""
    unchanged = (plan.base, plan.strategy, plan.ours) == (before.base, before.strategy, before.contributions)
    if unchanged and not plan.theirs and not again:
        return Folded(before)
    entries: tuple[Entry, ...] = (*plan.ours, *plan.theirs)
    if not entries:
        return Folded(empty(plan.base, plan.strategy))
    read([blob for entry in entries for blob in (entry.adapter, entry.config, entry.distilled)])
    search = None
    if before.contributions:
        entries = combine(plan, OURS, THEIRS)
        # As the real one records it: a side that brings nothing has no scale.
        scales = {"ours": OURS} if plan.ours else {}
        scales |= {"theirs": THEIRS} if plan.theirs else {}
        search = Search("shiwa", "contribution", "cross-entropy", 0.0, "none", 0, 0, 0.5, 1.5, 0.05, scales, 1.0, 0.5)
    scores = [TaskScore(entry.name, ("one", "other"), 4, 0.75, 0.5, 0.75, 0.5) for entry in entries]
    return Folded(ForgeItem(plan.base, plan.strategy, entries, search, tuple(scores)))


@contextmanager
def fixed_scales() -> Iterator[pytest.MonkeyPatch]:
    """git forge in this process finds these scales; what else is patched ends with the block too."""
    from forge.operations import changing, folding, settling

    with pytest.MonkeyPatch.context() as patch:
        for module in (folding, changing, settling):
            patch.setattr(module, "fold", fold)
        yield patch


def serve(folder: str) -> None:
    """As forge_server.serve, with a search that finds these scales; nothing of the model side is imported."""
    from forge_server import READY, fork_for_callers, listener

    sys.executable = f"{folder}/python"
    with fixed_scales():
        __import__("forge.cli")
        for verb in ("filter_process", "hook", "merge_driver", "verify"):
            __import__(f"forge.commands.{verb}")
            __import__(f"forge.operations.{verb}")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
        light, heavy = listener(f"{folder}/light"), listener(f"{folder}/heavy")
        os.write(1, READY)
        fork_for_callers(heavy if os.fork() else light)


if __name__ == "__main__":
    serve(sys.argv[1])
