"""A contributor's private images as `train` and `distill` use them: the same split, labels and task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forge.console import track
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.images import as_task, has_split, load_images, split_validation
from forge.model.scoring import TaskImages
from forge.operations.contributing import choose_labels
from forge.repo.card import Card


@dataclass(frozen=True)
class PrivateData:
    """A task's training and validation images; neither is ever written anywhere."""

    task: str
    labels: tuple[str, ...]
    train: TaskImages
    validation: TaskImages


def read_private_data(
    base: BaseModel, data: Path, given: Sequence[str], card: Card | None, task: str, share: float, seed: int
) -> PrivateData:
    """Read DATA and hold back `share` of every class for validation, unless DATA brings a val split."""
    everything = load_images(data, base, progress=lambda items, total: track(items, total, "reading images"))
    labels = choose_labels(given, card, everything.classes, str(data))
    if has_split(data, "val"):
        train, validation = everything, load_images(data, base, split="val")
        if validation.classes != train.classes:
            raise ForgeError(
                f"{validation.source} has the classes {', '.join(validation.classes)}, "
                f"but {train.source} has {', '.join(train.classes)}",
                hint="the two splits need the same classes",
            )
    else:
        train, validation = split_validation(everything, share, seed)
    return PrivateData(task, labels, as_task(train, base, task, labels), as_task(validation, base, task, labels))
