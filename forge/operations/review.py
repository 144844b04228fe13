"""`git forge review`: what a branch would do to a model, merged where nobody sees it, checked, made again and compared.

Branch, index and work tree of the repository stay as they are; nothing that the branch brings is run, and nothing that
it says decides: settings, limits, gate, keys and rights are those of the target, and figures are computed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from forge.console import Report, silent
from forge.data.listing import ReadOptions, list_images
from forge.data.matching import Given
from forge.errors import ForgeError
from forge.git.places import read_file, resolve
from forge.git.running import Repository, git_succeeds, git_text
from forge.operations.evaluate import Row, evaluate_models
from forge.operations.reading import complete_options
from forge.operations.reproducing import reproduce
from forge.operations.review_figures import Figures, find_figures, newcomers_of
from forge.operations.review_merge import Merged, merge_unseen
from forge.operations.review_rows import ReviewedContribution, ReviewedScore, contribution_rows, score_rows
from forge.operations.trusting import Trust, trust
from forge.operations.verify import problems_of
from forge.recipe import gate
from forge.recipe.item import ForgeItem, OwnScore, Search, TaskScore
from forge.recipe.layout import ITEM_FILE
from forge.recipe.settings import Settings
from forge.repo.items import find_item, read_settings_of
from forge.repo.storage import with_ids_of_tree
from forge.repo.trailers import trailer_problems
from forge.repo.tree_changes import find_changes
from forge.trust import last_good

How = Literal["up to date", "fast-forward", "merge", "conflict"]
# "made here": the merge was, by git forge itself; "not checked": nobody asked for it.
Made = Literal["yes", "made here", "no", "not checked"]


@dataclass(frozen=True)
class Review:
    """What merging `head` into `base` (commits) does. merged: the commit that it would make, None for a conflict.

    own_scores and gone: on each contribution's own images, those taken out or replaced apart. alone: what newcomers by
    themselves make of everybody's. computed: whether these were computed here, or are what forge items record. also:
    what else changes, one a line. accepted: what the branch says that a person has accepted; it counts for nothing.
    consistent, reproduced and signatures are three things; problems are all that is against merging it as it is, one a
    line, and advice is what git forge says about those.
    """

    base: str
    head: str
    how: How
    merged: str | None = None
    strategy_before: str | None = None
    strategy: str | None = None
    search: Search | None = None
    consolidation: str | None = None
    accepted: tuple[str, ...] = ()
    contributions: tuple[ReviewedContribution, ...] = ()
    scores: tuple[ReviewedScore, ...] = ()
    own_scores: tuple[OwnScore, ...] = ()
    gone: tuple[OwnScore, ...] = ()
    alone: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)
    computed: bool = False
    also: tuple[str, ...] = ()
    data: tuple[Row, ...] = ()
    consistent: bool = False
    reproduced: Made = "not checked"
    signatures: Trust = field(default_factory=lambda: Trust(False))
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class _Sides:
    """The two commits, what git forge knows of the first, and what the branch has a right to."""

    ours: str
    theirs: str
    before: ForgeItem | None
    settings: Settings | None
    judged: Trust


def review(
    repo: Repository,
    base: str,
    head: str,
    *,
    scores: bool,
    data: Sequence[Path] = (),
    labels: Given | None = None,
    options: ReadOptions | None = None,
    report: Report = silent,
) -> Review:
    """Check `head`, merge it into `base`, check that, and compare both models.

    scores: run both models on all distilled images, and make the branch's forge items again. data: labelled images
    that only whoever merges has; both models are measured on them. Raises ForgeError for a revision that is not there.
    """
    labels, options = labels or Given(), complete_options(options)
    if labels != Given() and len(data) != 1:
        raise ForgeError("--labels and --label speak of one data set", hint="give them with one --data")
    for folder in data:
        list_images(folder, "test", options)  # a slip is found before the merge
    ours, theirs = resolve(repo, base), resolve(repo, head)
    if git_succeeds(repo, "merge-base", "--is-ancestor", theirs, ours):
        return Review(ours, theirs, "up to date", ours, consistent=True)
    forwards = git_succeeds(repo, "merge-base", "--is-ancestor", ours, theirs)
    how: How = "fast-forward" if forwards else "merge"
    judged = trust(repo, ours, theirs)
    rights = (*judged.problems, *_gone_back(repo, base, ours))
    before, problems = _item_before(repo, ours, base)
    settings = read_settings_of(repo, ours) if before is not None else None
    sides = _Sides(ours, theirs, before, settings, judged)
    problems += [f"{head}: {problem}" for problem in _problems(repo, theirs, settings)]
    problems += trailer_problems(repo, _commits(repo, ours, theirs)[1:])  # of the tip it is said already
    if problems:
        return Review(ours, theirs, how, signatures=judged, problems=(*problems, *rights))
    merged = Merged(theirs) if forwards else merge_unseen(repo, ours, theirs)
    if merged.commit is None:
        problems = [*merged.problems, *rights]
        return Review(
            ours, theirs, "conflict", consistent=True, signatures=judged, problems=tuple(problems), advice=merged.advice
        )
    problems = [] if forwards else [f"merged: {problem}" for problem in _problems(repo, merged.commit, settings)]
    if problems:
        return Review(ours, theirs, how, merged.commit, signatures=judged, problems=(*problems, *rights))
    reviewed = _compared(repo, sides, merged.commit, forwards, scores, rights)
    if data:
        rows = evaluate_models(repo, [ours, merged.commit], data, given=labels, options=options, report=report)
        reviewed = replace(reviewed, data=tuple(rows))
    if reviewed.ok:
        _remember(repo, base, ours)
    return reviewed


def _compared(
    repo: Repository, sides: _Sides, merged: str, forwards: bool, scores: bool, rights: tuple[str, ...]
) -> Review:
    """Both models, and all that is against the merge of two commits that are consistent."""
    after = find_item(repo, merged)
    assert after is not None  # it verified
    changed = find_changes(repo, sides.ours, merged)
    before = None if sides.before is None else with_ids_of_tree(repo, sides.before, after.contributions)
    same_base = before is None or before.base.fingerprint == after.base.fingerprint
    figures = None
    problems = [*rights]
    reproduced: Made = "not checked"
    if scores:
        try:
            if before is not None and sides.settings is not None and same_base and after.contributions:
                figures = find_figures(repo, before, after, sides.settings.limits, newcomers_of(before, after))
            reproduced, reproduction_problems = _made_again(repo, sides, merged, forwards)
        except ForgeError as error:  # a base that is not here, say
            reproduced, reproduction_problems = "no", [error.message]
        problems += reproduction_problems
    if not same_base:
        problems.append("the base is another one: no figure of before can be compared with one of after")
    problems += _gate_problems(sides, after, figures)
    return Review(
        base=sides.ours,
        head=sides.theirs,
        how="fast-forward" if forwards else "merge",
        merged=merged,
        strategy_before=before.strategy if before else None,
        strategy=after.strategy,
        search=None if forwards else after.search,
        consolidation=_consolidation(before, after),
        accepted=after.accepted,
        contributions=contribution_rows(repo, sides.ours, sides.theirs, sides.judged, before, after, merged, changed),
        scores=score_rows(before, after, figures),
        own_scores=figures.own_scores if figures else (),
        gone=figures.gone if figures else (),
        alone=figures.alone if figures else {},
        computed=figures is not None,
        also=changed.others,
        consistent=True,
        reproduced=reproduced,
        signatures=sides.judged,
        problems=tuple(problems),
    )


def _item_before(repo: Repository, base: str, name: str) -> tuple[ForgeItem | None, list[str]]:
    """The forge item of the branch that is merged into; none where the other one starts the model."""
    if read_file(repo, base, ITEM_FILE) is None:
        return None, []
    try:
        return find_item(repo, base), [f"{name}: {problem}" for problem in _problems(repo, base, None)]
    except ForgeError as error:
        return None, [f"{name}: {error.message}"]


def _problems(repo: Repository, commit: str, settings: Settings | None) -> list[str]:
    """What is wrong with a commit by itself; settings: the target's, whose limits it cannot raise."""
    try:
        return problems_of(repo, commit, scores=False, most=settings.limits if settings else None)
    except ForgeError as error:
        return [error.message]


def _made_again(repo: Repository, sides: _Sides, merged: str, forwards: bool) -> tuple[Made, list[str]]:
    """Whether the forge items that the branch brings come out again, where they have a say in what is merged."""
    # Where the target has not changed its own since, git takes the branch's forge item and asks no merge driver.
    driven = not forwards and read_file(repo, merged, ITEM_FILE) != read_file(repo, sides.theirs, ITEM_FILE)
    if driven and sides.settings is not None and sides.settings.search.order_independent:
        return "made here", []  # by the contributions alone: what the branch has weighed is no matter
    target = sides.ours if sides.before is not None else None
    signed = sides.judged.required and not sides.judged.problems
    reproduced = reproduce(repo, target, sides.theirs, own_settings=signed)
    if reproduced.problems:
        return "no", [f"not reproduced: {problem}" for problem in reproduced.problems]
    return "made here" if driven else "yes", []


def _gate_problems(sides: _Sides, after: ForgeItem, figures: Figures | None) -> Iterator[str]:
    """What the target's gate has against the merged model, from branch to branch.

    No single merge or commit need have lost so much, and what the branch says was accepted is accepted by the branch. A
    maintainer's approval is another matter, and so is a contribution that its own site, or a maintainer, takes out.
    """
    if sides.settings is None or sides.before is None:
        return
    allowed, judged = sides.settings.gate, sides.judged
    approved = judged.required and not judged.problems and len(judged.approved_by) >= max(1, judged.threshold)
    if approved:
        return
    entitled = judged.required and not judged.problems
    for each in figures.contradictions if figures else ():
        yield f"{each.name}: {each.what}"
    own = figures.own_scores if figures else _recorded(sides.before, after)
    for drop in gate.drops_among(own, allowed):
        yield f"on its own distilled images {drop}, more than the gate of the target allows ({allowed:g})"
    for drop in gate.drops_among(figures.gone if figures else (), allowed):
        if after.entry(drop.name) is not None:
            yield f"on the images that it replaces {drop}, more than the gate of the target allows ({allowed:g})"
        elif not entitled:
            yield f"it is taken out, so that its images are lost: {drop}; whoever merges this has to mean it"


def _recorded(before: ForgeItem, after: ForgeItem) -> Sequence[OwnScore | TaskScore]:
    """Scores of both as they record them: of before by the target's own item, never by what `after` says of it.

    On each contribution's own images, or by task where a forge item of an earlier version has nothing else.
    """
    if not before.own_scores or not after.own_scores:
        pairs = [(score, before.score(score.task)) for score in after.scores]
        return [
            replace(score, accuracy_before=was.accuracy, cross_entropy_before=was.cross_entropy)
            for score, was in pairs
            if was is not None
        ]
    scores = []
    for score in after.own_scores:
        was = before.own_score(score.name)
        if was is not None:
            scores.append(
                OwnScore(score.name, score.images, score.accuracy, score.cross_entropy, was.accuracy, was.cross_entropy)
            )
    return scores


def _consolidation(before: ForgeItem | None, after: ForgeItem) -> str | None:
    """A residual on top of the merged model is part of what is merged, and no contribution's."""
    was, now = before.consolidation if before else None, after.consolidation
    if now is None:
        return "dropped" if was is not None else None
    return f"{'kept' if now == was else 'new'}: {now.steps} steps, adapter {now.adapter[:10]}"


def _commits(repo: Repository, ours: str, theirs: str) -> list[str]:
    return git_text(repo, "rev-list", theirs, "--not", ours).split()


def _gone_back(repo: Repository, base: str, ours: str) -> tuple[str, ...]:
    """Whether the target is an older one than this clone has known as good: keys and withdrawals go back with it."""
    ref = last_good.full_name(repo, base)
    problem = last_good.gone_back(repo, ref, ours) if ref else None
    return (problem,) if problem else ()


def _remember(repo: Repository, base: str, ours: str) -> None:
    ref = last_good.full_name(repo, base)
    if ref:
        last_good.remember(repo, ref, ours)
