"""Making the forge item of a tree that no merge driver has finished: `git forge resolve` and `git forge refold`.

Both weigh the contributions as they lie in the index, which is what the next commit takes, and stage the forge
item beside them. What differs is where the coefficients so far come from: the two sides of what stands still, or
the parents of a commit that was merged but not forged. Nothing is changed before all is computed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forge.errors import ForgeError, MergeConflict
from forge.git.in_progress import THEIRS, Operation, find_operation, go_on, octopus_error, unmerged_files
from forge.git.places import INDEX, ListedFile, list_files, resolve
from forge.git.running import Repository, git, git_text, hash_object, read_blob
from forge.operations.folding import fold
from forge.operations.loading import repository_payloads
from forge.operations.next_steps import open_decisions, unstaged
from forge.operations.restoring import restored_on_failure
from forge.operations.settings_conflict import merged_with_strategy, strategies_to_choose_from
from forge.operations.sides import Changes, Sides, Unmerged, find_sides, settled_contributions, sides_of_history
from forge.recipe.gate import pass_gate
from forge.recipe.item import ForgeItem
from forge.recipe.item_text import to_json
from forge.recipe.layout import CONSOLIDATION, CONTRIBUTIONS, ITEM_FILE, SETTINGS_FILE, consolidation_paths, path_of
from forge.recipe.settings import Settings, read_settings, with_strategy
from forge.recipe.three_way import plan_of_tree
from forge.recipe.without_effect import without_effect
from forge.repo.contributions import ContributionFiles, check_contribution, disagreements, find_all
from forge.repo.items import read_item, read_settings_of
from forge.repo.trailers import trailer_lines
from forge.repo.unsettled import of_the_model, refuse_unfinished


@dataclass(frozen=True)
class Settled:
    """What was staged, and the git command that goes on from here.

    without_effect: a line for each contribution that came in and changes nothing.
    """

    trailers: list[str]
    next: str
    without_effect: list[str]


def resolve_conflict(repo: Repository, *, side: str | None, strategy: str | None, accept: bool) -> Settled:
    """Settle what a merge, rebase, cherry-pick, revert, am or stash pop has left of the model in conflict.

    side: "ours" or "theirs", for contributions that both sides changed. strategy: for sides that use different
    ones. accept: let tasks lose more than the gate allows. Raises ForgeError where nothing waits, and MergeConflict
    where a person has to decide more; then everything is as it was.
    """
    operation, unmerged = find_operation(repo), unmerged_files(repo)
    if operation is not None and operation.is_octopus:
        raise octopus_error(repo, operation)
    waiting = of_the_model(unmerged)
    if not waiting and operation is None:
        raise ForgeError(
            "nothing waits to be settled: nothing is in progress, and no file of the model is in conflict",
            hint="git forge refold makes the forge item of a tree that was merged without git forge; "
            "git forge commit folds in what is new",
        )
    if not waiting and operation is not None and not _problems(repo):
        raise ForgeError("the model is settled already", hint=f"go on with: {_then(repo, operation, unmerged)}")
    _refuse_undecided(repo, operation, unmerged, side, strategy)
    settings, changes = _settled_settings(repo, unmerged, strategy)
    sides = find_sides(repo, operation, unmerged)
    _refuse_unstaged(repo, unmerged)
    contributions = settled_contributions(repo, unmerged, side, sides)
    changes |= contributions
    listed = _listed(repo, changes)
    accepting = "`git forge resolve --accept` takes it all the same, and records that"
    accepting += f"; `{operation.give_up}` goes back" if operation else ""
    item = _stage(repo, settings, sides, listed, changes, accept=accept, hint=accepting)
    then = _then(repo, operation, unmerged)
    return Settled(trailer_lines(item, sides.ours), then, without_effect(item, sides.ours))


def refold(repo: Repository, *, accept: bool) -> Settled:
    """Make the forge item anew where it and the contributions of HEAD or the index disagree, or it is damaged.

    Coefficients come from the parents of a merge that was not forged, else from the last whole forge item. Raises
    ForgeError where there is nothing to do, and while something stands still.
    """
    operation = refuse_unfinished(repo, in_a_rebase=True)
    head = resolve(repo, "HEAD")
    whole = not disagreements(repo, head)
    changed = unstaged(repo, {}, ITEM_FILE)
    if not _problems(repo) and not changed:
        if whole:
            raise ForgeError("the forge item and the contributions agree", hint="see them with git forge status")
        raise ForgeError("the forge item in the index is right already", hint="git commit")
    _refuse_unstaged(repo, {})
    settings = read_settings_of(repo, INDEX)
    sides = Sides(read_item(repo, head), ()) if whole else sides_of_history(repo, head, settings)
    changes: Changes = {}
    hint = "`git forge refold --accept` takes it all the same, and records that"
    item = _stage(repo, settings, sides, _listed(repo, changes), changes, accept=accept, hint=hint)
    same = whole and item == sides.ours
    then = "nothing: the forge item is that of HEAD again" if same else operation.go_on if operation else "git commit"
    return Settled(trailer_lines(item, sides.ours), then, without_effect(item, sides.ours))


def _refuse_undecided(
    repo: Repository, operation: Operation | None, unmerged: Unmerged, side: str | None, strategy: str | None
) -> None:
    """Where more than one thing has to be decided, say all of them, and not one after the other."""
    needed = [
        each
        for each in open_decisions(repo, operation, unmerged)
        if (side if "--ours" in each.flags else strategy) is None
    ]
    if len(needed) > 1:
        flags = " ".join(f"({' | '.join(each.flags)})" for each in needed)
        said = "\n  ".join(each.between for each in needed)
        raise MergeConflict(f"a person has to decide:\n  {said}", hint=f"git forge resolve {flags}")


def _then(repo: Repository, operation: Operation | None, unmerged: Unmerged) -> str:
    """What follows once the model is settled. unmerged: what was in conflict before that."""
    left = sorted(set(unmerged_files(repo)) - set(of_the_model(unmerged)))
    if operation is None:
        command = _without_operation(repo, unmerged)
    else:
        command = operation.go_on if left else go_on(repo, operation)
    return f"settle {', '.join(left)}, then: {command}" if left else command


def _problems(repo: Repository) -> list[str]:
    try:
        return disagreements(repo, INDEX)
    except ForgeError as error:
        return [error.message]


def _settled_settings(repo: Repository, unmerged: Unmerged, strategy: str | None) -> tuple[Settings, Changes]:
    """forge.toml as it will be committed; with a strategy, its three versions are merged again with that in each."""
    versions_by_stage = unmerged.get(SETTINGS_FILE)
    if strategy is None:
        strategies = strategies_to_choose_from(repo, versions_by_stage)
        if strategies is not None:
            raise MergeConflict(
                f"{SETTINGS_FILE}: merge conflict: ours has the strategy {strategies[0]}, theirs {strategies[1]}",
                hint=f"choose one: git forge resolve --strategy {strategies[0]}, or --strategy {strategies[1]}",
            )
        if versions_by_stage is not None:
            raise MergeConflict(
                f"{SETTINGS_FILE}: merge conflict: the two sides hold different settings",
                hint=f"put {SETTINGS_FILE} right and `git add {SETTINGS_FILE}`, then `git forge resolve` again",
            )
        return read_settings_of(repo, INDEX), {}
    if versions_by_stage is None:
        listed = list_files(repo, INDEX, SETTINGS_FILE).get(SETTINGS_FILE)
        if listed is None or listed.blob is None:
            return read_settings_of(repo, INDEX), {}  # says that there is none
        text = with_strategy(read_blob(repo, listed.blob), strategy)
    else:
        merged = merged_with_strategy(repo, versions_by_stage, strategy)
        if merged is None:
            raise MergeConflict(
                f"{SETTINGS_FILE}: merge conflict: the two sides differ in more than the strategy",
                hint=f"put {SETTINGS_FILE} right and `git add {SETTINGS_FILE}`, then `git forge resolve` again",
            )
        text = merged
    settings = read_settings(text)
    return settings, {SETTINGS_FILE: ListedFile("100644", hash_object(repo, text, write=True))}


def _refuse_unstaged(repo: Repository, unmerged: Unmerged) -> None:
    """The next commit takes the index: a search over anything else would record a model that nobody has."""
    changed = unstaged(repo, unmerged, CONTRIBUTIONS, SETTINGS_FILE)
    if changed:
        raise ForgeError(
            f"{changed[0]} has changes that are not staged",
            hint=f"`git add {changed[0]}` takes them in, `git restore {changed[0]}` drops them",
        )


def _listed(repo: Repository, changes: Changes) -> dict[str, ListedFile]:
    """The files below contributions/ as the index will hold them."""
    listed = list_files(repo, INDEX, CONTRIBUTIONS)
    for path, file in changes.items():
        if file is None:
            listed.pop(path, None)
        elif path.startswith(f"{CONTRIBUTIONS}/"):
            listed[path] = file
    return listed


def _stage(
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
    found, unreadable = find_all(repo, INDEX, dict(listed))
    for error in unreadable.values():
        raise error
    for files in found.values():
        _refuse_incomplete(files)
    entries = [files.entry(1.0) for files in found.values()]
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
        for name in found:
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
    made, there = item.consolidation, list_files(repo, INDEX, CONSOLIDATION)
    if made is None:
        return {path: None for path in consolidation_paths().values() if path in there}
    return {path: ListedFile("100644", getattr(made, part)) for part, path in consolidation_paths().items()}


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


def _without_operation(repo: Repository, unmerged: Unmerged) -> str:
    """What follows where git has no --continue: after a stash pop, a squash, or a pick that is not committed."""
    stages = unmerged.get(ITEM_FILE, {})
    theirs = stages[THEIRS].blob if THEIRS in stages else None
    if theirs and theirs == git_text(repo, "rev-parse", "--verify", "--quiet", f"refs/stash:{ITEM_FILE}", check=False):
        return "git stash drop (git has kept what you popped; its changes are staged)"
    return "git commit"
