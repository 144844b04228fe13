"""The residual adapter of a consolidation: where it starts, that it helps, and that it leaves no trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from composed import merged_delta
from torch import Tensor

from forge.errors import ForgeError
from forge.model import consolidating
from forge.model.adapters import Adapter, plain_delta, read_adapter
from forge.model.augmentation import IDENTITY, augment, draw
from forge.model.base import BaseModel
from forge.model.composing import folded, summed
from forge.model.consolidating import consolidate
from forge.model.merging import Member
from forge.model.scoring import TaskImages, outputs

LUNG = ("benign lung tissues", "lung adenocarcinomas", "lung squamous cell carcinomas")
COLON = ("negative colon tumor", "positive colon tumor")

pytestmark = pytest.mark.usefixtures("untouched")


@pytest.fixture
def members(make_adapter: Callable[..., Path], read: Callable[[Path], Adapter]) -> list[Member]:
    found = []
    for seed, (name, labels) in enumerate([("colon", COLON), ("lung", LUNG)]):
        pixels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        images = TaskImages(name, labels, pixels, torch.arange(6) % len(labels))
        found.append(Member(name, read(make_adapter(seed, alpha=60)), 1.0, "ours", images))
    return found


@pytest.fixture
def merged(members: list[Member]) -> dict[str, Tensor]:
    return merged_delta("mixture", [(member.adapter, 0.4) for member in members])


@pytest.fixture(autouse=True)
def judged_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consolidating, "UNSEEN_DRAWS", 0)


def divergence(base: BaseModel, delta: dict[str, Tensor], members: list[Member]) -> float:
    """The mean over contributions of KL(half label, half own || delta's), by a loop over images and labels."""
    total = 0.0
    for member in members:
        images = member.images
        own = outputs(base, plain_delta(member.adapter), images.pixels, images.labels).softmax(-1).tolist()
        given = outputs(base, delta, images.pixels, images.labels).softmax(-1).tolist()
        for said, found, target in zip(own, given, images.targets.tolist(), strict=True):
            wanted = [0.5 * p + 0.5 * (label == target) for label, p in enumerate(said)]
            kl = sum(p * math.log(p / q) for p, q in zip(wanted, found, strict=True))
            total += kl / len(own) / len(members)
    return total


def read_residual(base: BaseModel, found: consolidating.Consolidated) -> Adapter:
    return read_adapter(found.config, found.tensors, base.tower, source="consolidation")


def test_no_steps_are_the_merged_model(base: BaseModel, members: list[Member], merged: dict[str, Tensor]) -> None:
    found = consolidate(base, merged, members, steps=0)
    residual = plain_delta(read_residual(base, found))
    assert len(residual) == 5
    assert all(not bool(change.any()) for change in residual.values())
    assert found.objective_before == found.objective_after
    assert found.objective_before == pytest.approx(divergence(base, merged, members), rel=1e-3, abs=1e-5)


def test_the_model_comes_nearer_to_its_contributions(
    base: BaseModel, members: list[Member], merged: dict[str, Tensor]
) -> None:
    told: list[int] = []
    found = consolidate(base, merged, members, steps=15, learning_rate=2e-3, rank=4, advance=lambda: told.append(1))
    assert len(told) == 15
    adapter = read_residual(base, found)
    assert {module.rank for module in adapter.values()} == {4}
    together = summed(merged, plain_delta(adapter))
    assert found.objective_after == pytest.approx(divergence(base, together, members), rel=1e-2, abs=1e-4)
    assert found.objective_after < 0.95 * found.objective_before


def test_the_same_seed_gives_the_same_tensors(
    base: BaseModel, members: list[Member], merged: dict[str, Tensor]
) -> None:
    state = torch.get_rng_state()
    first, second, other = (consolidate(base, merged, members, steps=2, seed=seed) for seed in (3, 3, 4))
    assert list(first.tensors) == list(second.tensors)
    assert all(torch.equal(value, second.tensors[name]) for name, value in first.tensors.items())
    assert first.objective_after == second.objective_after
    assert any(not torch.equal(value, other.tensors[name]) for name, value in first.tensors.items())
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are left alone


@pytest.mark.parametrize("rate", [1e3, math.inf])
def test_an_end_that_is_worse_is_not_kept(
    base: BaseModel, members: list[Member], merged: dict[str, Tensor], rate: float
) -> None:
    found = consolidate(base, merged, members, steps=2, learning_rate=rate)
    assert found.objective_after == found.objective_before
    assert all(not bool(change.any()) for change in plain_delta(read_residual(base, found)).values())


def test_answers_are_for_the_augmented_images(base: BaseModel, members: list[Member]) -> None:
    member = members[1]
    lessons = consolidating._lessons(base, member, [member.adapter], 8, torch.Generator().manual_seed(0))
    assert len({lesson.augmentation for lesson in lessons}) == 8
    for lesson in lessons:
        assert sorted(lesson.index.tolist()) == list(range(6))
        seen = augment(member.images.pixels[lesson.index], lesson.augmentation)
        with folded(base.tower, plain_delta(member.adapter)):
            said = outputs(base, {}, seen, member.images.labels).softmax(-1)
        labels = torch.eye(len(member.images.labels))[member.images.targets[lesson.index]]
        torch.testing.assert_close(lesson.answers, 0.5 * labels + 0.5 * said)


def test_a_step_takes_what_one_forward_pass_takes(
    base: BaseModel, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consolidating, "batch_size", lambda pixels: 4)
    lessons = consolidating._lessons(base, members[0], [members[0].adapter], 6, torch.Generator().manual_seed(0))
    assert {len(set(lesson.index.tolist())) for lesson in lessons} == {4}
    assert {image for lesson in lessons for image in lesson.index.tolist()} == set(range(6))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_base_is_left_as_it_was_when_interrupted(
    base: BaseModel, members: list[Member], merged: dict[str, Tensor], error: type[BaseException]
) -> None:
    def stop() -> None:
        raise error

    with pytest.raises(error):
        consolidate(base, merged, members, steps=3, advance=stop)


def test_bytes_are_learnt_from_as_what_they_mean(base: BaseModel, members: list[Member]) -> None:
    kept = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    results = []
    for pixels in (kept, base.normalise(kept)):
        images = TaskImages("colon", COLON, pixels, torch.arange(4) % 2)
        results.append(consolidate(base, {}, [replace(members[0], images=images)], steps=2))
    assert results[0].objective_after == pytest.approx(results[1].objective_after)


def test_nothing_to_learn_from_is_an_error(base: BaseModel) -> None:
    with pytest.raises(ForgeError, match="there are none"):
        consolidate(base, {}, [])


def test_a_merged_model_without_a_value_is_an_error(base: BaseModel, members: list[Member]) -> None:
    broken = {"projection": torch.full_like(base.tower.projection.weight, math.nan)}
    with pytest.raises(ForgeError, match="no finite output") as caught:
        consolidate(base, broken, members, steps=1)
    assert "verify" in (caught.value.hint or "")


def test_it_is_judged_under_augmentations_too(
    base: BaseModel, members: list[Member], merged: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consolidating, "UNSEEN_DRAWS", 2)
    found = consolidate(base, merged, members, steps=0, seed=5)
    generator = torch.Generator().manual_seed(6)
    draws = [IDENTITY, draw(generator), draw(generator)]
    assert len(set(draws)) == 3
    expected = 0.0
    for operation in draws:
        seen = [
            replace(member, images=replace(member.images, pixels=augment(member.images.pixels, operation)))
            for member in members
        ]
        expected += divergence(base, merged, seen) / 3
    assert found.objective_before == pytest.approx(expected, rel=1e-3)
