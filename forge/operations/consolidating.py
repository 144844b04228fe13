"""A consolidation of a recipe: a residual adapter trained on all distilled sets; the parts stay what they are.

It lost where it was measured: model/consolidating.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from forge.console import progress
from forge.formats.adapter import config_bytes, weights_bytes
from forge.git.running import Repository, hash_object
from forge.operations.bases import load_repository_base
from forge.operations.folding import score_item
from forge.operations.loading import Payloads, compose_model
from forge.recipe.catalogue import DEFAULT_STRATEGY, check_one_model
from forge.recipe.item import Consolidation, ForgeItem
from forge.recipe.item_differences import differences
from forge.recipe.layout import CONSOLIDATION, consolidation_paths
from forge.recipe.settings import Settings

if TYPE_CHECKING:
    from forge.model.consolidating import Consolidated

LEARNING_RATE = 5e-4
MOST_STEPS_AGAIN = 1000  # of a consolidation that somebody else has made
RESIDUAL = 0.05  # of its own length, by which one that is trained again may be another on another machine


def consolidated(
    repo: Repository, item: ForgeItem, settings: Settings, steps: int, payloads: Payloads
) -> tuple[ForgeItem, dict[str, bytes]]:
    """`item` with a consolidation of so many steps, and the two files that it names, by path.

    The residual is added to the model that all tasks share. Both blobs are written to the object store, nothing
    to the work tree. Where no step helps, the model stays as it is, without a consolidation.
    """
    trained = _trained(repo, item, settings, steps, payloads)
    if trained.objective_after >= trained.objective_before:
        return without_consolidation(repo, item, payloads), {}
    arrays = {name: tensor.numpy() for name, tensor in trained.tensors.items()}
    contents = {
        "adapter": weights_bytes(arrays, consolidation_paths()["adapter"]),
        "config": config_bytes(trained.config),
    }
    ids = {
        part: hash_object(repo, content, write=True, path=consolidation_paths()[part])
        for part, content in contents.items()
    }
    consolidation = Consolidation(
        adapter=ids["adapter"],
        config=ids["config"],
        steps=steps,
        learning_rate=LEARNING_RATE,
        seed=settings.search.seed,
        objective_before=trained.objective_before,
        objective_after=trained.objective_after,
    )
    kept = replace(item, consolidation=consolidation, unknown={})  # what was said of another model
    return _rescored(repo, kept, payloads), {consolidation_paths()[part]: content for part, content in contents.items()}


def consolidation_differs(
    repo: Repository, recorded: ForgeItem, plain: ForgeItem, settings: Settings, payloads: Payloads
) -> list[str]:
    """Where a recorded consolidation is not the one that training makes of the recipe `plain`, one line each."""
    consolidation = recorded.consolidation
    assert consolidation is not None
    if consolidation.steps > MOST_STEPS_AGAIN:
        return [f"a consolidation of {consolidation.steps:,} steps is not made again: at most {MOST_STEPS_AGAIN} are"]
    if (consolidation.learning_rate, consolidation.seed) != (LEARNING_RATE, settings.search.seed):
        return ["the consolidation was not trained as git forge trains it"]
    trained = _trained(repo, plain, settings, consolidation.steps, payloads)
    if trained.objective_after >= trained.objective_before:
        return ["no consolidation makes this model better"]

    from forge.model.adapters import plain_delta, read_adapter

    base = load_repository_base(repo, recorded.base)
    residual = payloads.residual(base, recorded)
    assert residual is not None
    theirs, ours = (
        plain_delta(residual),
        plain_delta(read_adapter(trained.config, trained.tensors, base.tower, source=CONSOLIDATION)),
    )
    if theirs.keys() != ours.keys():
        return ["the consolidation changes other modules than the one that training makes"]
    away = sum(float((theirs[name] - ours[name]).square().sum()) for name in ours)
    length = sum(float(delta.square().sum()) for delta in ours.values())
    if not away <= RESIDUAL**2 * length:  # so that NaN is a difference, too
        return ["the consolidation is not the one that training makes of this model"]
    return differences(recorded, _rescored(repo, replace(plain, consolidation=consolidation), payloads))


def without_consolidation(repo: Repository, item: ForgeItem, payloads: Payloads) -> ForgeItem:
    """`item` as it is without its consolidation, if it has one."""
    if item.consolidation is None:
        return item
    return _rescored(repo, replace(item, consolidation=None, unknown={}), payloads)


def _trained(repo: Repository, item: ForgeItem, settings: Settings, steps: int, payloads: Payloads) -> Consolidated:
    hint = f'use strategy = "{DEFAULT_STRATEGY}" in forge.toml, or set consolidate = 0'
    check_one_model(item.strategy, "there is no one model to consolidate", hint)

    from forge.model.consolidating import consolidate
    from forge.model.merging import Member

    base = load_repository_base(repo, item.base)
    entries = item.contributions
    adapters = payloads.adapters(base, entries)
    images = payloads.distilled_sets(base, entries)
    labels = {score.task: score.labels for score in item.scores}
    ((delta, _),) = compose_model(base, item.strategy, entries, adapters, labels).shared
    members = [Member(e.name, adapters[e.name], e.coefficient, "ours", images[e.name]) for e in entries]
    seed = settings.search.seed
    with progress("consolidating", steps) as advance:
        return consolidate(
            base, delta, members, steps=steps, learning_rate=LEARNING_RATE, seed=seed, advance=lambda: advance()
        )


def _rescored(repo: Repository, item: ForgeItem, payloads: Payloads) -> ForgeItem:
    """`item` with the scores that it has now; what it was made from keeps its own."""
    judged = score_item(repo, item, payloads)
    before = {score.task: score for score in item.scores}
    scores = tuple(
        replace(
            score,
            accuracy_before=before[score.task].accuracy_before,
            cross_entropy_before=before[score.task].cross_entropy_before,
        )
        for score in judged.scores
    )
    own_before = {score.name: score for score in item.own_scores}
    own = tuple(
        replace(
            score,
            accuracy_before=own_before[score.name].accuracy_before,
            cross_entropy_before=own_before[score.name].cross_entropy_before,
        )
        for score in judged.own_scores
        if score.name in own_before
    )
    return replace(item, scores=scores, own_scores=own)
