"""`git forge refold`: the forge item of a tree that was merged but not forged, made anew."""

from __future__ import annotations

from forge.errors import ForgeError
from forge.git.places import INDEX, resolve
from forge.git.running import Repository
from forge.operations.next_steps import unstaged
from forge.operations.settling import (
    Settled,
    index_problems,
    listed_contributions,
    refuse_unstaged,
    settled,
    stage_item,
)
from forge.operations.sides import Changes, Sides, sides_of_history
from forge.recipe.layout import ITEM_FILE
from forge.repo.contributions import disagreements
from forge.repo.items import read_item, read_settings_of
from forge.repo.leftovers import alone_in_work_tree
from forge.repo.unsettled import refuse_unfinished


def refold(repo: Repository, *, accept: bool = False) -> Settled:
    """Make the forge item anew where it and the contributions of HEAD or the index disagree, or it is damaged.

    Coefficients come from the parents of a merge that was not forged, else from the last whole forge item. Raises
    ForgeError where there is nothing to do, and while something stands still.
    """
    with alone_in_work_tree(repo, "git forge refold"):
        return _refold(repo, accept)


def _refold(repo: Repository, accept: bool) -> Settled:
    operation = refuse_unfinished(repo, in_a_rebase=True)
    head = resolve(repo, "HEAD")
    whole = not disagreements(repo, head)
    changed = unstaged(repo, {}, ITEM_FILE)
    if not index_problems(repo) and not changed:
        if whole:
            raise ForgeError("the forge item and the contributions agree", hint="see them with git forge status")
        raise ForgeError("the forge item in the index is right already", hint="git commit")
    refuse_unstaged(repo, {})
    settings = read_settings_of(repo, INDEX)
    sides = Sides(read_item(repo, head), ()) if whole else sides_of_history(repo, head, settings)
    changes: Changes = {}
    hint = "`git forge refold --accept` takes it all the same, and records that"
    item = stage_item(repo, settings, sides, listed_contributions(repo, changes), changes, accept=accept, hint=hint)
    same = whole and item == sides.ours
    then = "nothing: the forge item is that of HEAD again" if same else operation.go_on if operation else "git commit"
    return settled(item, sides.ours, then)
