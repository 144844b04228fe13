"""Who takes part in an experiment, with which images: three scenarios on generated images.

- multi-task (MedForge (2025), section 4): breast, lung and colon, one contributor each;
- multi-site: one task seen by several hospitals, each with its own stain and scanner;
- digits: the three tissue tasks and scikit-learn's handwritten digits, which are real images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from examples.generated.tasks import make_task
from forge.errors import ForgeError
from forge.model.scoring import TaskImages

SCENARIOS = ("multi-task", "multi-site", "digits")
MULTI_TASK = ("breast", "lung", "colon")
COUNTS = {"train": 1000, "validation": 200, "test": 500}
DIGITS_TEST = 597  # all that scikit-learn's set leaves for it
SITES = (1, 2, 3, 4)
SITE_TASK = "lung"  # three classes that each site alone tells apart badly: the hard case
SITE_COUNTS = {"train": 250, "validation": 50, "test": 125}


@dataclass(frozen=True)
class Participant:
    """A contributor: `train` and `validation` stay private; `seed` is that of its adapter and distillation.

    `horizontal_flip`: its training images are mirrored at random (MedFMC-Colon).
    """

    name: str
    train: TaskImages
    validation: TaskImages
    seed: int
    horizontal_flip: bool = False


@dataclass(frozen=True)
class Scenario:
    """An experiment's images. `validation` and `test` hold one entry per task, in a fixed order."""

    name: str
    seed: int
    participants: tuple[Participant, ...]
    validation: tuple[TaskImages, ...]
    test: tuple[TaskImages, ...]

    def participant(self, name: str) -> Participant:
        return next(each for each in self.participants if each.name == name)


def make_scenario(name: str, seed: int) -> Scenario:
    """A scenario on generated images; everything in it follows from its name and seed."""
    if name == "multi-task":
        return _tasks(name, MULTI_TASK, seed)
    if name == "digits":
        return _tasks(name, (*MULTI_TASK, "digits"), seed)
    if name == "multi-site":
        return _sites(seed)
    raise ForgeError(f"no scenario is called {name!r}", hint=f"the scenarios are {', '.join(SCENARIOS)}")


def pooled(images: tuple[TaskImages, ...]) -> TaskImages:
    """Images of one label set from several sources as one task; none of them in slides."""
    first = images[0]
    if any(each.labels != first.labels or each.groups is not None for each in images):
        raise ForgeError("only single images of the same labels can be pooled")
    pixels, targets = torch.cat([each.pixels for each in images]), torch.cat([each.targets for each in images])
    return TaskImages(first.task, first.labels, pixels, targets)


def images_digest(images: TaskImages) -> str:
    """A name for these very images and labels, under which results made from them are kept."""
    known = hashlib.sha256(repr((images.labels, tuple(images.pixels.shape))).encode())
    known.update(images.pixels.cpu().contiguous().numpy().tobytes())
    known.update(images.targets.cpu().contiguous().numpy().tobytes())
    if images.groups is not None:
        known.update(images.groups.cpu().contiguous().numpy().tobytes())
    return known.hexdigest()


def _tasks(name: str, tasks: tuple[str, ...], seed: int) -> Scenario:
    participants = tuple(
        Participant(task, _images(task, "train", seed), _images(task, "validation", seed), 100 * seed + number)
        for number, task in enumerate(tasks)
    )
    test = tuple(_images(task, "test", seed) for task in tasks)
    return Scenario(name, seed, participants, tuple(each.validation for each in participants), test)


def _sites(seed: int) -> Scenario:
    participants = tuple(
        Participant(
            f"site-{site}", _images(SITE_TASK, "train", seed, site), _images(SITE_TASK, "validation", seed, site),
            100 * seed + 10 + site,
        )
        for site in SITES
    )  # fmt: skip
    validation = pooled(tuple(each.validation for each in participants))
    test = pooled(tuple(_images(SITE_TASK, "test", seed, site) for site in SITES))
    return Scenario("multi-site", seed, participants, (validation,), (test,))


def _images(task: str, split: str, seed: int, site: int | None = None) -> TaskImages:
    count = COUNTS[split] if site is None else SITE_COUNTS[split]
    if task == "digits" and split == "test":
        count = DIGITS_TEST
    images, classes, labels = make_task(task, split, count, seed, site)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return TaskImages(task, labels, pixels, torch.from_numpy(classes))
