"""To add a distillation method is one value of the catalogue and one of its file: distilling and the card follow."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.model import distill_methods
from forge.model.adapters import Adapter
from forge.model.base import BaseModel
from forge.model.distill_methods import default_settings, method_of, used_settings
from forge.model.distill_methods.method import DistillMethod, Open
from forge.model.distill_settings import DistillSettings
from forge.model.distillation import Progress, as_images, distil
from forge.model.pixel_steps import Advance
from forge.model.scoring import TaskImages
from forge.operations.distill import privacy_statement
from forge.recipe import catalogue

# What a new file in forge/model/distill_methods and a new line of the catalogue would hold: pixels go to the means.
FACTS = catalogue.DistillationMethod(
    "means", "the mean image of each class", augments=False, start="grey", also_released=", the mean images"
)
SETTINGS = DistillSettings(40, 0, "sgd", 0.2, ipc=2, judge_steps=2, method="means")


class ToTheMeans:
    def __init__(self, real: TaskImages, settings: DistillSettings) -> None:
        means = torch.stack([real.pixels[real.targets == c].mean(0) for c in range(len(real.labels))])
        self.goal = means.repeat_interleave(settings.ipc, 0)

    def redraw(self, generator: torch.Generator) -> None:
        pass

    def gradient(self, pixels: Tensor, generator: torch.Generator) -> tuple[float, Tensor]:
        away = pixels.detach() - self.goal
        return float(away.square().mean()), away

    def follow(self, pixels: Tensor) -> None:
        pass


def prepare(
    base: BaseModel,
    real: TaskImages,
    settings: DistillSettings,
    adapter: Adapter | None,
    advance: Advance,
) -> Open:
    return lambda: nullcontext(ToTheMeans(real, settings))


MEANS = DistillMethod(
    defaults={"small": SETTINGS, "paper": replace(SETTINGS, steps=400)},
    uses=("real_batch",),
    prepare=prepare,
    start=lambda base, real, count, seed: torch.zeros(count, 3, *base.image_size),
)


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a distillation method that was added."""
    monkeypatch.setitem(catalogue.DISTILLATION_METHODS, "means", FACTS)
    monkeypatch.setitem(distill_methods.METHODS, "means", MEANS)
    return "means"


def test_it_distils(means: str, base: BaseModel, bright_or_dark: Callable[..., TaskImages], untouched: None) -> None:
    real, validation = bright_or_dark(12), bright_or_dark(6, 1)
    told: list[tuple[int, str]] = []
    saved: list[Progress] = []
    settings = default_settings("small", means)
    distilled = distil(
        base, real, validation, settings, save=saved.append, advance=lambda steps, note: told.append((steps, note))
    )
    expected = torch.stack([real.pixels[real.targets == c].mean(0) for c in (0, 0, 1, 1)])
    assert (as_images(base, distilled, real).pixels - expected).abs().max() < 0.05  # a byte a pixel
    assert distilled.score is not None
    assert sum(steps for steps, _ in told) == settings.steps
    assert told[-1] == (0, "judging")
    assert saved[-1].step == settings.steps


def test_its_settings_are_recorded_and_the_card_says_what_it_releases(means: str) -> None:
    used = used_settings(default_settings("paper", means))
    assert (used["method"], used["steps"], used["real_batch"]) == ("means", 400, 0)
    assert "points" not in used
    assert not default_settings("small", means).needs_adapter
    privacy = privacy_statement(means, {"start": "an older one", "reviewed": "by the ethics board"})
    assert privacy["start"] == "grey"
    assert privacy["released"].endswith("in this card, the mean images")
    assert privacy["reviewed"] == "by the ethics board"


@pytest.mark.parametrize("known", ["nowhere", "in the catalogue alone"])
def test_a_method_that_nothing_does_is_refused_by_everything(
    monkeypatch: pytest.MonkeyPatch, known: str, base: BaseModel, bright_or_dark: Callable[..., TaskImages]
) -> None:
    if known == "in the catalogue alone":
        monkeypatch.setitem(catalogue.DISTILLATION_METHODS, "means", FACTS)
    task = bright_or_dark(8)
    calls: list[Callable[[], object]] = [
        lambda: method_of(SETTINGS),
        lambda: used_settings(SETTINGS),
        lambda: default_settings("small", "means"),
        lambda: distil(base, task, task, SETTINGS),
    ]
    if known == "nowhere":
        calls += [
            lambda: SETTINGS.needs_adapter,
            lambda: SETTINGS.augments,
            lambda: privacy_statement("means", {}),
        ]
    for call in calls:
        with pytest.raises(ForgeError, match="unknown distillation method 'means'") as caught:
            call()
        assert "teacher-points" in (caught.value.hint or "")


def test_every_method_of_the_catalogue_is_there() -> None:
    assert distill_methods.METHODS.keys() == catalogue.DISTILLATION_METHODS.keys()
