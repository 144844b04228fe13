"""`git forge verify`: whether a version of the model is what it says, forge item against tree, files, and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from forge.errors import ForgeError
from forge.git import lfs
from forge.git.places import resolve
from forge.git.quiet import quiet
from forge.git.running import Repository, git_text
from forge.operations.folding import score_item
from forge.operations.loading import entry_named, repository_payloads
from forge.operations.trusting import Trust, trust
from forge.recipe.item import ForgeItem, OwnScore, TaskScore, check_modules, doubled_payloads, under_several_names
from forge.recipe.settings import LimitSettings
from forge.repo.consolidation import consolidation_problems
from forge.repo.contributions import Follow, check_contributions, disagreements
from forge.repo.erased import explained_disagreements
from forge.repo.items import find_item, holds_model, read_item, read_settings_of
from forge.repo.settings_file import not_a_model_repository
from forge.repo.trailers import trailer_problems
from forge.repo.tree_checks import tree_problems
from forge.trust import last_good

# Another processor adds floats in another order: scores reproduce to this, not to the last bit.
CROSS_ENTROPY_TOLERANCE = 2e-3
IMAGES_TOLERANCE = 1  # images whose answer may flip


@dataclass(frozen=True)
class Problem:
    """What is wrong, in a line.

    error: what said so of one file, where that was an error of its own. disagreement: the forge item does not fit the
    tree, which `git forge refold` mends.
    """

    text: str
    error: ForgeError | None = None
    disagreement: bool = False


@dataclass(frozen=True)
class Verified:
    """What is wrong with a commit, one line each; nothing if it is what it says.

    title: the commit's id and subject, for people. signatures: who had a right to its changes, where that was asked.
    refold_helps: all that is wrong is a forge item that `git forge refold` would make anew here.
    """

    commit: str
    title: str
    problems: tuple[str, ...]
    signatures: Trust | None = None
    refold_helps: bool = False


def verify(repo: Repository, rev: str = "HEAD", *, scores: bool = True, since: str | None = None) -> Verified:
    """Check the version of a revision, and remember it if it is good and the tip of a branch that only goes forwards.

    scores: compute the recorded ones again. since: also check that every commit since had a right to its changes, by
    the keys and rights of that one.
    """
    commit = resolve(repo, rev)
    judged = trust(repo, since, commit) if since is not None else None
    problems = [Problem(text) for text in (judged.problems if judged else ())]
    problems += find_problems(repo, commit, scores=scores, look_back=True)
    ref = last_good.main_name(repo, rev)
    if ref:
        back = last_good.gone_back(repo, ref, commit)
        problems += [Problem(back)] if back else []
        if not problems:
            last_good.remember(repo, ref, commit)
    title = git_text(repo, *quiet("show"), "-s", "--format=%h %s", commit)
    in_work_tree = bool(problems) and repo.top != repo.git_dir and commit == resolve(repo, "HEAD")
    helps = in_work_tree and _refold_helps(repo, commit, problems)
    return Verified(commit, title, tuple(problem.text for problem in problems), judged, helps)


def problems_of(
    repo: Repository,
    rev: str,
    *,
    scores: bool,
    most: LimitSettings | None = None,
    follow: Follow = lfs.follow,
    look_back: bool = False,
) -> list[str]:
    """What is wrong with the version in `rev`, one line each; empty if nothing is. As find_problems."""
    problems = find_problems(repo, rev, scores=scores, most=most, follow=follow, look_back=look_back)
    return [problem.text for problem in problems]


def find_problems(
    repo: Repository,
    rev: str,
    *,
    scores: bool,
    most: LimitSettings | None = None,
    follow: Follow = lfs.follow,
    look_back: bool = False,
) -> list[Problem]:
    """What is wrong with the version in `rev`; empty if nothing is.

    Checks the digest, forge item against tree and forge.toml, every contribution's files, and (with
    `scores`) that the recorded scores come out again. most: limits that forge.toml of `rev` cannot raise, those of
    HEAD if not given: a branch that is looked at does not decide how long that takes. follow: how to
    get at the content of a pointer of git-lfs. look_back: whether to look through history for what is missing, to tell
    what was erased. Raises ForgeError where there is no model at all.
    """
    if not holds_model(repo, rev):
        raise not_a_model_repository(rev)
    most = _own_limits(repo, rev) if most is None else most
    compare = explained_disagreements if look_back else disagreements
    if too_many := _too_many(repo, rev, most):
        return [Problem(text) for text in too_many]
    problems = [Problem(text) for text in tree_problems(repo, rev)]
    problems += [Problem(text, disagreement=True) for text in compare(repo, rev)]
    problems += [Problem(text) for text in trailer_problems(repo, [resolve(repo, rev)])]
    if problems:
        return problems
    settings = read_settings_of(repo, rev)
    item = read_item(repo, rev)
    wrong = consolidation_problems(repo, rev, item)
    if wrong:
        return [Problem(text) for text in wrong]
    problems = _contribution_problems(repo, rev, item, _stricter(settings.limits, most), follow)
    if problems or not scores:
        return problems
    try:
        computed = score_item(repo, item, repository_payloads(repo, settings.limits))
    except ForgeError as error:
        return [Problem(error.message, error)]
    wrong = [*_score_problems(item.scores, computed.scores), *_own_score_problems(item, computed.own_scores)]
    return [Problem(text) for text in wrong]


def _contribution_problems(
    repo: Repository, rev: str, item: ForgeItem, limits: LimitSettings, follow: Follow
) -> list[Problem]:
    problems: list[Problem] = []
    digests: dict[str, str] = {}
    for name, checked in check_contributions(repo, rev, item.names, base=item.base, limits=limits, follow=follow):
        if isinstance(checked, ForgeError):
            problems.append(Problem(checked.message, checked))
            continue
        for what, digest in (("adapter", checked.adapter.digest), ("distilled dataset", checked.distilled.digest)):
            other = digests.setdefault(digest, name)
            if other != name:  # kept in git once, and once in git-lfs, it has two ids
                problems.append(Problem(under_several_names(what, [other, name])))
        entry = entry_named(item, name)
        try:
            for coefficient in (entry.coefficient, *entry.tasks.values()):
                check_modules(name, coefficient, checked.adapter.modules)
        except ForgeError as error:
            problems.append(Problem(error.message, error))
    return problems


def _refold_helps(repo: Repository, commit: str, problems: Sequence[Problem]) -> bool:
    """Whether all that is wrong is a forge item that does not fit the tree, so that one made anew would."""
    if not all(problem.disagreement for problem in problems):
        return False
    try:
        item = find_item(repo, commit)
    except ForgeError:
        return True  # edited by hand, or merged as text
    return item is None or not doubled_payloads(item.contributions)


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


def _own_score_problems(item: ForgeItem, computed: tuple[OwnScore, ...]) -> list[str]:
    if not item.own_scores:
        return []  # made by an earlier version
    return [
        f"the score of contribution {score.name!r} on its own images does not reproduce: recorded accuracy "
        f"{claimed.accuracy:.4f}, cross-entropy {claimed.cross_entropy:.4f}; computed {score.accuracy:.4f}, "
        f"{score.cross_entropy:.4f}"
        for claimed, score in zip(item.own_scores, computed, strict=True)
        if _differ(claimed, score)
    ]


def _differ(claimed: OwnScore | TaskScore, score: OwnScore | TaskScore) -> bool:
    return (
        abs(claimed.cross_entropy - score.cross_entropy) > CROSS_ENTROPY_TOLERANCE
        or abs(claimed.accuracy - score.accuracy) * score.images > IMAGES_TOLERANCE + 1e-6
        or claimed.images != score.images
    )


def _score_problems(recorded: tuple[TaskScore, ...], computed: tuple[TaskScore, ...]) -> list[str]:
    by_task = {score.task: score for score in computed}
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
