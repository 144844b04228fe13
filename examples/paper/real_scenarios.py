"""The paper's own experiment, breast, lung and colon, on the real images (MedForge (2025), section 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from examples.paper.datasets.breakhis import find_breakhis, load_breakhis
from examples.paper.datasets.lc25000 import find_lc25000, load_lc25000
from examples.paper.datasets.medfmc import find_medfmc, load_medfmc_colon
from examples.paper.scenarios import Participant, Scenario
from forge.model.base import BaseModel
from forge.model.images import Progress
from forge.model.scoring import TaskImages


class _Load(Protocol):
    def __call__(
        self,
        root: Path,
        base: BaseModel,
        *,
        split: str,
        seed: int,
        validation: float,
        per_class: int | None,
        progress: Progress,
    ) -> TaskImages: ...


LOADERS: dict[str, _Load] = {"breast": load_breakhis, "lung": load_lc25000, "colon": load_medfmc_colon}


def make_real_scenario(
    root: Path,
    base: BaseModel,
    seed: int,
    *,
    validation: float = 0.1,
    per_class: int | None = None,
    progress: Progress = lambda items, total: items,
) -> Scenario:
    """The scenario `multi-task` on the data sets that lie below `root`, in folders of any names.

    `per_class` takes that many images of each class in each split, for a quick run. Whole, the training images are
    some 2.5 GB at 224 x 224. Raises ForgeError naming what is missing, before anything is read.
    """
    for find in (find_breakhis, find_lc25000, find_medfmc):
        find(root)

    def load(task: str, split: str) -> TaskImages:
        return LOADERS[task](
            root, base, split=split, seed=seed, validation=validation, per_class=per_class, progress=progress
        )

    participants = tuple(
        Participant(task, load(task, "train"), load(task, "validation"), 100 * seed + number, task == "colon")
        for number, task in enumerate(LOADERS)
    )
    test = tuple(load(task, "test") for task in LOADERS)
    return Scenario("multi-task", seed, participants, tuple(each.validation for each in participants), test)
