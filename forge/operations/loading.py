"""From a recipe to a model: the blobs that it names, checked and turned into adapters and tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from forge.errors import ForgeError
from forge.formats.adapter import check_adapter, check_adapter_config
from forge.formats.distilled import IMAGES, LABELS, OFFSET, SCALE, DistilledView, check_distilled
from forge.git.lfs import read_payloads
from forge.git.places import Place
from forge.git.running import Repository
from forge.operations.bases import load_repository_base
from forge.recipe.checks import Coefficient
from forge.recipe.item import Entry, ForgeItem, check_modules
from forge.recipe.layout import ADAPTER_FILE, CONFIG_FILE, CONSOLIDATION, DISTILLED_FILE, path_of
from forge.recipe.settings import LimitSettings
from forge.repo.erased import erased_blobs
from forge.repo.items import read_item
from forge.text import same_labels

if TYPE_CHECKING:
    from forge.model.adapters import Adapter
    from forge.model.base import BaseModel
    from forge.model.composing import Model, Parts
    from forge.model.scoring import TaskImages

ReadBlobs = Callable[[Iterable[str]], Mapping[str, bytes]]


@dataclass(frozen=True)
class LoadedModel:
    """A version of the model, materialised: the base and what the recipe makes of it.

    adapters: those of the contributions in it by name. residual: what a consolidation adds to the part that all tasks
    share.
    """

    base: BaseModel
    item: ForgeItem
    model: Model
    adapters: Mapping[str, Adapter]
    residual: Adapter | None


def blob_reader(repo: Repository, limits: LimitSettings) -> ReadBlobs:
    """Reads blobs of the repository, none larger than the limits allow. What was erased from it is called that."""

    def read(ids: Iterable[str]) -> Mapping[str, bytes]:
        wanted = list(ids)
        try:
            return read_payloads(repo, wanted, limits.file_bytes)
        except ForgeError:
            erased = erased_blobs(repo, wanted)
            if not erased:
                raise
        raise ForgeError(
            f"files of this version were erased: no commit of this repository has {erased[0][:10]} any more",
            hint="choose a version that is whole: git forge log; whose files they were: git forge verify REV",
        )

    return read


def read_at_once(read: ReadBlobs, *ids: Iterable[str]) -> ReadBlobs:
    """A reader that has these blobs already, all read in one go; each of any others is read when it is asked for."""
    found = dict(read(dict.fromkeys(blob for each in ids for blob in each)))

    def cached(wanted: Iterable[str]) -> Mapping[str, bytes]:
        asked = list(wanted)
        missing = [blob for blob in asked if blob not in found]
        if missing:
            found.update(read(missing))
        return {blob: found[blob] for blob in asked}

    return cached


def payloads_of(item: ForgeItem) -> list[str]:
    """The blobs that the model of a recipe is made of; its distilled sets are not among them."""
    blobs = [blob for entry in item.contributions for blob in (entry.config, entry.adapter)]
    if item.consolidation is not None:
        blobs += [item.consolidation.config, item.consolidation.adapter]
    return blobs


def load_adapters(base: BaseModel, entries: Sequence[Entry], read: ReadBlobs) -> dict[str, Adapter]:
    """The adapters of recipe entries by name, each checked on its own and against the base."""
    blobs = read([blob for entry in entries for blob in (entry.config, entry.adapter)])
    return {
        entry.name: load_adapter(base, blobs[entry.config], blobs[entry.adapter], path_of(entry.name))
        for entry in entries
    }


def load_adapter(base: BaseModel, config: bytes, weights: bytes, source: str) -> Adapter:
    """One adapter from the bytes of its two files in the folder `source`, checked alone and against the base."""
    from safetensors.torch import load

    from forge.model.adapters import read_adapter

    checked = check_adapter_config(config, f"{source}/{CONFIG_FILE}")
    check_adapter(weights, checked, f"{source}/{ADAPTER_FILE}")
    return read_adapter(json.loads(config), load(weights), base.tower, source=source)


def load_distilled_sets(
    base: BaseModel, entries: Sequence[Entry], read: ReadBlobs, limits: LimitSettings
) -> dict[str, TaskImages]:
    """The distilled datasets of recipe entries by the contribution's name, sorted."""
    blobs = read([entry.distilled for entry in entries])
    return {
        entry.name: load_distilled(base, blobs[entry.distilled], path_of(entry.name, DISTILLED_FILE), limits)
        for entry in sorted(entries, key=lambda entry: entry.name)
    }


def view_distilled(entry: Entry, read: ReadBlobs, limits: LimitSettings) -> DistilledView:
    """Task, labels and counts of a recipe entry's distilled dataset."""
    data = read([entry.distilled])[entry.distilled]
    return check_distilled(data, path_of(entry.name, DISTILLED_FILE), limits.distilled_images)


def load_model(
    repo: Repository, place: Place, limits: LimitSettings, *, contribution: str | None = None
) -> LoadedModel:
    """The model of a revision; with `contribution`, that contribution alone at coefficient 1."""
    item = read_item(repo, place)
    entries = item.contributions
    if contribution is not None:
        entries = (replace(entry_named(item, contribution), coefficient=1.0, tasks={}),)
    base = load_repository_base(repo, item.base)
    read = read_at_once(blob_reader(repo, limits), payloads_of(item) if contribution is None else ())
    adapters = load_adapters(base, entries, read)
    labels = {score.task: score.labels for score in item.scores}
    residual = load_residual(base, item, read) if contribution is None else None
    model = compose_model(base, item.strategy, entries, adapters, labels, residual)
    return LoadedModel(base, item, model, adapters, residual)


def load_item(base: BaseModel, item: ForgeItem, read: ReadBlobs, tasks: Sequence[TaskImages] | None = None) -> Model:
    """The model of a recipe on its base; tasks: those that it is asked about, where its scores may say others."""
    adapters = load_adapters(base, item.contributions, read)
    known = {score.task: score.labels for score in item.scores}
    labels = known if tasks is None else {task.task: task.labels for task in tasks}
    residual = load_residual(base, item, read)
    return compose_model(base, item.strategy, item.contributions, adapters, labels, residual)


def load_residual(base: BaseModel, item: ForgeItem, read: ReadBlobs) -> Adapter | None:
    """The adapter that a consolidation adds to the merged model; None where there is none."""
    made = item.consolidation
    if made is None:
        return None
    blobs = read([made.config, made.adapter])
    return load_adapter(base, blobs[made.config], blobs[made.adapter], CONSOLIDATION)


def compose_model(
    base: BaseModel,
    strategy: str,
    entries: Sequence[Entry],
    adapters: Mapping[str, Adapter],
    labels: Mapping[str, tuple[str, ...]],
    residual: Adapter | None = None,
) -> Model:
    """The model of recipe entries; `labels` are those of each task that they have coefficients of their own for.

    For labels of no such task it blends the tasks' coefficients by how near their labels are (task_fallback.py).
    residual: what a consolidation adds to the shared part, as it is. Raises ForgeError where coefficients per
    module are not those of the adapter's modules, and for a residual of a model that is several.
    """
    from forge.model.adapters import plain_delta
    from forge.model.composing import Model, compose, mixed
    from forge.model.task_fallback import blend, label_similarities

    def parts(coefficients: Sequence[Coefficient]) -> Parts:
        for entry, coefficient in zip(entries, coefficients, strict=True):
            check_modules(entry.name, coefficient, adapters[entry.name])
        return compose(strategy, [(adapters[e.name], c) for e, c in zip(entries, coefficients, strict=True)])

    tasks = entries[0].tasks if entries else ()
    shared = parts([entry.coefficient for entry in entries])
    if residual is not None:
        if strategy == "mixture-output":
            raise ForgeError(
                "mixture-output is several models: a consolidation cannot be added to it",
                hint=f"take it out: git rm -r {CONSOLIDATION}, then git forge commit",
            )
        ((delta, weight),) = shared
        shared = ((mixed([delta, plain_delta(residual)], [1.0, 1.0]), weight),)
    known = {labels[task]: {entry.name: entry.tasks[task] for entry in entries} for task in tasks}

    def nearest(asked: tuple[str, ...]) -> Parts:
        found = blend(known, label_similarities(base, asked, known))
        return parts([found[entry.name] for entry in entries])

    return Model(
        shared,
        {same_labels(task): parts([of[entry.name] for entry in entries]) for task, of in known.items()},
        nearest if known else None,
    )


def entry_named(item: ForgeItem, name: str) -> Entry:
    """The entry of a contribution; ForgeError naming those there are."""
    entry = item.entry(name)
    if entry is None:
        there = ", ".join(item.names) or "none"
        raise ForgeError(f"this version has no contribution called {name!r}", hint=f"it has: {there}")
    return entry


def load_distilled(base: BaseModel, data: bytes, source: str, limits: LimitSettings) -> TaskImages:
    """A distilled dataset from its bytes, checked alone and against the base's image size."""
    from safetensors.torch import load

    from forge.model.distillation import restore
    from forge.model.scoring import TaskImages

    view = check_distilled(data, source, limits.distilled_images, base.image_size)
    tensors = load(data)
    pixels = base.normalise(restore(tensors[IMAGES], tensors[OFFSET], tensors[SCALE]))
    return TaskImages(view.task, view.labels, pixels, tensors[LABELS].to(base.device))
