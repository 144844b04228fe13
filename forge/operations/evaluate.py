"""`git forge evaluate`: what versions of the model, and contributions alone, reach on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forge.console import Report, silent, track
from forge.data.listing import Listing, ReadOptions, list_images
from forge.data.matching import Given
from forge.data.summary import summarised
from forge.errors import ForgeError
from forge.git.running import Repository, fetch_promised
from forge.operations.reading import complete_options
from forge.operations.task_labels import Asked, ask, tasks_of, unfit, with_grey
from forge.repo.items import read_item, read_settings_of

if TYPE_CHECKING:
    from forge.model.base import BaseModel
    from forge.model.scoring import TaskImages


@dataclass(frozen=True)
class Row:
    """What one model reaches on one data set."""

    model: str
    rev: str
    contribution: str | None
    data: Path
    labels: tuple[str, ...]
    images: int
    accuracy: float
    auc: float | None
    cross_entropy: float


def evaluate_models(
    repo: Repository,
    revs: Sequence[str],
    folders: Sequence[Path],
    *,
    alone: Sequence[str] = (),
    given: Given | None = None,
    options: ReadOptions | None = None,
    report: Report = silent,
) -> list[Row]:
    """Evaluate every revision, then every contribution of the last one (HEAD) alone, on every data set.

    Without both it is HEAD.

    Every data set finds its own task by the names of its classes: among those of the named contributions, else of the
    revisions in their order. One that fits none has no rows; where none does, ForgeError is raised, and also where the
    revisions have different bases. Images are read once.
    """
    given = given or Given()
    if given != Given() and len(folders) > 1:
        raise ForgeError(
            "--labels and --label speak of one data set, but there are several --data", hint="evaluate one by one"
        )
    options = complete_options(options)
    revs = revs or (() if alone else ("HEAD",))
    last = revs[-1] if revs else "HEAD"
    places = list(dict.fromkeys([*revs, last]))
    items = {rev: read_item(repo, rev) for rev in places}
    listings = {folder: list_images(folder, "test", options) for folder in folders}
    own = [task for name in alone for task in tasks_of(repo, last, items[last], name)]
    groups = [own, *(tasks_of(repo, rev, items[rev]) for rev in places)]
    asked = {folder: ask(groups, listing.classes, given, str(folder)) for folder, listing in listings.items()}
    messages = [unfit(groups, listings[folder].classes, str(folder)) for folder in folders if asked[folder] is None]
    if len(messages) == len(folders):
        raise messages[0]
    for error in messages:
        report(f"left empty: {error.message}; {error.hint}")

    from forge.model import sharing
    from forge.model.scoring import evaluate
    from forge.operations.loading import files_of, load_model

    sharing.start()
    with sharing.main_first():
        fetch_promised(repo, {blob for item in items.values() for blob in files_of(item)})
    models: list[tuple[str, str | None]] = [*((rev, None) for rev in revs), *((last, name) for name in alone)]
    rows: list[Row] = []
    images: dict[Path, TaskImages] = {}
    fingerprint: str | None = None
    for rev, name in models:
        model = load_model(repo, rev, read_settings_of(repo, rev).limits, contribution=name)
        if fingerprint not in (None, model.base.fingerprint):
            raise ForgeError(f"{rev} is built on another base", hint="evaluate it in a call of its own")
        fingerprint = model.base.fingerprint
        for folder, question in asked.items():
            if question is None:
                continue
            if folder not in images:
                read = with_grey(options, groups, question.labels)
                images[folder] = _read(listings[folder], model.base, question, read, report)
            measured = evaluate(model.base, model.model, images[folder])
            rows.append(
                Row(
                    model=f"{name} alone" if name else rev,
                    rev=rev,
                    contribution=name,
                    data=folder,
                    labels=question.labels,
                    images=measured.images,
                    accuracy=measured.accuracy,
                    auc=measured.auc,
                    cross_entropy=measured.cross_entropy,
                )
            )
    return rows


def _read(listing: Listing, base: BaseModel, asked: Asked, options: ReadOptions, report: Report) -> TaskImages:
    from forge.model.images import read_listing, with_labels
    from forge.model.label_texts import check_label_texts

    cut = check_label_texts(base, asked.labels, listing.source)
    label = f"reading {listing.source}"
    images = read_listing(listing, base, options, lambda items, total: track(items, total, label))
    report(*summarised(images, images.classes, asked.of_class, cut).lines())
    return with_labels(images, base, "", asked.labels, asked.of_class)
