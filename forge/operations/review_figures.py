"""What the model before a merge and the one after it make of everybody's distilled images, computed here.

What forge items record is a claim of whoever made them. So both models are run, on the images of every contribution
that either of them has: also on those that the merge replaces or takes out, and the newcomers on those of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from forge.console import progress
from forge.git.running import Repository
from forge.operations.bases import load_repository_base
from forge.operations.judging import answers, find_contradictions, judge, score_on
from forge.operations.loading import files_of, load_item, repository_payloads
from forge.recipe.gate import Contradiction
from forge.recipe.item import Entry, ForgeItem, OwnScore, TaskScore, identity
from forge.recipe.settings import LimitSettings


@dataclass(frozen=True)
class Figures:
    """scores: of every task of the merged model, with what the model before it makes of the same images.

    own_scores: the same of every contribution's own images. gone: of images that the merge replaces or takes out, by
    the contribution that had them. alone: what each newcomer's adapter by itself makes of everybody's images,
    accuracies by newcomer and contribution. contradictions: newcomers whose labels mean something else.
    """

    scores: tuple[TaskScore, ...]
    own_scores: tuple[OwnScore, ...]
    gone: tuple[OwnScore, ...]
    alone: Mapping[str, Mapping[str, float]]
    contradictions: tuple[Contradiction, ...]


def find_figures(
    repo: Repository, before: ForgeItem, after: ForgeItem, limits: LimitSettings, newcomers: Collection[str]
) -> Figures:
    """Run both models, which must have one base. newcomers: contributions that are new, or other ones, in `after`."""
    gone = _gone(before, after)
    payloads = repository_payloads(repo, limits)
    payloads([*files_of(before), *files_of(after), *(entry.distilled for entry in (*after.contributions, *gone))])

    from forge.model.composing import Model, alone
    from forge.model.merging import pooled

    base = load_repository_base(repo, after.base)
    images = payloads.distilled_sets(base, after.contributions)
    pools = pooled(images)
    model_before = load_item(base, before, payloads)
    model_after = load_item(base, after, payloads, [pool.task for pool in pools])
    with progress("comparing the models", len(pools) * (2 + len(newcomers))) as advance:
        said_before = answers(base, model_before, pools)
        advance(len(pools))
        judged = judge(pools, answers(base, model_after, pools), said_before)
        advance(len(pools))
        adapters = payloads.adapters(base, after.contributions)
        others = set(before.names) - set(newcomers)
        contradictions = find_contradictions(base, pools, said_before, adapters, newcomers, others)
        by_newcomer: dict[str, Mapping[str, float]] = {}
        for name in sorted(newcomers):
            single = Model(alone(adapters[name]))
            own = judge(pools, answers(base, single, pools), None).own_scores
            by_newcomer[name] = {score.name: score.accuracy for score in own}
            advance(len(pools))
    lost = score_on(base, payloads.distilled_sets(base, gone), model_after, model_before)
    return Figures(judged.scores, judged.own_scores, lost, by_newcomer, contradictions)


def newcomers_of(before: ForgeItem, after: ForgeItem) -> tuple[str, ...]:
    """The contributions whose files `before` has under no name, sorted."""
    known = {identity(entry) for entry in before.contributions}
    return tuple(entry.name for entry in after.contributions if identity(entry) not in known)


def _gone(before: ForgeItem, after: ForgeItem) -> list[Entry]:
    """The contributions of `before` whose distilled images `after` has under no name."""
    there = {entry.distilled for entry in after.contributions}
    return [entry for entry in before.contributions if entry.distilled not in there]
