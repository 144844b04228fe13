"""A consolidation of a recipe: a residual adapter trained on all distilled sets; the parts stay what they are."""

from __future__ import annotations

import json
from dataclasses import replace

from forge.console import progress
from forge.errors import ForgeError
from forge.operations.bases import load_repository_base
from forge.operations.folding import score_item
from forge.operations.loading import (
    ReadBlobs,
    compose_model,
    load_adapters,
    load_distilled_sets,
)
from forge.repo.consolidation import PATHS
from forge.repo.git import Repository, hash_object
from forge.repo.recipe import Consolidation, ForgeItem
from forge.repo.safetensors_format import to_bytes
from forge.repo.settings import Settings

LEARNING_RATE = 5e-4


def consolidated(
    repo: Repository, item: ForgeItem, settings: Settings, steps: int, read: ReadBlobs
) -> tuple[ForgeItem, dict[str, bytes]]:
    """`item` with a consolidation of so many steps, and the two files that it names, by path.

    The residual is added to the model that all tasks share. Both blobs are written to the object store, nothing
    to the work tree. Where no step helps, the model stays as it is, without a consolidation.
    """
    if item.strategy == "mixture-output":
        raise ForgeError(
            "mixture-output is several models: there is no one model to consolidate",
            hint='use strategy = "mixture" in forge.toml, or set consolidate = 0',
        )

    from forge.model.consolidating import consolidate
    from forge.model.merging import Member

    base = load_repository_base(repo, item.base)
    entries = item.contributions
    adapters = load_adapters(base, entries, read)
    images = load_distilled_sets(base, entries, read, settings.limits)
    labels = {score.task: score.labels for score in item.scores}
    ((delta, _),) = compose_model(base, item.strategy, entries, adapters, labels).shared
    members = [Member(e.name, adapters[e.name], e.coefficient, "ours", images[e.name]) for e in entries]
    seed = settings.search.seed
    with progress("consolidating", steps) as advance:
        made = consolidate(
            base, delta, members, steps=steps, learning_rate=LEARNING_RATE, seed=seed, advance=lambda: advance()
        )
    if made.objective_after >= made.objective_before:
        return without_consolidation(repo, item, settings, read), {}
    arrays = {name: tensor.numpy() for name, tensor in made.tensors.items()}
    contents = {
        "adapter": to_bytes(arrays, {"format": "pt"}, PATHS["adapter"]),
        "config": json.dumps(made.config, indent=2).encode() + b"\n",
    }
    ids = {part: hash_object(repo, content, write=True, path=PATHS[part]) for part, content in contents.items()}
    consolidation = Consolidation(
        adapter=ids["adapter"],
        config=ids["config"],
        steps=steps,
        learning_rate=LEARNING_RATE,
        seed=seed,
        objective_before=made.objective_before,
        objective_after=made.objective_after,
    )
    found = replace(item, consolidation=consolidation)
    return _rescored(repo, found, settings, read), {PATHS[part]: content for part, content in contents.items()}


def without_consolidation(repo: Repository, item: ForgeItem, settings: Settings, read: ReadBlobs) -> ForgeItem:
    """`item` as it is without its consolidation, if it has one."""
    if item.consolidation is None:
        return item
    return _rescored(repo, replace(item, consolidation=None), settings, read)


def _rescored(repo: Repository, item: ForgeItem, settings: Settings, read: ReadBlobs) -> ForgeItem:
    """`item` with the scores that it has now; what it was made from keeps its own."""
    found = score_item(repo, item, settings, read)
    before = {score.task: score for score in item.scores}
    scores = tuple(
        replace(
            score,
            accuracy_before=before[score.task].accuracy_before,
            cross_entropy_before=before[score.task].cross_entropy_before,
        )
        for score in found.scores
    )
    own_before = {score.name: score for score in item.own_scores}
    own = tuple(
        replace(
            score,
            accuracy_before=own_before[score.name].accuracy_before,
            cross_entropy_before=own_before[score.name].cross_entropy_before,
        )
        for score in found.own_scores
        if score.name in own_before
    )
    return replace(item, scores=scores, own_scores=own)
