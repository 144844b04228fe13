"""`git forge diff`: what changed from one version of the model to another."""

from __future__ import annotations

from dataclasses import dataclass

from forge.git.places import Place
from forge.git.running import Repository
from forge.recipe.item import ForgeItem, TaskScore
from forge.repo.items import read_item
from forge.repo.versions import Change, changes


@dataclass(frozen=True)
class Difference:
    """Two models. scores: of each task of either, what both recorded on the distilled images when they were made."""

    before: ForgeItem
    after: ForgeItem
    changes: tuple[Change, ...]
    scores: tuple[tuple[str, TaskScore | None, TaskScore | None], ...]

    @property
    def differs(self) -> bool:
        return self.before != self.after


def diff(repo: Repository, a: Place, b: Place) -> Difference:
    """Compare the forge items of two places."""
    before, after = read_item(repo, a), read_item(repo, b)
    tasks = sorted({score.task for item in (before, after) for score in item.scores})
    scores = tuple((task, before.score(task), after.score(task)) for task in tasks)
    return Difference(before, after, changes(before, after), scores)
