"""`git forge predict`: label probabilities of pictures, a part of them at a time, so that memory does not grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forge.console import Report, silent, track
from forge.data.listing import ReadOptions, list_pictures
from forge.data.matching import check_texts
from forge.data.reasons import Reason
from forge.errors import ForgeError
from forge.git.running import Repository
from forge.operations.loading import LoadedModel, load_model, repository_payloads
from forge.operations.reading import complete_options
from forge.operations.task_labels import known_tasks, labels_of, tasks_of, with_grey
from forge.recipe.card import check_labels
from forge.repo.items import read_item, read_settings_of
from forge.text import same_labels

if TYPE_CHECKING:
    from forge.model.images import Reader

PART = 256  # pictures: a few batches, and 39 MB at 224 pixels


def choose_texts(
    repo: Repository, rev: str, given: Sequence[str], contribution: str | None, options: ReadOptions
) -> tuple[tuple[str, ...], ReadOptions]:
    """The labels to choose among, given or those of a task, and how the task's pictures are read."""
    limits = read_settings_of(repo, rev).limits
    item = read_item(repo, rev)
    tasks = known_tasks(item)
    if given:
        texts = check_labels(given, "--labels")
        if same_labels(texts) not in map(same_labels, tasks.values()):
            check_texts(texts, texts, "--labels")
    elif contribution:
        texts = labels_of(item, contribution, repository_payloads(repo, limits))
    elif len(tasks) == 1:
        texts = next(iter(tasks.values()))
    else:
        raise ForgeError(
            "which labels? This version knows " + (", ".join(tasks) or "no task yet"),
            hint="give --labels TEXT --labels TEXT ..., or --contribution NAME",
        )
    return texts, with_grey(options, [tasks_of(repo, rev, item)], texts, contribution)


@dataclass(frozen=True)
class Predicted:
    """The labels, and each picture with the probability of each of them, made as they are asked for."""

    labels: tuple[str, ...]
    rows: Iterator[tuple[Path, list[float]]]


def predict(
    repo: Repository,
    rev: str,
    places: Sequence[Path],
    *,
    labels: Sequence[str] = (),
    contribution: str | None = None,
    options: ReadOptions | None = None,
    report: Report = silent,
) -> Predicted:
    """Ask the model of a revision about pictures, folders and tables of them.

    labels: the texts to choose among; those of a contribution, or of the only task, if not given. All pictures are
    looked for before the model is loaded. Raises ForgeError where it is not clear which labels are meant.
    """
    texts, options = choose_texts(repo, rev, labels, contribution, complete_options(options))
    paths: list[Path] = []
    left_out: Counter[Reason] = Counter()
    for place in places:
        pictures, reasons = list_pictures(place, options)
        paths += pictures
        left_out.update(reasons)

    from forge.model.images import Reader
    from forge.model.label_texts import check_label_texts

    model = load_model(repo, rev, read_settings_of(repo, rev).limits)
    for label, read in check_label_texts(model.base, texts, "the labels").items():
        report(f"label cut: of {label!r} the base reads {read!r}")
    return Predicted(texts, _predicted(model, Reader(model.base, options), paths, texts, left_out, report))


def _predicted(
    model: LoadedModel,
    reader: Reader,
    paths: Sequence[Path],
    texts: tuple[str, ...],
    left_out: Counter[Reason],
    report: Report,
) -> Iterator[tuple[Path, list[float]]]:
    import torch

    from forge.model.scoring import probabilities

    tracked = iter(track(paths, len(paths), "predicting"))
    for start in range(0, len(paths), PART):
        part = [path for path, _ in zip(paths[start : start + PART], tracked, strict=False)]
        pictures = list(reader.each(part))  # before any of it is printed, for their range may be unknown
        if pictures:
            pixels = torch.stack([picture for _, picture in pictures])
            table = probabilities(model.base, model.model, pixels, texts)
            yield from ((path, row.tolist()) for (path, _), row in zip(pictures, table, strict=True))
    for reason, count in sorted((left_out + reader.left_out).items()):
        report(f"not read: {count} {'file' if count == 1 else 'files'}, {reason}")
