"""What settles a model that stands still: commands that work where they are given, in their order.

A comment behind a command says what it asks of a person, as in a shell, so that a step can be pasted as it is.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from forge.errors import ForgeError
from forge.git.in_progress import Operation, go_on, octopus_steps
from forge.git.places import INDEX
from forge.git.quiet import quiet
from forge.git.running import Repository, git
from forge.operations.settings_conflict import strategies_to_choose_from
from forge.operations.sides import Unmerged, describe_sides, find_sides, undecided_contributions
from forge.recipe.layout import CONTRIBUTIONS, SETTINGS_FILE, path_of
from forge.repo.contributions import Found, disagreements
from forge.repo.unsettled import of_the_model


@dataclass(frozen=True)
class Decision:
    """What a person has to say to `git forge resolve`: the flags to choose from, and between what."""

    flags: tuple[str, ...]
    between: str


def open_decisions(repo: Repository, operation: Operation | None, unmerged: Unmerged) -> list[Decision]:
    """The flags that `git forge resolve` needs. Raises ForgeError where a side is no version of a model."""
    decisions = []
    sides = find_sides(repo, operation, unmerged)
    strategies = strategies_to_choose_from(repo, unmerged.get(SETTINGS_FILE))
    if strategies:
        flags = tuple(f"--strategy {strategy}" for strategy in strategies)
        ours, theirs = strategies
        decisions.append(Decision(flags, f"{SETTINGS_FILE}: ours has the strategy {ours}, theirs {theirs}"))
    names = undecided_contributions(repo, unmerged, sides)
    if names:
        between = "; ".join(f"{path_of(name)}: {describe_sides(repo, name, sides)}" for name in names)
        # What is picked, reverted or rebased is wanted, as a rule; with ours nothing may be left of it.
        picked = operation is not None and operation.verb != "merge"
        decisions.append(Decision(("--theirs", "--ours") if picked else ("--ours", "--theirs"), between))
    return decisions


def resolve_command(decisions: Sequence[Decision]) -> str:
    """`git forge resolve` with the first of each choice, and the others in a comment."""
    chosen = " ".join(["git forge resolve", *(each.flags[0] for each in decisions)])
    others = ", ".join(flag for each in decisions for flag in each.flags[1:])
    return f"{chosen}  # or {others}" if others else chosen


def find_next_steps(
    repo: Repository, operation: Operation | None, unmerged: Unmerged, head_is_damaged: bool, index: Found
) -> tuple[str, ...]:
    """The commands that settle what stands still, or that mend a HEAD that was merged but not forged."""
    if operation is not None and operation.is_octopus:
        return tuple(octopus_steps(repo, operation))
    waiting = of_the_model(unmerged)
    standing = operation is not None or bool(waiting)
    if not standing and not head_is_damaged:
        return ()
    steps: list[str] = []
    if waiting or disagreements(repo, INDEX, index):
        steps += _before_settling(repo, unmerged, index)
        if not standing:
            return (*steps, "git forge refold", "git commit")
        try:
            steps.append(resolve_command(open_decisions(repo, operation, unmerged)))
        except ForgeError:  # of what one side has, no model can be made
            return (operation.give_up if operation else "git reset --merge",)
    elif not standing:
        return ("git commit",)
    others = sorted(set(unmerged) - set(waiting))
    if others:
        steps.append(f"git add {shlex.join(others)}  # once they are right")
    if operation is not None:
        steps += _before_going_on(repo, operation, bool(unmerged))
    return tuple(steps)


def _before_settling(repo: Repository, unmerged: Unmerged, index: Found) -> list[str]:
    """What `git forge resolve` and `refold` would refuse of the index and of what differs from it."""
    steps = []
    if SETTINGS_FILE in unmerged and strategies_to_choose_from(repo, unmerged.get(SETTINGS_FILE)) is None:
        steps.append(f"git add {SETTINGS_FILE}  # once it is right")
    changed = unstaged(repo, unmerged, CONTRIBUTIONS, SETTINGS_FILE)
    if changed:
        steps.append(f"git add {shlex.join(changed)}  # or git restore")
    in_conflict = {path.split("/")[1] for path in unmerged if path.startswith(f"{CONTRIBUTIONS}/")}
    for name, files in index[0].items():
        if files.missing and name not in in_conflict:
            steps.append(f"git rm -r {path_of(name)}  # or git add what it lacks: {', '.join(files.missing)}")
    return steps


def _before_going_on(repo: Repository, operation: Operation, unmerged: bool) -> list[str]:
    command = operation.go_on if unmerged else go_on(repo, operation)
    if operation.verb == "rebase" and not unmerged and unstaged(repo, {}):
        return ["git add --update  # or git restore: a rebase goes on without unstaged changes only", command]
    return [command]


def unstaged(repo: Repository, unmerged: Unmerged, *places: str) -> list[str]:
    """Tracked files below `places` (anywhere, if none is given) that differ from the index, and are in no conflict."""
    paths = [f":(top){place}" for place in places]
    # Unlike diff-files, a file that was only touched is no change.
    listing = git(repo, *quiet("diff"), "--name-only", "-z", "--", *paths)
    return [path for path in os.fsdecode(listing).split("\0") if path and path not in unmerged]
