"""What a task-aware model falls back to, on the tiny base: the label sets asked for, and what they are compared by."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from examples.paper import unseen
from examples.paper.experiment import Experiment, ExperimentSettings
from examples.paper.scenarios import Scenario
from forge.model.base import BaseModel
from forge.recipe.settings import SearchSettings

LUNG = ("benign lung tissues", "lung adenocarcinomas")
COLON = ("negative colon tumor", "positive colon tumor")
SETTINGS = ExperimentSettings(
    epochs=1, distill=(("steps", 2), ("points", 1), ("ipc", 2)), distilled_steps=2, search=SearchSettings(evaluations=4)
)


def test_how_alike_images_look(base: BaseModel, images: torch.Tensor) -> None:
    with torch.no_grad():
        unit = [embedded / embedded.norm() for embedded in base.tower(images)]
    means = {LUNG: sum(unit[:3]) / 3, COLON: sum(unit[3:5]) / 2}
    seen = sum(unit[5:]) / 5
    torch.testing.assert_close(unseen.mean_embedding(base, images[5:]), seen, rtol=1e-4, atol=1e-5)
    found = unseen.image_similarities(base, images[5:], {LUNG: images[:3], COLON: images[3:5]})
    for labels, mean in means.items():
        assert found[labels] == pytest.approx(float(mean @ seen / (mean.norm() * seen.norm())), abs=1e-4)


@pytest.mark.usefixtures("untouched")
def test_every_fallback_on_every_label_set(
    base: BaseModel, small_scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"light": (("dark", "bright"), (0, 1)), "shade": (("night",), (0,))}
    monkeypatch.setattr(unseen, "ASKED", asked)
    found = unseen.measure_fallbacks(Experiment(tmp_path, base, small_scenario, SETTINGS), "teacher-points", "test")
    fallbacks = ["shared", "nearest by labels", "nearest by labels and images"]
    assert [(each.task, each.fallback) for each in found] == [
        *(("light", fallback) for fallback in (*fallbacks, "the task's own")),
        *(("shade", fallback) for fallback in (*fallbacks, "the task's own")),
        *(("together", fallback) for fallback in fallbacks),
    ]
    for each in found:  # of one label alone nothing can be wrong
        assert each.accuracy == 1 if each.task == "shade" else 0 <= each.accuracy <= 1
