"""Algorithm 1 against plain loops, and runs that are cut short against unbroken ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.errors import ForgeError
from forge.model import distillation
from forge.model.adapters import Adapter
from forge.model.augmentation import IDENTITY
from forge.model.base import BaseModel
from forge.model.distill_methods import default_settings, distribution_matching
from forge.model.distill_methods.distribution_matching import class_means, matching_loss
from forge.model.distill_methods.method import start_from_noise
from forge.model.distillation import (
    DistilledImages,
    DistillSettings,
    Progress,
    as_images,
    distil,
    judge,
    quantise,
    restore,
)
from forge.model.pixel_steps import pixel_rate
from forge.model.random_adapters import random_adapter
from forge.model.scoring import Score, TaskImages

MakeTask = Callable[..., TaskImages]
QUICK = DistillSettings(steps=5, real_batch=6, optimizer="adam", pixel_rate=0.1, ipc=2, redraw=2, judge_steps=2)
LITERAL = replace(QUICK, optimizer="sgd", pixel_rate=5.0, redraw=1)
GRADIENTS = replace(QUICK, method="dc-dsa", adapter_steps=2)
POINTS = replace(QUICK, method="teacher-points", redraw=1, points=3, final_rate=0.01, step_images=2)

pytestmark = pytest.mark.usefixtures("untouched")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(2, 4), st.integers(1, 5))
def test_the_loss_by_a_loop(seed: int, classes: int, width: int) -> None:
    random = np.random.default_rng(seed)

    def draw_set(extra: int) -> tuple[np.ndarray, np.ndarray]:
        targets = random.permutation(np.concatenate([np.arange(classes), random.integers(0, classes, extra)]))
        return random.normal(size=(len(targets), width)), targets

    (real, real_targets), (synthetic, synthetic_targets) = draw_set(7), draw_set(3)
    expected = 0.0
    for label in range(classes):
        for feature in range(width):
            of_real = [x[feature] for x, t in zip(real, real_targets, strict=True) if t == label]
            of_synthetic = [x[feature] for x, t in zip(synthetic, synthetic_targets, strict=True) if t == label]
            expected += (sum(of_real) / len(of_real) - sum(of_synthetic) / len(of_synthetic)) ** 2
    means = [
        class_means(torch.from_numpy(x), torch.from_numpy(t), classes)
        for x, t in ((real, real_targets), (synthetic, synthetic_targets))
    ]
    assert float(matching_loss(*means)) == pytest.approx(expected)


def test_noise_to_start_from(base: BaseModel) -> None:
    noise = start_from_noise(base, 40, 3)
    assert noise.shape == (40, 3, 32, 32)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(1, abs=0.01)
    assert torch.equal(noise, start_from_noise(base, 40, 3))
    assert not torch.equal(noise, start_from_noise(base, 40, 4))


@pytest.fixture
def adapter(make_adapter: Callable[..., Path], read: Callable[[Path], Adapter]) -> Adapter:
    return read(make_adapter(3))


def test_the_private_images_enter_by_the_gradient_alone(base: BaseModel, bright_or_dark: MakeTask) -> None:
    still = replace(QUICK, optimizer="sgd", pixel_rate=0.0, steps=3)
    first, second = (distil(base, bright_or_dark(12, seed), bright_or_dark(4), still) for seed in (0, 1))
    expected = quantise(base, start_from_noise(base, 4, still.seed), torch.tensor([0, 0, 1, 1]))
    for found in (first, second):
        assert torch.equal(found.images, expected.images)
        assert found.targets.tolist() == [0, 0, 1, 1]


def layers_of(model: torch.nn.Module) -> list[Any]:
    return [layer for layer in model.modules() if hasattr(layer, "lora_A")]


@pytest.mark.parametrize("strength", [0.05, 0.3])
def test_a_random_adapter_moves_every_layer_and_none_too_far(base: BaseModel, strength: float) -> None:
    shares: list[float] = []
    with random_adapter(base, replace(default_settings("small", "dm-dsa"), strength=strength)) as drawn:
        model, redraw = drawn.model, drawn.redraw
        assert len(layers_of(model)) == 5
        assert all(float(layer.get_delta_weight("default").detach().norm()) == 0 for layer in layers_of(model))
        seen = []
        for seed in range(20):
            redraw(torch.Generator().manual_seed(seed))
            for layer in layers_of(model):
                a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
                delta = b @ a  # alpha = r, so that the scaling is 1
                torch.testing.assert_close(layer.get_delta_weight("default").detach(), delta)
                shares.append(float(delta.norm() / layer.base_layer.weight.norm()))
                assert float(a.norm()) == pytest.approx(float(b.norm()), rel=1e-3)
                seen.append(delta.flatten()[:3])
        again = len(layers_of(model))
        redraw(torch.Generator().manual_seed(0))
        assert torch.equal(layers_of(model)[0].get_delta_weight("default").flatten()[:3], seen[0])
    assert 0 < min(shares) < 0.3 * strength
    assert 0.7 * strength < max(shares) <= strength * (1 + 1e-4)
    assert not torch.equal(seen[0], seen[again])


def test_two_steps_by_hand(
    base: BaseModel, open_clip_model: Any, bright_or_dark: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """theta_LoRA = 0 and no augmentation: SGD with momentum .5 on the distance of open_clip's own embeddings."""
    monkeypatch.setattr(distribution_matching, "draw", lambda generator: IDENTITY)
    real = bright_or_dark(8)
    still = replace(LITERAL, steps=2, real_batch=100, strength=0.0, pixel_rate=3.0)
    saved: list[Progress] = []
    distil(base, real, bright_or_dark(4), still, save=saved.append)

    pixels = start_from_noise(base, 4, still.seed)
    velocity = torch.zeros_like(pixels)
    for _ in range(2):
        leaf = pixels.clone().requires_grad_()
        loss = torch.zeros(())
        for label in range(2):
            wanted = open_clip_model.encode_image(real.pixels[real.targets == label]).mean(0)
            found = open_clip_model.encode_image(leaf[2 * label : 2 * label + 2]).mean(0)
            loss = loss + ((wanted.detach() - found) ** 2).sum()
        (gradient,) = torch.autograd.grad(loss, [leaf])
        velocity = 0.5 * velocity + gradient
        pixels = pixels - 3.0 * velocity
    last = saved[-1]
    assert last.step == 2
    torch.testing.assert_close(last.pixels, pixels, rtol=1e-3, atol=1e-4)
    assert float((pixels - start_from_noise(base, 4, still.seed)).abs().max()) > 0.01


def test_matching_without_augmentation_draws_none(
    base: BaseModel, bright_or_dark: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What "dm" distils is what "dm-dsa" would if every draw were to leave the images alone."""
    real = bright_or_dark(8)
    wanted = replace(QUICK, steps=3, method="dm", real_batch=100, judge_points=0)
    with monkeypatch.context() as patch:
        patch.setattr(distribution_matching, "draw", lambda generator: pytest.fail("an augmentation was drawn"))
        plain = distil(base, real, real, wanted)
    with monkeypatch.context() as patch:
        patch.setattr(distribution_matching, "draw", lambda generator: IDENTITY)
        assert same(distil(base, real, real, replace(wanted, method="dm-dsa")), plain)
    assert not same(distil(base, real, real, replace(wanted, method="dm-dsa")), plain)


def test_a_run_that_is_not_judged(base: BaseModel, bright_or_dark: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    task = bright_or_dark(8)
    judged = distil(base, task, task, QUICK)
    monkeypatch.setattr(distillation, "judge", lambda *_: pytest.fail("judged"))
    found = distil(base, task, task, replace(QUICK, judge_points=0))
    assert found.score is None
    assert same(found, replace(judged, score=None))


def test_an_unknown_method(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(8)
    with pytest.raises(ForgeError, match="unknown distillation method 'dream'") as caught:
        distil(base, task, task, replace(QUICK, method="dream"))
    assert "dc-dsa" in (caught.value.hint or "")


def test_the_adam_rate_follows_a_cosine() -> None:
    rates = [pixel_rate(replace(QUICK, steps=4, pixel_rate=0.2), step) for step in range(4)]
    assert rates == pytest.approx([0.2, 0.1 * (1 + math.sqrt(0.5)), 0.1, 0.1 * (1 - math.sqrt(0.5))])
    assert pixel_rate(LITERAL, 3) == LITERAL.pixel_rate
    falling = [pixel_rate(replace(QUICK, steps=4, pixel_rate=0.3, final_rate=0.1), step) for step in range(4)]
    assert falling == pytest.approx([0.1 + rate for rate in rates])


def test_what_is_distilled_teaches_the_task(base: BaseModel, bright_or_dark: MakeTask) -> None:
    told: list[tuple[int, str]] = []
    wanted = replace(QUICK, steps=20, redraw=5, judge_steps=15)
    found = distil(base, bright_or_dark(24), bright_or_dark(30, 1), wanted, advance=lambda *each: told.append(each))
    assert told[-1] == (0, "judging")
    losses = [float(note.removeprefix("loss ")) for steps, note in told if steps == 1]
    assert len(losses) == 20
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    assert found.score is not None
    assert found.score.accuracy > 0.9
    assert found.images.dtype == torch.uint8
    assert found.images.shape == (4, 3, 32, 32)
    again = judge(base, as_images(base, found, bright_or_dark(4)), bright_or_dark(30, 1), wanted)
    assert again == found.score


def same(first: DistilledImages, second: DistilledImages) -> bool:
    tensors = ("images", "targets", "offset", "scale")
    return first.score == second.score and all(torch.equal(getattr(first, t), getattr(second, t)) for t in tensors)


@pytest.mark.parametrize(
    "wanted",
    [
        QUICK, LITERAL, replace(QUICK, steps=6, judge_points=3, redraw=4), replace(QUICK, steps=3, redraw=10),
        replace(QUICK, method="dm"), GRADIENTS, replace(GRADIENTS, steps=6, judge_points=2, redraw=4),
        POINTS, replace(POINTS, judge_points=2),
    ],
    ids=["adam", "literal", "judged-thrice", "one-draw", "dm", "dc", "dc-twice", "points", "points-twice"],
)  # fmt: skip
def test_a_run_goes_on_from_every_saved_state_to_the_same_bits(
    base: BaseModel, adapter: Adapter, bright_or_dark: MakeTask, wanted: DistillSettings
) -> None:
    real, validation = bright_or_dark(12), bright_or_dark(6, 1)
    saved: list[Progress] = []
    whole = distil(base, real, validation, wanted, adapter=adapter, save=saved.append)
    assert [progress.step for progress in saved] == sorted({progress.step for progress in saved})
    assert saved[-1].step == wanted.steps
    copies = [replace(progress, pixels=progress.pixels.clone()) for progress in saved]
    torch.manual_seed(1234)  # not what the result depends on
    for progress, copy in zip(saved, copies, strict=True):
        assert same(distil(base, real, validation, wanted, adapter=adapter, resume=progress), whole)
        assert torch.equal(progress.pixels, copy.pixels)  # the state handed in is not worked on
    assert not same(distil(base, real, validation, replace(wanted, seed=1), adapter=adapter), whole)


@pytest.mark.parametrize("wanted", [QUICK, GRADIENTS, POINTS], ids=lambda wanted: wanted.method)
def test_the_global_generator_is_left_alone(
    base: BaseModel, adapter: Adapter, bright_or_dark: MakeTask, wanted: DistillSettings
) -> None:
    before = torch.random.get_rng_state()
    distil(base, bright_or_dark(8), bright_or_dark(4), replace(wanted, steps=2), adapter=adapter)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_run_cut_short_anywhere_goes_on_from_its_last_state(
    base: BaseModel, bright_or_dark: MakeTask, stop: int
) -> None:
    real, validation = bright_or_dark(12), bright_or_dark(6, 1)
    whole = distil(base, real, validation, QUICK)
    saved: list[Progress] = []
    notes: list[str] = []

    def advance(steps: int, note: str) -> None:
        notes.append(note)
        if len(notes) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distil(base, real, validation, QUICK, save=saved.append, advance=advance)
    assert bool(saved) == (stop > 2)
    last = saved[-1] if saved else None
    assert same(distil(base, real, validation, QUICK, resume=last), whole)


@pytest.mark.parametrize(("accuracies", "best"), [([0.6, 0.9, 0.7], 1), ([0.5, 0.5, 0.5], 0), ([0.1, 0.2, 0.3], 2)])
def test_the_best_judged_state_is_kept(
    base: BaseModel,
    bright_or_dark: MakeTask,
    monkeypatch: pytest.MonkeyPatch,
    accuracies: list[float],
    best: int,
) -> None:
    judged: list[TaskImages] = []

    def scripted(base: BaseModel, images: TaskImages, *_: Any) -> Score:
        judged.append(images)
        return Score(1.0, accuracies[len(judged) - 1])

    monkeypatch.setattr(distillation, "judge", scripted)
    task = bright_or_dark(8)
    found = distil(base, task, task, replace(QUICK, steps=6, judge_points=3))
    assert len(judged) == 3
    assert found.score == Score(1.0, accuracies[best])
    assert torch.equal(as_images(base, found, task).pixels, judged[best].pixels)


def test_the_literal_algorithm_leaves_the_adapter_alone_between_draws(
    base: BaseModel, bright_or_dark: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn anew at every step, an update of theta_LoRA would never be seen; with redraw > 1 it is made."""
    calls: list[int] = []
    step = torch.optim.SGD.step

    def counted(self: Any, *arguments: Any) -> Any:
        calls.append(len(self.param_groups[0]["params"]))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", counted)
    task = bright_or_dark(8)
    distil(base, task, task, replace(LITERAL, steps=2, judge_steps=1))
    assert calls == [1, 1]  # the pixels, twice
    calls.clear()
    distil(base, task, task, replace(LITERAL, steps=2, judge_steps=1, redraw=2))
    assert calls == [1, 10, 1]  # the pixels and five pairs of A and B in turn; what would be drawn anew is left


def test_bytes_cost_half_a_step_at_most(base: BaseModel) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(6, 3, 8, 8, generator=generator) * torch.tensor([1.0, 20.0, 1e-3]).view(1, 3, 1, 1)
    stored = quantise(base, pixels, torch.arange(6))
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (base.mean, base.std))
    plain = pixels.double() * std + mean
    error = (restore(stored.images, stored.offset, stored.scale) - plain).abs().amax((0, 2, 3))
    span = plain.amax((0, 2, 3)) - plain.amin((0, 2, 3))
    assert (error <= span / 255 / 2 * (1 + 1e-3) + 1e-6).all()
    assert stored.images.amin((0, 2, 3)).tolist() == [0, 0, 0]
    assert stored.images.amax((0, 2, 3)).tolist() == [255, 255, 255]
    assert (stored.offset.dtype, stored.scale.dtype) == (torch.float32, torch.float32)
    task = TaskImages("t", ("a", "b"), torch.empty(0), torch.empty(0))
    half_step = (stored.scale / 2).view(1, 3, 1, 1) / std
    assert ((as_images(base, stored, task).pixels - pixels).abs() <= half_step * (1 + 1e-3) + 1e-5).all()


def test_one_colour_is_stored_too(base: BaseModel) -> None:
    stored = quantise(base, torch.full((2, 3, 4, 4), 0.25), torch.tensor([0, 1]))
    expected = 0.25 * torch.tensor(base.std) + torch.tensor(base.mean)
    torch.testing.assert_close(restore(stored.images, stored.offset, stored.scale)[0, :, 0, 0], expected)
    assert (stored.scale > 0).all()


def test_a_class_without_images(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(8)
    with pytest.raises(ForgeError, match="every class needs at least one real image"):
        distil(base, replace(task, labels=(*task.labels, "a third")), task, QUICK)


def test_a_distillation_that_diverges(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(8)
    with pytest.raises(ForgeError, match="diverged at step 2") as caught:
        distil(base, task, task, replace(LITERAL, pixel_rate=math.inf))
    assert "--pixel-rate" in (caught.value.hint or "")


def test_images_kept_as_bytes_distil_the_same(base: BaseModel) -> None:
    kept = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    of_bytes = TaskImages("t", ("a dark image", "a bright image"), kept, torch.arange(8) % 2)
    of_floats = replace(of_bytes, pixels=base.normalise(kept))
    assert same(distil(base, of_bytes, of_bytes, QUICK), distil(base, of_floats, of_floats, QUICK))
