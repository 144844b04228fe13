"""The tiny base of tests/model, and a scenario of two easy tasks on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from model.conftest import base, base_folder, bright_or_dark, images, one_thread, untouched  # noqa: F401

from examples.paper.scenarios import Participant, Scenario
from forge.model.scoring import TaskImages

MakeTask = Callable[..., TaskImages]


@pytest.fixture(scope="session")
def dark_or_bright(bright_or_dark: MakeTask) -> MakeTask:  # noqa: F811
    """The same images as bright_or_dark under other labels: another task."""

    def make(count: int, seed: int = 0, task: str = "shade") -> TaskImages:
        made = bright_or_dark(count, seed + 50, task)
        return TaskImages(task, ("a picture in the night", "a picture at noon"), made.pixels, made.targets)

    return make


@pytest.fixture(scope="session")
def small_scenario(bright_or_dark: MakeTask, dark_or_bright: MakeTask) -> Scenario:  # noqa: F811
    """A multi-task scenario of two participants with 16 images each."""
    makers = {"light": bright_or_dark, "shade": dark_or_bright}
    participants = tuple(
        Participant(name, make(16, number, name), make(8, 10 + number, name), number)
        for number, (name, make) in enumerate(makers.items())
    )
    test = tuple(make(12, 20, name) for name, make in makers.items())
    return Scenario("multi-task", 0, participants, tuple(each.validation for each in participants), test)
