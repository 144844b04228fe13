"""Dividing files into training, validation and test images, and reading them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.images import Progress, load_pictures
from forge.model.scoring import TaskImages

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class LabelledFile:
    """A picture and its class; pictures of one `unit` (a patient, say) are never divided between splits."""

    path: Path
    target: int
    unit: str


def divide(
    files: Sequence[LabelledFile], labels: Sequence[str], *, test: float, validation: float, seed: int, source: str
) -> dict[str, list[LabelledFile]]:
    """Files by split, in their order: `test` of every class's units, then `validation` of the others'.

    Each split that is asked for (a share above 0) gets at least one unit of every class, or ForgeError is raised.
    The division follows from the seed and the units' names alone.
    """
    check_share(test)
    check_share(validation)
    classes: dict[str, int] = {}
    for file in files:
        classes.setdefault(file.unit, file.target)
    needed = 1 + (test > 0) + (validation > 0)
    generator = torch.Generator().manual_seed(seed)
    split_of: dict[str, str] = {}
    for target, label in enumerate(labels):
        units = sorted(unit for unit, found in classes.items() if found == target)
        if len(units) < needed:
            raise ForgeError(
                f"{source}: {len(units)} unit(s) of {label!r} cannot be divided into {needed} splits",
                hint="a unit is a patient, a region or an image, whichever must stay whole; is the data set complete?",
            )
        order = [units[index] for index in torch.randperm(len(units), generator=generator).tolist()]
        tested = _count(test, len(units), len(units) - 1 - (validation > 0))
        validated = _count(validation, len(units) - tested, len(units) - tested - 1)
        for place, unit in enumerate(order):
            split_of[unit] = "test" if place < tested else "validation" if place < tested + validated else "train"
    return {split: [file for file in files if split_of[file.unit] == split] for split in SPLITS}


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise ForgeError(f"no split is called {split!r}", hint=f"the splits are {', '.join(SPLITS)}")


def check_share(share: float) -> None:
    if not 0 <= share < 1:
        raise ForgeError(f"a share of {share} cannot be held back", hint="give a number from 0 to below 1")


def at_most(files: Sequence[LabelledFile], per_class: int | None, seed: int) -> list[LabelledFile]:
    """A seeded choice of that many files of each class, in the files' order; all of them for None."""
    if per_class is None:
        return list(files)
    generator = torch.Generator().manual_seed(seed)
    chosen: list[int] = []
    for target in sorted({file.target for file in files}):
        members = [index for index, file in enumerate(files) if file.target == target]
        order = torch.randperm(len(members), generator=generator)[:per_class]
        chosen.extend(members[place] for place in order.tolist())
    return [files[index] for index in sorted(chosen)]


def read_task(
    task: str,
    labels: tuple[str, ...],
    files: Sequence[LabelledFile],
    base: BaseModel,
    *,
    crop: Callable[[Any], Any] = lambda picture: picture,
    groups: Sequence[int] | None = None,
    progress: Progress = lambda items, total: items,
) -> TaskImages:
    """The files' pictures, uint8 [n, 3, h, w] at the base's size, with their targets and groups, both int64 [n]."""
    if not files:
        raise ForgeError(f"no {task} images in this split", hint="ask for a validation share above 0")
    pixels = load_pictures([file.path for file in files], base, crop=crop, progress=progress)
    targets = torch.tensor([file.target for file in files], device=base.device)
    numbers = None if groups is None else torch.tensor(list(groups), device=base.device)
    return TaskImages(task, labels, pixels, targets, numbers)


def _count(share: float, of: int, limit: int) -> int:
    return min(max(1, round(share * of)), limit) if share > 0 else 0
