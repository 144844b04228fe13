"""Versions of the model, and contributions alone, on real images: one row per model and data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from forge.console import track
from forge.errors import ForgeError
from forge.model.images import LabelledImages, as_task, load_images
from forge.model.scoring import evaluate
from forge.operations.loading import LoadedModel, blob_reader, load_model
from forge.operations.task_labels import labels_for, labels_of
from forge.repo.git import Repository
from forge.repo.places import read_item, read_settings_of


class Row(TypedDict):
    """What one model reaches on one data set."""

    model: str
    rev: str
    contribution: str | None
    data: Path
    labels: list[str]
    images: int
    accuracy: float
    auc: float | None
    cross_entropy: float


def evaluate_models(
    repo: Repository, revs: Sequence[str], alone: Sequence[str], folders: Sequence[Path], labels: Sequence[str]
) -> list[Row]:
    """Evaluate every revision, then every contribution of the last one (HEAD) alone, on every data set.

    Images are read once. Raises ForgeError where the revisions have different bases.
    """
    for rev in revs:
        read_item(repo, rev)  # all revisions are sound before any image is read
    last = revs[-1] if revs else "HEAD"
    wanted: list[tuple[str, str | None]] = [*((rev, None) for rev in revs), *((last, name) for name in alone)]
    rows: list[Row] = []
    images: dict[Path, LabelledImages] = {}
    fingerprint: str | None = None
    for rev, name in wanted:
        limits = read_settings_of(repo, rev).limits
        read = blob_reader(repo, limits)
        own = labels_of(read_item(repo, rev), name, read, limits) if name else ()
        model = load_model(repo, rev, limits, contribution=name)
        if fingerprint not in (None, model.base.fingerprint):
            raise ForgeError(f"{rev} is built on another base", hint="evaluate it in a call of its own")
        fingerprint = model.base.fingerprint
        for folder in folders:
            if folder not in images:
                images[folder] = _read(folder, model)
            texts = labels_for(read_item(repo, last), labels, own, images[folder].classes, str(folder))
            measured = evaluate(model.base, model.model, as_task(images[folder], model.base, "", texts))
            rows.append(
                {
                    "model": f"{name} alone" if name else rev,
                    "rev": rev,
                    "contribution": name,
                    "data": folder,
                    "labels": list(texts),
                    "images": measured.images,
                    "accuracy": measured.accuracy,
                    "auc": measured.auc,
                    "cross_entropy": measured.cross_entropy,
                }
            )
    return rows


def _read(folder: Path, model: LoadedModel) -> LabelledImages:
    label = f"reading {folder}"
    return load_images(folder, model.base, split="test", progress=lambda items, total: track(items, total, label))
