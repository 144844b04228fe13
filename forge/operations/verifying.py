"""Whether a version of the model is what it says: forge item against tree, files, and scores."""

from __future__ import annotations

from dataclasses import fields

from forge.errors import ForgeError
from forge.git import lfs
from forge.git.places import read_file, resolve
from forge.git.running import Repository
from forge.operations.folding import score_item
from forge.operations.loading import entry_named, repository_payloads
from forge.recipe.item import ForgeItem, OwnScore, TaskScore, check_modules, under_several_names
from forge.recipe.layout import ITEM_FILE, SETTINGS_FILE
from forge.recipe.settings import LimitSettings
from forge.repo.consolidation import consolidation_problems
from forge.repo.contributions import Follow, check_contributions, disagreements
from forge.repo.erased import explained_disagreements
from forge.repo.items import read_item, read_settings_of
from forge.repo.settings_file import not_a_model_repository
from forge.repo.trailers import trailer_problems
from forge.repo.tree_checks import tree_problems

# Another processor adds floats in another order: scores reproduce to this, not to the last bit.
CROSS_ENTROPY_TOLERANCE = 2e-3
IMAGES_TOLERANCE = 1  # images whose answer may flip


def problems_of(
    repo: Repository,
    rev: str,
    *,
    scores: bool,
    most: LimitSettings | None = None,
    follow: Follow = lfs.follow,
    look_back: bool = False,
) -> list[str]:
    """What is wrong with the version in `rev`, one line each; empty if nothing is.

    Checks the digest, forge item against tree and forge.toml, every contribution's files, and (with
    `scores`) that the recorded scores come out again. most: limits that forge.toml of `rev` cannot raise, those of
    HEAD if not given: a branch that is looked at does not decide how long that takes. follow: how to
    get at the content of a pointer of git-lfs. look_back: whether to look through history for what is missing, to tell
    what was erased. Raises ForgeError where there is no model at all.
    """
    if all(read_file(repo, rev, file) is None for file in (SETTINGS_FILE, ITEM_FILE)):
        raise not_a_model_repository(rev)
    most = _own_limits(repo, rev) if most is None else most
    compare = explained_disagreements if look_back else disagreements
    problems = _too_many(repo, rev, most) or [
        *tree_problems(repo, rev), *compare(repo, rev), *trailer_problems(repo, [resolve(repo, rev)])
    ]  # fmt: skip
    if problems:
        return problems
    settings = read_settings_of(repo, rev)
    limits = _stricter(settings.limits, most)
    item = read_item(repo, rev)
    problems = consolidation_problems(repo, rev, item)
    if problems:
        return problems
    digests: dict[str, str] = {}
    for name, found in check_contributions(repo, rev, item.names, base=item.base, limits=limits, follow=follow):
        if isinstance(found, ForgeError):
            problems.append(found.message)
            continue
        for what, digest in (("adapter", found.adapter.digest), ("distilled dataset", found.distilled.digest)):
            other = digests.setdefault(digest, name)
            if other != name:  # kept in git once, and once in git-lfs, it has two ids
                problems.append(under_several_names(what, [other, name]))
        entry = entry_named(item, name)
        try:
            for coefficient in (entry.coefficient, *entry.tasks.values()):
                check_modules(name, coefficient, found.adapter.modules)
        except ForgeError as error:
            problems.append(error.message)
    if problems or not scores:
        return problems
    try:
        computed = score_item(repo, item, repository_payloads(repo, settings.limits))
    except ForgeError as error:
        return [error.message]
    return [*_score_problems(item.scores, computed.scores), *_own_score_problems(item, computed.own_scores)]


def _too_many(repo: Repository, rev: str, most: LimitSettings) -> list[str]:
    """Said before anything is said of each of them."""
    try:
        names, limits = read_item(repo, rev).names, _stricter(read_settings_of(repo, rev).limits, most)
    except ForgeError:
        return []  # which is another problem
    if len(names) <= limits.contributions:
        return []
    return [f"{len(names):,} contributions, more than the limit of {limits.contributions:,}"]


def _own_limits(repo: Repository, rev: str) -> LimitSettings:
    """The limits of HEAD, unless that is what is looked at; the defaults where it is no model."""
    try:
        return read_settings_of(repo, "HEAD").limits
    except ForgeError:
        return LimitSettings()


def _stricter(one: LimitSettings, other: LimitSettings) -> LimitSettings:
    """Two limits in one, limit by limit."""
    return LimitSettings(**{each.name: min(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)})


def _own_score_problems(item: ForgeItem, found: tuple[OwnScore, ...]) -> list[str]:
    if not item.own_scores:
        return []  # made by an earlier version
    return [
        f"the score of contribution {score.name!r} on its own images does not reproduce: recorded accuracy "
        f"{claimed.accuracy:.4f}, cross-entropy {claimed.cross_entropy:.4f}; computed {score.accuracy:.4f}, "
        f"{score.cross_entropy:.4f}"
        for claimed, score in zip(item.own_scores, found, strict=True)
        if _differ(claimed, score)
    ]


def _differ(claimed: OwnScore | TaskScore, score: OwnScore | TaskScore) -> bool:
    return (
        abs(claimed.cross_entropy - score.cross_entropy) > CROSS_ENTROPY_TOLERANCE
        or abs(claimed.accuracy - score.accuracy) * score.images > IMAGES_TOLERANCE + 1e-6
        or claimed.images != score.images
    )


def _score_problems(recorded: tuple[TaskScore, ...], found: tuple[TaskScore, ...]) -> list[str]:
    by_task = {score.task: score for score in found}
    problems = [
        f"the forge item scores a task {score.task!r} that nothing in it has"
        for score in recorded
        if score.task not in by_task
    ]
    for task, score in by_task.items():
        claimed = next((each for each in recorded if each.task == task), None)
        if claimed is None:
            problems.append(f"the forge item has no score of task {task!r}")
        elif _differ(claimed, score) or claimed.labels != score.labels:
            problems.append(
                f"the score of task {task!r} does not reproduce: recorded accuracy {claimed.accuracy:.4f}, "
                f"cross-entropy {claimed.cross_entropy:.4f}; computed {score.accuracy:.4f}, {score.cross_entropy:.4f}"
            )
    return problems
