"""What became of the contributions of a recipe, and how that is folded in: in a commit, and where it is made again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from forge.git.running import Repository
from forge.operations.folding import Folded, fold
from forge.operations.loading import Payloads
from forge.recipe.gate import Contradiction
from forge.recipe.item import Entry, ForgeItem, identity
from forge.recipe.settings import Settings
from forge.recipe.three_way import MergePlan, refuse_doubled


@dataclass(frozen=True)
class Changes:
    """The contributions of a tree against a recipe, each sorted by name."""

    kept: tuple[Entry, ...]
    new: tuple[Entry, ...]  # coefficient 1
    replaced: tuple[Entry, ...]  # coefficient 1
    removed: tuple[str, ...]


def changes_against(before: ForgeItem, tree: Iterable[Entry]) -> Changes:
    """What the contributions of a tree (with coefficient 1) are against a recipe, by the ids of their blobs.

    Raises MergeConflict where one adapter or distilled dataset is there under several names.
    """
    kept, new, replaced = [], [], []
    for entry in sorted(tree, key=lambda entry: entry.name):
        old = before.entry(entry.name)
        if old is None:
            new.append(entry)
        elif identity(old) == identity(entry):
            kept.append(old)
        else:
            replaced.append(entry)
    refuse_doubled([*kept, *new, *replaced])
    there = {entry.name for entry in (*kept, *new, *replaced)}
    return Changes(tuple(kept), tuple(new), tuple(replaced), tuple(name for name in before.names if name not in there))


def fold_changes(
    repo: Repository,
    before: ForgeItem,
    changes: Changes,
    settings: Settings,
    payloads: Payloads,
    *,
    again: bool = False,
) -> Folded:
    """Fold changes into a recipe, one contribution at a time, as merges of one contribution each would.

    All at once where the search does not mind the order. Where only cards changed, the recipe is the one
    before, unless it is to be searched `again`: cards do not enter the model.
    """
    item = before
    contradictions: dict[str, Contradiction] = {}
    folded = Folded(before)
    gone = {*changes.removed, *(entry.name for entry in changes.replaced)}
    new = sorted((*changes.new, *changes.replaced), key=lambda entry: entry.name)
    joint = settings.search.order_independent
    incoming: list[tuple[Entry, ...]] = [tuple(new)] if joint else [(entry,) for entry in new]
    if not incoming or (again and not joint):
        incoming.insert(0, ())  # what is taken out, or searched by other settings, is a fold of its own
    for entries in incoming:
        ours = tuple(each for each in item.contributions if each.name not in gone)
        removed = tuple(each.name for each in item.contributions if each.name in gone)
        plan = MergePlan(settings.base, settings.strategy, ours, entries, removed)
        folded = fold(repo, plan, item, settings, payloads, compared_with=before, again=again)
        item = folded.item
        contradictions |= {each.name: each for each in folded.contradictions}
        gone, again = set(), False
    return replace(folded, contradictions=tuple(contradictions.values()))
