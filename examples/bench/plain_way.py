"""What the benchmarks of models have in common: generated images, the plain tower, and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from examples.generated.tasks import make_task
from forge.model.attention import ClassTokenBlock
from forge.model.base import BaseModel
from forge.model.scoring import TaskImages

T = TypeVar("T")


def generated_images(task: str, split: str, count: int, seed: int = 0, site: int | None = None) -> TaskImages:
    """Generated images of a task, uint8 [count, 3, 32, 32], of each class as many."""
    images, classes, labels = make_task(task, split, count, seed, site)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return TaskImages(task, labels, pixels, torch.from_numpy(classes))


@contextmanager
def every_token(base: BaseModel) -> Iterator[None]:
    """The tower as open_clip has it, whose last block computes tokens that nobody reads."""
    last = base.tower.trunk.transformer.resblocks[-1]
    assert isinstance(last, ClassTokenBlock)
    last.every_token = True
    try:
        yield
    finally:
        last.every_token = False


def timed(function: Callable[[], T], seconds: list[float]) -> T:
    """What the function gives; its CPU seconds in this process join the list."""
    started = time.process_time()
    result = function()
    seconds.append(time.process_time() - started)
    return result
