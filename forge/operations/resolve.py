"""`git forge resolve`: settle what a merge, rebase, cherry-pick, revert, am or stash pop has left of the model."""

from __future__ import annotations

from forge.errors import ForgeError, MergeConflict
from forge.git.in_progress import THEIRS, Operation, find_operation, go_on, octopus_error, unmerged_files
from forge.git.places import INDEX, ListedFile, list_files
from forge.git.running import Repository, git_text, hash_object, read_blob
from forge.operations.next_steps import open_decisions
from forge.operations.settings_conflict import merged_with_strategy, strategies_to_choose_from
from forge.operations.settling import (
    Settled,
    index_problems,
    listed_contributions,
    refuse_unstaged,
    settled,
    stage_item,
)
from forge.operations.sides import Changes, Unmerged, find_sides, settled_contributions
from forge.recipe.layout import ITEM_FILE, SETTINGS_FILE
from forge.recipe.settings import Settings, read_settings, with_strategy
from forge.repo.items import read_settings_of
from forge.repo.leftovers import alone_in_work_tree
from forge.repo.unsettled import of_the_model


def resolve_conflict(
    repo: Repository, *, side: str | None = None, strategy: str | None = None, accept: bool = False
) -> Settled:
    """Settle what a merge, rebase, cherry-pick, revert, am or stash pop has left of the model in conflict.

    side: "ours" or "theirs", for contributions that both sides changed. strategy: for sides that use different
    ones. accept: let tasks lose more than the gate allows. Raises ForgeError where nothing waits, and MergeConflict
    where a person has to decide more; then everything is as it was.
    """
    with alone_in_work_tree(repo, "git forge resolve"):
        return _resolve(repo, side, strategy, accept)


def _resolve(repo: Repository, side: str | None, strategy: str | None, accept: bool) -> Settled:
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
    if not waiting and operation is not None and not index_problems(repo):
        raise ForgeError("the model is settled already", hint=f"go on with: {_then(repo, operation, unmerged)}")
    _refuse_undecided(repo, operation, unmerged, side, strategy)
    settings, changes = _settled_settings(repo, unmerged, strategy)
    sides = find_sides(repo, operation, unmerged)
    refuse_unstaged(repo, unmerged)
    contributions = settled_contributions(repo, unmerged, side, sides)
    changes |= contributions
    listed = listed_contributions(repo, changes)
    accepting = "`git forge resolve --accept` takes it all the same, and records that"
    accepting += f"; `{operation.give_up}` goes back" if operation else ""
    item = stage_item(repo, settings, sides, listed, changes, accept=accept, hint=accepting)
    then = _then(repo, operation, unmerged)
    return settled(item, sides.ours, then)


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
        decisions = "\n  ".join(each.between for each in needed)
        raise MergeConflict(f"a person has to decide:\n  {decisions}", hint=f"git forge resolve {flags}")


def _then(repo: Repository, operation: Operation | None, unmerged: Unmerged) -> str:
    """What follows once the model is settled. unmerged: what was in conflict before that."""
    left = sorted(set(unmerged_files(repo)) - set(of_the_model(unmerged)))
    if operation is None:
        command = _without_operation(repo, unmerged)
    else:
        command = operation.go_on if left else go_on(repo, operation)
    return f"settle {', '.join(left)}, then: {command}" if left else command


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


def _without_operation(repo: Repository, unmerged: Unmerged) -> str:
    """What follows where git has no --continue: after a stash pop, a squash, or a pick that is not committed."""
    stages = unmerged.get(ITEM_FILE, {})
    theirs = stages[THEIRS].blob if THEIRS in stages else None
    if theirs and theirs == git_text(repo, "rev-parse", "--verify", "--quiet", f"refs/stash:{ITEM_FILE}", check=False):
        return "git stash drop (git has kept what you popped; its changes are staged)"
    return "git commit"
