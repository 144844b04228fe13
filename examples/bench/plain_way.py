"""What the benchmarks of learning and searching have in common: the plain tower, and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from forge.model.attention import ClassTokenBlock
from forge.model.base import BaseModel

T = TypeVar("T")


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
