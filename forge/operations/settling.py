"""Making the forge item of a tree that no merge driver has finished: what resolve and refold have in common.

Both weigh the contributions as they lie in the index, which is what the next commit takes, and stage the forge
item beside them. What differs is where the coefficients so far come from: the two sides of what stands still, or
the parents of a commit that was merged but not forged. Nothing is changed before all is computed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forge.errors import ForgeError
from forge.git.places import INDEX, ListedFile, list_files, resolve
from forge.git.running import Repository, git, hash_object
from forge.operations.folding import fold
from forge.operations.loading import repository_payloads
from forge.operations.next_steps import unstaged
from forge.operations.restoring import restored_on_failure
from forge.operations.sides import Changes, Sides, Unmerged
from forge.recipe.gate import pass_gate
from forge.recipe.item import ForgeItem
from forge.recipe.item_text import to_json
from forge.recipe.layout import CONSOLIDATION, CONTRIBUTIONS, ITEM_FILE, SETTINGS_FILE, consolidation_paths, path_of
from forge.recipe.settings import Settings
from forge.recipe.three_way import plan_of_tree
from forge.recipe.without_effect import without_effect
from forge.repo.contributions import ContributionFiles, check_contribution, disagreements, find_all
from forge.repo.trailers import trailer_lines


@dataclass(frozen=True)
class Settled:
    """What was staged, and the git command that goes on from here.

    without_effect: a line for each contribution that came in and changes nothing.
    """

    trailers: tuple[str, ...]
    next: str
    without_effect: tuple[str, ...]


def settled(item: ForgeItem, ours: ForgeItem, then: str) -> Settled:
    """What is to be said of a forge item that was staged in place of ours."""
    return Settled(tuple(trailer_lines(item, ours)), then, tuple(without_effect(item, ours)))


def index_problems(repo: Repository) -> list[str]:
    """Where forge item and contributions of the index disagree, one line each."""
    try:
        return disagreements(repo, INDEX)
    except ForgeError as error:
        return [error.message]


def refuse_unstaged(repo: Repository, unmerged: Unmerged) -> None:
    """The next commit takes the index: a search over anything else would record a model that nobody has."""
    changed = unstaged(repo, unmerged, CONTRIBUTIONS, SETTINGS_FILE)
    if changed:
        raise ForgeError(
            f"{changed[0]} has changes that are not staged",
            hint=f"`git add {changed[0]}` takes them in, `git restore {changed[0]}` drops them",
        )


def listed_contributions(repo: Repository, changes: Changes) -> dict[str, ListedFile]:
    """The files below contributions/ as the index will hold them."""
    listed = list_files(repo, INDEX, CONTRIBUTIONS)
    for path, file in changes.items():
        if file is None:
            listed.pop(path, None)
        elif path.startswith(f"{CONTRIBUTIONS}/"):
            listed[path] = file
    return listed


def stage_item(
    repo: Repository,
    settings: Settings,
    sides: Sides,
    listed: Mapping[str, ListedFile],
    changes: Changes,
    *,
    accept: bool,
    hint: str,
) -> ForgeItem:
    """Weigh the contributions, and stage the forge item and whatever else was settled, in index and work tree."""
    contributions, unreadable = find_all(repo, INDEX, dict(listed))
    for error in unreadable.values():
        raise error
    for files in contributions.values():
        _refuse_incomplete(files)
    entries = [files.entry(1.0) for files in contributions.values()]
    sides = sides.with_ids_of_tree(repo, entries)
    plan = plan_of_tree(entries, sides.ours, sides.others, settings.base, settings.strategy)
    folded = fold(repo, plan, sides.ours, settings, repository_payloads(repo, settings.limits))
    item = folded.item
    if item != sides.ours:
        item = pass_gate(
            item,
            settings.gate,
            accept=accept,
            hint=hint,
            replaced=folded.replaced,
            contradictions=folded.contradictions,
        )
    changes = changes | _consolidation_changes(repo, item)
    blob = hash_object(repo, to_json(item).encode(), write=True)
    changes[ITEM_FILE] = ListedFile("100644", blob)
    _refuse_to_overwrite(repo, changes)
    with restored_on_failure(repo, resolve(repo, "HEAD"), changes):
        # The forge item comes last: killed before that, it is still in conflict, and this can be done again.
        _apply(repo, {path: file for path, file in changes.items() if path != ITEM_FILE})
        _apply(repo, {ITEM_FILE: changes[ITEM_FILE]})
        for name in contributions:
            check_contribution(repo, name, INDEX, base=settings.base, limits=settings.limits)
    return item


def _refuse_incomplete(files: ContributionFiles) -> None:
    if files.missing:
        raise ForgeError(
            f"{files.described(files.missing[0])} is missing",
            hint=f"add it, or take the contribution out with `git rm -r {path_of(files.name)}`",
        )


def _consolidation_changes(repo: Repository, item: ForgeItem) -> Changes:
    """A consolidation belongs to one set of contributions: its files are those of the forge item, or there are none."""
    residual, there = item.consolidation, list_files(repo, INDEX, CONSOLIDATION)
    if residual is None:
        return {path: None for path in consolidation_paths().values() if path in there}
    return {path: ListedFile("100644", getattr(residual, part)) for part, path in consolidation_paths().items()}


def _refuse_to_overwrite(repo: Repository, changes: Changes) -> None:
    known = set(os.fsdecode(git(repo, "ls-files", "-z", "--full-name", "--", ":/")).split("\0"))
    for path, file in changes.items():
        if file is not None and path not in known and os.path.lexists(repo.top / path):
            raise ForgeError(f"{path} is in the way and git does not know it", hint="move it elsewhere, and try again")


def _apply(repo: Repository, changes: Changes) -> None:
    """Bring index and work tree to `changes`."""
    lines, nothing = [], "0" * len(resolve(repo, "HEAD"))  # ids have 40 digits or 64
    for path, file in changes.items():
        lines.append(f"0 {nothing}\t{path}")  # takes out every stage
        if file is not None:
            lines.append(f"{file.mode} {file.blob} 0\t{path}")
    git(repo, "update-index", "-z", "--index-info", input=_joined(lines))
    there = [path for path, file in changes.items() if file is not None]
    git(repo, "checkout-index", "--force", "--index", "-z", "--stdin", input=_joined(there))
    for path in (path for path, file in changes.items() if file is None):
        gone = repo.top / path
        gone.unlink(missing_ok=True)
        for parent in gone.parents:
            if parent == repo.top or (parent.is_dir() and any(parent.iterdir())):
                break
            if parent.is_dir():  # git may have taken it away already
                parent.rmdir()


def _joined(lines: Sequence[str]) -> bytes:
    return b"".join(os.fsencode(line) + b"\0" for line in lines)
