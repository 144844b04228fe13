"""From a recipe to a model: the blobs that it names, checked and turned into adapters and tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from forge.errors import ForgeError, MissingObject
from forge.formats.adapter import check_adapter, check_adapter_config
from forge.formats.distilled import IMAGES, LABELS, OFFSET, SCALE, DistilledView, check_distilled
from forge.git.lfs import read_payloads
from forge.git.places import Place
from forge.git.running import Repository
from forge.operations.bases import load_repository_base
from forge.recipe.catalogue import check_one_model
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


class Payloads:
    """The files that the recipes of one operation name, by blob id: each is read once, and each adapter checked once.

    Whatever is asked for together is read by one process of git, in a partial clone after one fetch: who needs several
    things asks for all of them first. Adapters and distilled datasets are those of one base.
    """

    def __init__(self, read: ReadBlobs, limits: LimitSettings) -> None:
        self.limits = limits
        self._read = read
        self._contents: dict[str, bytes] = {}
        self._base: BaseModel | None = None
        self._adapters: dict[tuple[str, str], Adapter] = {}
        self._images: dict[str, TaskImages] = {}

    def __call__(self, ids: Iterable[str]) -> Mapping[str, bytes]:
        """The contents of blobs by id; those that nobody has asked for yet are read in one go."""
        asked = list(dict.fromkeys(ids))
        missing = [blob for blob in asked if blob not in self._contents]
        if missing:
            self._contents.update(self._read(missing))
        return {blob: self._contents[blob] for blob in asked}

    def adapters(self, base: BaseModel, entries: Sequence[Entry]) -> dict[str, Adapter]:
        """The adapters of recipe entries by name, each checked on its own and against the base."""
        self([blob for entry in entries for blob in (entry.config, entry.adapter)])
        return {e.name: self._adapter(base, e.config, e.adapter, path_of(e.name)) for e in entries}

    def residual(self, base: BaseModel, item: ForgeItem) -> Adapter | None:
        """The adapter that a consolidation adds to the merged model; None where there is none."""
        consolidation = item.consolidation
        return (
            None
            if consolidation is None
            else self._adapter(base, consolidation.config, consolidation.adapter, CONSOLIDATION)
        )

    def distilled_sets(self, base: BaseModel, entries: Sequence[Entry]) -> dict[str, TaskImages]:
        """The distilled datasets of recipe entries by the contribution's name, sorted."""
        self([entry.distilled for entry in entries])
        self._of_base(base)
        ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            if entry.distilled not in self._images:
                (content,) = self([entry.distilled]).values()
                source = path_of(entry.name, DISTILLED_FILE)
                self._images[entry.distilled] = load_distilled(base, content, source, self.limits)
        return {entry.name: self._images[entry.distilled] for entry in ordered}

    def view_distilled(self, entry: Entry) -> DistilledView:
        """Task, labels and counts of a recipe entry's distilled dataset."""
        (content,) = self([entry.distilled]).values()
        return check_distilled(content, path_of(entry.name, DISTILLED_FILE), self.limits.distilled_images)

    def _adapter(self, base: BaseModel, config: str, weights: str, source: str) -> Adapter:
        self._of_base(base)
        known = self._adapters.get((config, weights))
        if known is None:
            contents = self([config, weights])
            known = self._adapters[config, weights] = load_adapter(base, contents[config], contents[weights], source)
        return known

    def _of_base(self, base: BaseModel) -> None:
        """Forget what belongs to another base: an adapter refers to the weights of its own."""
        if self._base is not base:
            self._base, self._adapters, self._images = base, {}, {}


def repository_payloads(repo: Repository, limits: LimitSettings) -> Payloads:
    """The payloads of a repository, no file larger than the limits allow."""
    return Payloads(blob_reader(repo, limits), limits)


def blob_reader(repo: Repository, limits: LimitSettings) -> ReadBlobs:
    """Reads blobs of the repository, none larger than the limits allow. What was erased from it is called that."""

    def read(ids: Iterable[str]) -> Mapping[str, bytes]:
        blobs = list(ids)
        try:
            return read_payloads(repo, blobs, limits.file_bytes)
        except MissingObject:
            erased = erased_blobs(repo, blobs)
            if not erased:
                raise
        raise ForgeError(
            f"files of this version were erased: no commit of this repository has {erased[0][:10]} any more",
            hint="choose a version that is whole: git forge log; whose files they were: git forge verify REV",
        )

    return read


def files_of(item: ForgeItem) -> list[str]:
    """The blobs that the model of a recipe is made of; its distilled sets are not among them."""
    blobs = [blob for entry in item.contributions for blob in (entry.config, entry.adapter)]
    if item.consolidation is not None:
        blobs += [item.consolidation.config, item.consolidation.adapter]
    return blobs


def load_adapter(base: BaseModel, config: bytes, weights: bytes, source: str) -> Adapter:
    """One adapter from the bytes of its two files in the folder `source`, checked alone and against the base."""
    from safetensors.torch import load

    from forge.model.adapters import read_adapter

    checked = check_adapter_config(config, f"{source}/{CONFIG_FILE}")
    check_adapter(weights, checked, f"{source}/{ADAPTER_FILE}")
    return read_adapter(json.loads(config), load(weights), base.tower, source=source)


def load_model(
    repo: Repository, place: Place, limits: LimitSettings, *, contribution: str | None = None
) -> LoadedModel:
    """The model of a revision; with `contribution`, that contribution alone at coefficient 1."""
    item = read_item(repo, place)
    entries = item.contributions
    if contribution is not None:
        entries = (replace(entry_named(item, contribution), coefficient=1.0, tasks={}),)
    base = load_repository_base(repo, item.base)
    payloads = repository_payloads(repo, limits)
    payloads(files_of(item) if contribution is None else ())
    adapters = payloads.adapters(base, entries)
    labels = {score.task: score.labels for score in item.scores}
    residual = payloads.residual(base, item) if contribution is None else None
    model = compose_model(base, item.strategy, entries, adapters, labels, residual)
    return LoadedModel(base, item, model, adapters, residual)


def load_item(base: BaseModel, item: ForgeItem, payloads: Payloads, tasks: Sequence[TaskImages] | None = None) -> Model:
    """The model of a recipe on its base; tasks: those that it is asked about, where its scores may say others."""
    adapters = payloads.adapters(base, item.contributions)
    known = {score.task: score.labels for score in item.scores}
    labels = known if tasks is None else {task.task: task.labels for task in tasks}
    residual = payloads.residual(base, item)
    return compose_model(base, item.strategy, item.contributions, adapters, labels, residual)


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
    from forge.model.composing import Model, summed
    from forge.model.strategies import compose
    from forge.model.task_fallback import blend, label_similarities

    def parts(coefficients: Sequence[Coefficient]) -> Parts:
        for entry, coefficient in zip(entries, coefficients, strict=True):
            check_modules(entry.name, coefficient, adapters[entry.name])
        return compose(strategy, [(adapters[e.name], c) for e, c in zip(entries, coefficients, strict=True)])

    tasks = entries[0].tasks if entries else ()
    shared = parts([entry.coefficient for entry in entries])
    if residual is not None:
        hint = f"take it out: git rm -r {CONSOLIDATION}, then git forge commit"
        check_one_model(strategy, "a consolidation cannot be added to it", hint)
        ((delta, weight),) = shared
        shared = ((summed(delta, plain_delta(residual)), weight),)
    known = {labels[task]: {entry.name: entry.tasks[task] for entry in entries} for task in tasks}

    def nearest(asked: tuple[str, ...]) -> Parts:
        blended = blend(known, label_similarities(base, asked, known))
        return parts([blended[entry.name] for entry in entries])

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
