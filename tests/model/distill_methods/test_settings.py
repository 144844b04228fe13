"""Defaults of the distillation methods."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from forge.model.distill_methods import METHODS, default_settings, used_settings
from forge.model.distill_settings import DistillSettings


def test_the_papers_settings() -> None:
    paper = default_settings("paper")
    assert (paper.method, paper.steps, paper.real_batch, paper.optimizer) == ("dm-dsa", 5000, 256, "sgd")
    assert (paper.pixel_rate, paper.ipc, paper.redraw, paper.judge_steps) == (10.0, 20, 1, 1000)
    assert default_settings("paper", "dm") == replace(paper, method="dm")
    gradients = default_settings("paper", "dc-dsa")  # the authors' loops for 20 images a class: 20 and 25
    assert (gradients.redraw, gradients.adapter_steps, gradients.pixel_rate) == (20, 25, 0.1)


def test_small_bases_start_from_the_adapter() -> None:
    assert default_settings("small").method == "teacher-points"


@pytest.mark.parametrize("family", ["small", "paper"])
@pytest.mark.parametrize("method", METHODS)
def test_every_default_can_be_judged(family: str, method: str) -> None:
    found = default_settings(family, method)
    assert found.method == method
    assert found.needs_adapter == (method == "teacher-points")
    assert found.augments == (method != "dm")
    assert found.judge_steps >= 100
    assert found.judge_points == 1


def test_only_settings_that_matter_are_recorded() -> None:
    every = {field.name for field in fields(DistillSettings)}
    used = {method: set(used_settings(default_settings("small", method))) for method in METHODS}
    assert used["dm"] == used["dm-dsa"] == used["dc-dsa"]
    assert used["dm"] | used["teacher-points"] == every - {"mixed_precision"}  # of which 32 bits are not worth a word
    assert "redraw" in used["dm"] - used["teacher-points"]
    assert {"points", "reach"} <= used["teacher-points"] - used["dm"]
    assert used_settings(default_settings("small"))["token_depths"] == [0.5, 0.75]
