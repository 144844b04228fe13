"""Making the forge items of a branch again, instead of believing them.

A forge item is a function of the contributions beside it and of settings, so whoever has both can find out whether it
is what git forge made. Contributions belong to their site; coefficients, scores and "before" belong to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from forge.errors import ForgeError
from forge.git.running import Repository, git_text
from forge.operations.changing import changes_against, fold_changes
from forge.operations.consolidating import consolidation_differs, without_consolidation
from forge.operations.folding import fold
from forge.operations.loading import repository_payloads
from forge.operations.sides import sides_of_history
from forge.recipe.item import Entry, ForgeItem, empty
from forge.recipe.item_differences import differences
from forge.recipe.layout import ITEM_FILE
from forge.recipe.settings import Settings
from forge.recipe.three_way import plan_of_tree
from forge.repo.contributions import disagreements, find_all
from forge.repo.items import read_item, read_settings_of
from forge.repo.storage import with_ids_of_tree

_SHORT = 10
_SHOWN = 4  # differences of one forge item
MOST_EVALUATIONS = 10_000  # of a search that is made again; nobody needs more than some hundred


@dataclass(frozen=True)
class Reproduced:
    """items: how many were made again. problems: where what is recorded does not come out, one line each."""

    items: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Commit:
    id: str
    parents: tuple[str, ...]

    @property
    def short(self) -> str:
        return self.id[:_SHORT]


def reproduce(repo: Repository, target: str | None, head: str, *, own_settings: bool = False) -> Reproduced:
    """Make every forge item again that `head` brings and `target` has not (full ids), by the settings of `target`.

    Each is made from its parents, as the merge driver or `git forge commit` makes it. What the target has had before
    it had every right to have; None: there is no model yet that could say by which settings. own_settings: a
    maintainer has signed those of the branch, so that they count where they are others.
    """
    commits = _range(repo, target, head)
    trusted = _items_of(repo, target)
    items = _item_ids(repo, [commit.id for commit in commits])
    parents = _item_ids(repo, [parent for commit in commits for parent in commit.parents])
    target_settings = read_settings_of(repo, target) if target is not None else None
    count = 0
    problems: list[str] = []
    for commit in commits:
        blob = items.get(commit.id)
        # An item that a parent has, and one that was the target's before, as after a revert, is nobody's claim.
        if blob is None or blob in trusted or blob in [parents.get(parent) for parent in commit.parents]:
            continue
        count += 1
        try:
            lines = _problems_of(repo, commit, target_settings, own_settings)
        except ForgeError as error:
            lines = [error.message]
        if lines:
            more = [f"and {len(lines) - _SHOWN} more differences"] if len(lines) > _SHOWN else []
            problems += [f"{commit.short}: {each}" for each in [*lines[:_SHOWN], *more]]
        else:
            trusted.add(blob)
    return Reproduced(count, tuple(problems))


def _problems_of(repo: Repository, commit: _Commit, target_settings: Settings | None, own_settings: bool) -> list[str]:
    """What a commit's forge item says otherwise than the one that comes out."""
    recorded = read_item(repo, commit.id)
    problems = disagreements(repo, commit.id)
    if problems:
        return problems
    contributions, unreadable = find_all(repo, commit.id)
    for error in unreadable.values():
        raise error
    tree = [files.entry(1.0) for files in contributions.values() if not files.missing]
    own = read_settings_of(repo, commit.id)
    before = _before(repo, commit, own)
    if with_ids_of_tree(repo, before, tree) == recorded:
        return []  # the same model: its files are kept otherwise
    first: list[str] | None = None
    for settings in _candidates(repo, commit, own, None if own_settings else target_settings):
        if settings.search.evaluations > MOST_EVALUATIONS:
            return [f"a search of {settings.search.evaluations:,} evaluations is not made again"]
        if target_settings is not None:
            settings = replace(settings, limits=target_settings.limits)
        again = _asks_for_another(repo, commit, settings, before)
        reproduced = _made(repo, commit, settings, before, tree, again)
        lines = _compared(repo, recorded, reproduced, settings)
        if not lines:
            return []
        first = first or lines
    if target_settings is not None and not (own_settings or _same_search(own, target_settings)):
        return ["it was made by other settings ([base], [merge] or [search]) than the target's"]
    return first or ["it does not come out by the settings beside it, nor by its parent's"]


def _candidates(repo: Repository, commit: _Commit, own: Settings, target_settings: Settings | None) -> list[Settings]:
    """By which settings it may have been made: its own, as of `git forge commit`, or those that were merged into.

    wanted: those that it must have been made by, if the target says so. A branch that could choose could make nearly
    any coefficients come out.
    """
    candidates = [own]
    for parent in commit.parents[:1]:
        try:
            ours = read_settings_of(repo, parent)
        except ForgeError:
            continue
        if not _same_search(ours, own):
            candidates.append(ours)
    if target_settings is None:
        return candidates
    return [settings for settings in candidates if _same_search(settings, target_settings)]


def _before(repo: Repository, commit: _Commit, settings: Settings) -> ForgeItem:
    """The recipe that a commit's own was made on: its first parent's, or the last whole one before that."""
    if not commit.parents:
        return empty(settings.base, settings.strategy)
    first = commit.parents[0]
    try:
        if not disagreements(repo, first):
            return read_item(repo, first)
    except ForgeError:
        pass
    return sides_of_history(repo, first, settings).ours


def _made(
    repo: Repository,
    commit: _Commit,
    settings: Settings,
    before: ForgeItem,
    tree: Sequence[Entry],
    again: bool,
) -> ForgeItem:
    """The forge item of a commit's tree, made as git forge makes it: by a merge of its parents, or by a commit."""
    before = with_ids_of_tree(repo, before, tree)
    payloads = repository_payloads(repo, settings.limits)
    others = [item for parent in commit.parents[1:] if (item := _readable(repo, parent)) is not None]
    if not others:
        return fold_changes(repo, before, changes_against(before, tree), settings, payloads, again=again).item
    plan = plan_of_tree(
        tree, before, [with_ids_of_tree(repo, each, tree) for each in others], settings.base, settings.strategy
    )
    return fold(repo, plan, before, settings, payloads).item


def _compared(repo: Repository, recorded: ForgeItem, reproduced: ForgeItem, settings: Settings) -> list[str]:
    """What differs; a consolidation is trained again on the recipe that comes out."""
    payloads = repository_payloads(repo, settings.limits)
    plain = without_consolidation(repo, reproduced, payloads)
    if recorded.consolidation is None:
        return differences(recorded, plain)
    if recorded.consolidation == reproduced.consolidation:
        return differences(recorded, reproduced)
    lines = differences(_unscored(recorded), _unscored(plain))
    return lines or consolidation_differs(repo, recorded, plain, settings, payloads)


def _unscored(item: ForgeItem) -> ForgeItem:
    return replace(item, scores=(), own_scores=(), consolidation=None, accepted=())


def _asks_for_another(repo: Repository, commit: _Commit, settings: Settings, before: ForgeItem) -> bool:
    """Whether these settings ask for another model of the same contributions than the parent had."""
    if (settings.strategy, settings.base.fingerprint) != (before.strategy, before.base.fingerprint):
        return True
    try:
        old = read_settings_of(repo, commit.parents[0]) if commit.parents else settings
    except ForgeError:
        return False
    return not _same_search(settings, old)


def _same_search(one: Settings, other: Settings) -> bool:
    return (one.base.fingerprint, one.strategy, one.task_aware, one.search) == (
        other.base.fingerprint,
        other.strategy,
        other.task_aware,
        other.search,
    )


def _readable(repo: Repository, commit: str) -> ForgeItem | None:
    try:
        return read_item(repo, commit)
    except ForgeError:
        return None


def _range(repo: Repository, target: str | None, head: str) -> list[_Commit]:
    listed = git_text(
        repo, "rev-list", "--topo-order", "--reverse", "--parents", head, *(["--not", target] if target else [])
    )
    words = (line.split() for line in listed.splitlines())
    return [_Commit(first, tuple(parents)) for first, *parents in words]


def _items_of(repo: Repository, target: str | None) -> set[str]:
    """The blobs that have been the forge item in the history of a commit."""
    if target is None:
        return set()
    listed = git_text(repo, "rev-list", "--objects", target, "--", ITEM_FILE)
    pairs = (line.partition(" ") for line in listed.splitlines())
    return {blob for blob, _, path in pairs if path == ITEM_FILE}


def _item_ids(repo: Repository, commits: Iterable[str]) -> dict[str, str]:
    """The blob of the forge item of each commit that has one."""
    asked = list(dict.fromkeys(commits))
    if not asked:
        return {}
    question = "".join(f"{commit}:{ITEM_FILE}\n" for commit in asked).encode()
    answers = git_text(repo, "cat-file", "--batch-check=%(objectname) %(objecttype)", input=question).splitlines()
    pairs = zip(asked, (answer.split() for answer in answers), strict=True)
    return {commit: words[0] for commit, words in pairs if words[1:] == ["blob"]}
