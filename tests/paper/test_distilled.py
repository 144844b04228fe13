"""Distilled sets of an experiment: those that distil makes, kept under all that they depend on and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from examples.paper import distilled as module
from examples.paper.distilled import as_task, distilled_only, participant_distilled
from examples.paper.scenarios import Participant, Scenario
from forge.model.adapters import Adapter, LowRank, plain_delta
from forge.model.base import BaseModel
from forge.model.distillation import DistillSettings, distil, judge
from forge.model.scoring import TaskImages, score_tasks

QUICK = DistillSettings(
    steps=2, real_batch=4, optimizer="adam", pixel_rate=0.1, ipc=2, judge_steps=2, points=1, method="teacher-points"
)

pytestmark = pytest.mark.usefixtures("untouched")


@pytest.fixture
def participant(small_scenario: Scenario) -> Participant:
    return small_scenario.participants[1]


@pytest.fixture
def adapter(base: BaseModel) -> Adapter:
    random = torch.Generator().manual_seed(0)
    factors = (torch.randn(2, 64, generator=random) * 0.1, torch.randn(32, 2, generator=random) * 0.1)
    return {"projection": LowRank(*factors, 1.0)}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the slow functions that were called, in order."""
    seen: list[str] = []

    def counted(name: str) -> None:
        plain: Callable[..., object] = getattr(module, name)

        def call(*arguments: object, **named: object) -> object:
            seen.append(name)
            return plain(*arguments, **named)

        monkeypatch.setattr(module, name, call)

    counted("distil_images")
    counted("fit_on_distilled")
    return seen


def test_what_distil_makes_is_kept(
    tmp_path: Path, base: BaseModel, participant: Participant, adapter: Adapter, calls: list[str]
) -> None:
    found = [participant_distilled(tmp_path, base, participant, adapter, QUICK) for _ in range(2)]
    assert calls == ["distil_images"]
    wanted = replace(QUICK, seed=participant.seed, judge_points=0)
    expected = distil(base, participant.train, participant.validation, wanted, adapter=adapter)
    for each in found:
        assert each.score is None
        for name in ("images", "targets", "offset", "scale"):
            assert torch.equal(getattr(each, name), getattr(expected, name))


@pytest.mark.parametrize(("method", "again"), [("teacher-points", True), ("dm", False)])
def test_the_key_holds_what_the_method_looks_at(
    tmp_path: Path,
    base: BaseModel,
    participant: Participant,
    adapter: Adapter,
    calls: list[str],
    method: str,
    again: bool,
) -> None:
    wanted = replace(QUICK, method=method)
    participant_distilled(tmp_path, base, participant, adapter, wanted)
    other = {name: replace(factors, scaling=2.0) for name, factors in adapter.items()}
    participant_distilled(tmp_path, base, participant, other, wanted)
    participant_distilled(tmp_path, base, participant, adapter, replace(wanted, reach=0.5))
    assert len(calls) == (3 if again else 1)
    calls.clear()
    fewer = replace(participant, train=_without_first(participant.train))
    for changed, settings in ((fewer, wanted), (participant, replace(wanted, steps=1))):
        participant_distilled(tmp_path, base, changed, adapter, settings)
    assert calls == ["distil_images"] * 2


def _without_first(images: TaskImages) -> TaskImages:
    return replace(images, pixels=images.pixels[1:], targets=images.targets[1:])


def test_a_fresh_adapter_is_what_judges_it(
    tmp_path: Path, base: BaseModel, participant: Participant, adapter: Adapter, calls: list[str]
) -> None:
    made = participant_distilled(tmp_path, base, participant, adapter, QUICK)
    images = as_task(base, made, participant.train)
    assert (images.task, images.labels) == (participant.train.task, participant.train.labels)
    first, kept = (distilled_only(tmp_path, base, participant, made, steps=3) for _ in range(2))
    assert calls == ["distil_images", "fit_on_distilled"]
    expected = judge(base, images, participant.validation, replace(QUICK, seed=participant.seed, judge_steps=3))
    for found in (first, kept):
        assert score_tasks(base, plain_delta(found), [participant.validation]) == [expected]
    distilled_only(tmp_path, base, participant, made, steps=2)
    assert calls[-1] == "fit_on_distilled" and len(calls) == 3
