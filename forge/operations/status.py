"""`git forge status`: contributions and forge item in HEAD, index and work tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forge.clone import set_up_stamp
from forge.errors import ForgeError
from forge.git.in_progress import Operation, find_operation, unmerged_files
from forge.git.lfs import how_to_get
from forge.git.lfs_endpoint import NamedEndpoint, endpoints_named
from forge.git.places import INDEX, WORK_TREE, as_at_first_sight, resolve
from forge.git.running import Repository, git_text
from forge.recipe.checks import Coefficient
from forge.recipe.item import ForgeItem
from forge.repo.contributions import ContributionFiles, Found, disagreements, find_all, pointers
from forge.repo.erased import explained_disagreements
from forge.repo.items import find_item, read_settings_of
from forge.repo.settings_file import load_settings
from forge.repo.storage import storage_of
from forge.repo.uncommitted import refused_in_work_tree
from forge.repo.unsettled import of_the_model

if TYPE_CHECKING:
    from forge.operations.sides import Unmerged


@dataclass(frozen=True)
class ContributionStatus:
    """One contribution. index and work_tree: what changed from HEAD to the index, and from there on.

    Both are git's own letters: " " nothing, "A" added, "M" modified, "D" deleted; both "?" untracked, both "U"
    unmerged, or not to be read for another reason that work_tree_problems names.
    """

    name: str
    coefficient: Coefficient | None  # in HEAD's forge item; None where it is not in it
    index: str
    work_tree: str
    missing: tuple[str, ...]  # files that it lacks in the work tree
    folded: bool  # whether the forge item in the work tree names it as it is there


@dataclass(frozen=True)
class Status:
    """All that the verb shows.

    operation: what stands still, by git's verb. unmerged: the model's files in conflict. next_steps: the commands
    that settle that, or that mend a HEAD that was merged but not forged. refused: what `git forge commit` would not
    take of the work tree. pointers: files of the work tree that git-lfs has not put there, and what gets them.
    kept_otherwise: payloads in HEAD that are not kept in `storage`, where .gitattributes sends them. lfsconfig: the
    places of git-lfs that .lfsconfig names in vain.
    """

    branch: str | None
    base: str
    fingerprint: str
    strategy: str
    installed: bool
    contributions: tuple[ContributionStatus, ...]
    head_problems: tuple[str, ...]
    work_tree_problems: tuple[str, ...]
    refused: tuple[str, ...]
    pointers: tuple[str, ...]
    get_pointers: str | None
    storage: str
    kept_otherwise: tuple[str, ...]
    lfsconfig: tuple[NamedEndpoint, ...]
    operation: str | None
    unmerged: tuple[str, ...]
    next_steps: tuple[str, ...]


def find_status(repo: Repository) -> Status:
    """Look at HEAD, index and work tree; no payload is read."""
    with as_at_first_sight(repo):
        return _status(repo)


def _status(repo: Repository) -> Status:
    has_head = _has_commit(repo)
    try:
        settings = load_settings(repo.top)
    except ForgeError:
        if not has_head or find_operation(repo) is None:
            raise
        settings = read_settings_of(repo, "HEAD")  # forge.toml is in conflict, which is shown below
    head = find_all(repo, "HEAD") if has_head else ({}, {})
    index, here = find_all(repo, INDEX), find_all(repo, WORK_TREE)
    unreadable = {**index[1], **here[1]}
    head_item = _readable_item(repo, "HEAD") if has_head else None
    work_tree_item = _readable_item(repo, WORK_TREE)
    head_problems = disagreements(repo, "HEAD", head) if has_head else []
    problems = disagreements(repo, WORK_TREE, here)
    if head_problems:  # said of each place in the same words
        head_problems = explained_disagreements(repo, "HEAD")
        problems = explained_disagreements(repo, WORK_TREE) if problems else []
    refused = [error.message for error in unreadable.values()] + refused_in_work_tree(repo, here[0], head[0])
    problems += [problem for problem in refused if problem not in problems]
    if not has_head:
        refused.append("there is no commit yet")
    contributions = tuple(
        _unreadable(name, head_item)
        if name in unreadable
        else _contribution(name, head[0], index[0], here[0], head_item, work_tree_item)
        for name in sorted({*head[0], *index[0], *here[0], *unreadable})
    )
    operation, unmerged = find_operation(repo), unmerged_files(repo)
    storage = storage_of(repo)
    unread = pointers(repo, here[0])
    otherwise: tuple[str, ...] = ()
    if head_item is not None and (storage == "lfs" or unread):  # else there is nothing that git-lfs could hold
        from forge.operations.storage import kept_otherwise

        otherwise = kept_otherwise(repo, head_item, "HEAD", storage)
    return Status(
        branch=git_text(repo, "symbolic-ref", "--quiet", "--short", "HEAD", check=False) or None,
        base=settings.base.reference,
        fingerprint=settings.base.fingerprint,
        strategy=settings.strategy,
        installed=set_up_stamp.holds(repo) or _is_installed(repo),
        contributions=contributions,
        head_problems=tuple(head_problems),
        work_tree_problems=tuple(problems),
        refused=tuple(refused),
        pointers=tuple(path for path in unread if path not in otherwise),
        get_pointers=how_to_get(repo) if unread else None,
        storage=storage,
        kept_otherwise=otherwise,
        lfsconfig=endpoints_named(repo),
        operation=operation.verb if operation else None,
        unmerged=tuple(of_the_model(unmerged)),
        next_steps=_next_steps(repo, operation, unmerged, bool(head_problems), index),
    )


def _has_commit(repo: Repository) -> bool:
    try:
        resolve(repo, "HEAD")
    except ForgeError:
        return False
    return True


# What most states of a model do not need is loaded for the others alone: people ask for the status all the time.


def _is_installed(repo: Repository) -> bool:
    from forge.clone import setup as clone_setup

    return clone_setup.is_installed(repo)


def _next_steps(
    repo: Repository, operation: Operation | None, unmerged: Unmerged, head_is_damaged: bool, index: Found
) -> tuple[str, ...]:
    if operation is None and not unmerged and not head_is_damaged:
        return ()
    from forge.operations.next_steps import find_next_steps

    return find_next_steps(repo, operation, unmerged, head_is_damaged, index)


def _readable_item(repo: Repository, place: str | None) -> ForgeItem | None:
    try:
        return find_item(repo, place)
    except ForgeError:
        return None  # disagreements() reports it


def _unreadable(name: str, head_item: ForgeItem | None) -> ContributionStatus:
    entry = head_item.entry(name) if head_item else None
    return ContributionStatus(name, entry.coefficient if entry else None, "U", "U", (), False)


def _contribution(
    name: str,
    in_head: Mapping[str, ContributionFiles],
    in_index: Mapping[str, ContributionFiles],
    in_work_tree: Mapping[str, ContributionFiles],
    head_item: ForgeItem | None,
    work_tree_item: ForgeItem | None,
) -> ContributionStatus:
    head, index, here = in_head.get(name), in_index.get(name), in_work_tree.get(name)
    letters = (_letter(head, index), _letter(index, here))
    if head is None and index is None:
        letters = ("?", "?")
    entry = head_item.entry(name) if head_item else None
    recorded = work_tree_item.entry(name) if work_tree_item else None
    folded = recorded is None if here is None else False
    if here is not None and recorded is not None and not here.missing:
        folded = here.is_named_by(recorded)
    missing = here.missing if here else ()
    return ContributionStatus(name, entry.coefficient if entry else None, *letters, missing, folded)


def _letter(before: ContributionFiles | None, after: ContributionFiles | None) -> str:
    if before is None:
        return " " if after is None else "A"
    if after is None:
        return "D"
    return " " if before.blobs == after.blobs else "M"
