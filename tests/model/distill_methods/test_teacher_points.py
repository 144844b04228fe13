"""Whitened statistics and their distance against plain loops, features against open_clip's own layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.errors import ForgeError
from forge.model.adapters import Adapter, adapter_digest, plain_delta
from forge.model.base import BaseModel
from forge.model.composing import folded
from forge.model.distill_methods import teacher_points
from forge.model.distill_methods.teacher_points import (
    Statistics,
    TeacherPoints,
    blocks_at,
    channel_noise,
    draw_point,
    feature_extractor,
    statistics_loss,
    whitened_statistics,
)
from forge.model.distill_settings import DistillSettings
from forge.model.distillation import Progress, distil
from forge.model.pixel_steps import generator_of, unwatched
from forge.model.scoring import TaskImages

MakeTask = Callable[..., TaskImages]
POINTS = DistillSettings(
    steps=4, real_batch=0, optimizer="adam", pixel_rate=0.05, final_rate=0.005, ipc=2, strength=0.05,
    judge_points=0, method="teacher-points", points=3,
)  # fmt: skip

LABELS = ("a dark image", "a bright image", "a third")

pytestmark = pytest.mark.usefixtures("untouched")


@pytest.fixture
def adapter(make_adapter: Callable[..., Path], read: Callable[[Path], Adapter]) -> Adapter:
    return read(make_adapter(3))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999), classes=st.integers(1, 3), width=st.integers(1, 4), shrinkage=st.sampled_from([0.2, 0.7])
)
def test_whitened_statistics_by_loops(seed: int, classes: int, width: int, shrinkage: float) -> None:
    random = np.random.default_rng(seed)
    targets = random.permutation(np.concatenate([np.arange(classes), random.integers(0, classes, 12)]))
    features = random.normal(size=(len(targets), width)) * random.uniform(0.5, 3, width) + targets[:, None]
    found = whitened_statistics(torch.from_numpy(features), torch.from_numpy(targets), classes, shrinkage)

    means = [[features[targets == c][:, i].sum() / (targets == c).sum() for i in range(width)] for c in range(classes)]
    covariance = np.zeros((width, width))
    for feature, target in zip(features, targets, strict=True):
        for i in range(width):
            for j in range(width):
                covariance[i, j] += (feature[i] - means[target][i]) * (feature[j] - means[target][j]) / len(features)
    average = sum(covariance[i, i] for i in range(width)) / width
    shrunk = [
        [(1 - shrinkage) * covariance[i, j] + (shrinkage * average if i == j else 0) for j in range(width)]
        for i in range(width)
    ]
    # The only symmetric positive matrix W with W C W = 1 is C^-1/2.
    whitening = found.whitening.double().numpy()
    np.testing.assert_allclose(whitening, whitening.T, atol=1e-5)
    assert np.linalg.eigvalsh(whitening).min() > 0
    np.testing.assert_allclose(whitening @ np.array(shrunk) @ whitening, np.eye(width), atol=1e-4)
    np.testing.assert_allclose(found.means.numpy(), np.array(means) @ whitening, rtol=1e-4, atol=1e-4)
    for c in range(classes):
        squares = [((x - means[c]) @ whitening) ** 2 for x, t in zip(features, targets, strict=True) if t == c]
        np.testing.assert_allclose(found.seconds[c].numpy(), sum(squares) / len(squares), rtol=1e-4, atol=1e-4)


def test_a_feature_that_never_varies_is_finite() -> None:
    found = whitened_statistics(torch.ones(6, 3), torch.arange(6) % 2, 2, 0.2)
    assert all(bool(torch.isfinite(part).all()) for part in (found.whitening, found.means, found.seconds))


@settings(max_examples=25)
@given(seed=st.integers(0, 999), ipc=st.integers(1, 4), weight=st.sampled_from([0.0, 0.3, 2.0]))
def test_the_loss_by_loops(seed: int, ipc: int, weight: float) -> None:
    random = np.random.default_rng(seed)
    widths, classes = (2, 3), 4
    chosen = sorted(random.choice(classes, size=int(random.integers(1, classes + 1)), replace=False).tolist())
    features = [random.normal(size=(len(chosen) * ipc, width)) for width in widths]
    real = [[random.normal(size=size) for size in ((w, w), (classes, w), (classes, w))] for w in widths]
    total = 0.0
    for feature, (whitening, means, seconds) in zip(features, real, strict=True):
        for place, c in enumerate(chosen):
            images = [feature[place * ipc + i] @ whitening - means[c] for i in range(ipc)]
            of_class = 0.0
            for k in range(len(means[c])):
                first = sum(image[k] for image in images) / ipc
                second = sum(image[k] ** 2 for image in images) / ipc - seconds[c][k]
                of_class += (first**2 + weight * second**2) / len(means[c])
            total += of_class / len(features) / len(chosen)
    found = statistics_loss(
        [torch.from_numpy(feature) for feature in features],
        [Statistics(*(torch.from_numpy(part) for part in parts)) for parts in real],
        chosen,
        weight,
    )
    assert float(found) == pytest.approx(total)


@pytest.mark.parametrize(
    ("depths", "count", "expected"),
    [
        ((0.5, 0.75, 1.0), 4, [1, 2, 3]),
        ((0.75, 1.0), 4, [2, 3]),
        ((0.5, 0.75, 1.0), 12, [5, 8, 11]),
        ((0.5, 0.75, 1.0), 24, [11, 17, 23]),
        ((0.5, 0.75, 1.0), 2, [0, 1]),
        ((0.5, 0.75, 1.0), 1, [0]),
        ((0.0, 2.0), 3, [0, 2]),
    ],
)
def test_blocks_follow_the_depth(depths: tuple[float, ...], count: int, expected: list[int]) -> None:
    assert blocks_at(depths, count) == expected


def test_features_are_those_of_open_clips_layers(base: BaseModel, open_clip_model: Any, images: torch.Tensor) -> None:
    visual = open_clip_model.visual
    with torch.no_grad():
        tokens = visual._embeds(images)
        expected = []
        for block in visual.transformer.resblocks:
            tokens = block(tokens)
            patches = tokens[:, 1:].numpy()
            expected += [patches.mean(1), patches.std(1, ddof=1)]
        first = expected[:2]
        expected = [*first, *expected[2:], tokens[:, 0].numpy()]
        pooled = visual.ln_post(tokens)[:, 0]
        final = open_clip_model.encode_image(images, normalize=True)
        tokens_of_labels = open_clip.get_tokenizer("RN50", context_length=16)(list(LABELS))
        texts = open_clip_model.encode_text(tokens_of_labels, normalize=True)
        logits = open_clip_model.logit_scale.exp() * final @ texts.T
        expected += [pooled.numpy(), final.numpy(), logits.numpy()]
        with feature_extractor(base, (0.5, 1.0), (1.0,), LABELS) as extract:
            found = extract(images)
    assert len(found) == len(expected) == 8
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)
    assert not any(block._forward_hooks for block in base.tower.trunk.transformer.resblocks)


def test_noise_with_the_colours_of_the_real_images(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = torch.randint(0, 200, (11, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    kept[:, 1] //= 4
    real = TaskImages("t", ("a", "b"), kept, torch.arange(11) % 2)
    monkeypatch.setattr(teacher_points, "batch_size", lambda pixels: 4)
    noise = channel_noise(base, real, 60, 5)
    assert noise.shape == (60, 3, 32, 32)
    for channel in range(3):
        values = (kept[:, channel].double() / 255 - base.mean[channel]) / base.std[channel]
        assert float(noise[:, channel].mean()) == pytest.approx(float(values.mean()), abs=0.02)
        assert float(noise[:, channel].std()) == pytest.approx(float(values.std()), rel=0.02)
    assert torch.equal(noise, channel_noise(base, real, 60, 5))
    assert not torch.equal(noise, channel_noise(base, real, 60, 6))


def test_points_lie_on_the_way_to_the_adapter(base: BaseModel, adapter: Adapter) -> None:
    teacher = plain_delta(adapter)
    wanted = replace(POINTS, points=10, reach=1.1)
    points = [draw_point(base, teacher, wanted, number) for number in range(10)]
    assert [point.share for point in points] == pytest.approx([1.1 * (k + 0.5) / 10 for k in range(10)])
    modules = dict(base.tower.named_modules())
    shares = []
    for point in points:
        assert set(point.noise) == set(teacher)
        for name, (b, a) in point.noise.items():
            weight: Any = modules[name].weight
            assert a.shape == (16, weight.shape[1])
            shares.append(float((b @ a).norm() / weight.norm()))
    assert 0 < min(shares) < 0.01
    assert 0.04 < max(shares) <= 0.05 * (1 + 1e-4)
    assert len({point.operation for point in points}) == 10
    again = draw_point(base, teacher, wanted, 3)
    assert again.operation == points[3].operation
    assert draw_point(base, teacher, replace(wanted, seed=1), 3).operation != points[3].operation


def test_statistics_are_of_all_real_images_at_the_point(
    base: BaseModel, adapter: Adapter, bright_or_dark: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bright_or_dark(10)
    monkeypatch.setattr(teacher_points, "batch_size", lambda pixels: 3)
    told: list[tuple[int, str]] = []
    points = TeacherPoints(base, adapter, real, POINTS, lambda *each: told.append(each))
    assert not any(steps for steps, _ in told)
    assert [note for _, note in told] == ["statistics 1 of 3", "statistics 2 of 3", "statistics 3 of 3"]
    point = points.points[2]
    delta = {
        name: point.share * module.scaling * module.b @ module.a + point.noise[name][0] @ point.noise[name][1]
        for name, module in adapter.items()
    }
    with torch.no_grad(), folded(base.tower, delta):
        embedded = torch.nn.functional.normalize(
            base.tower(teacher_points.augment(real.pixels, point.operation)), dim=1
        )
    expected = whitened_statistics(embedded, real.targets, 2, POINTS.shrinkage)
    found = points.statistics[2][-2]
    torch.testing.assert_close(found.means, expected.means, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.seconds, expected.seconds, rtol=1e-3, atol=1e-3)


def test_of_many_images_each_point_looks_at_some(base: BaseModel, adapter: Adapter, bright_or_dark: MakeTask) -> None:
    """As many of every class as real_batch says, other ones at other points, the same ones for a seed."""
    real = bright_or_dark(30)
    drawn = [
        TeacherPoints(base, adapter, real, replace(POINTS, real_batch=5, seed=seed), unwatched) for seed in (0, 0, 1)
    ]
    parts = [[points._drawn(real, number) for number in range(3)] for points in drawn]
    for part in (each for of_seed in parts for each in of_seed):
        assert part.targets.bincount().tolist() == [5, 5]
        for image, target in zip(part.pixels, part.targets, strict=True):
            assert any(torch.equal(image, other) for other in real.pixels[real.targets == target])
    same = [[torch.equal(a.pixels, b.pixels) for a in parts[0]] for b in parts[0]]
    assert same == torch.eye(3, dtype=torch.bool).tolist()
    assert [torch.equal(a.pixels, b.pixels) for a, b in zip(parts[0], parts[1], strict=True)] == [True] * 3
    assert [torch.equal(a.pixels, b.pixels) for a, b in zip(parts[0], parts[2], strict=True)] == [False] * 3
    assert drawn[0]._drawn(bright_or_dark(8), 0).pixels.shape[0] == 8  # few are looked at whole


@pytest.mark.parametrize("number", range(4))
def test_the_gradient_by_differences(base: BaseModel, adapter: Adapter, bright_or_dark: MakeTask, number: int) -> None:
    points = TeacherPoints(base, adapter, bright_or_dark(10), POINTS, unwatched)
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randn(4, 3, 32, 32, generator=generator).requires_grad_()
    direction = torch.randn(4, 3, 32, 32, generator=generator)
    loss, gradient = points.gradient(pixels, generator_of(0, number))
    around = [
        points.gradient((pixels + sign * 5e-3 * direction).detach().requires_grad_(), generator_of(0, number))[0]
        for sign in (1, -1)
    ]
    assert loss > 0
    assert (around[0] - around[1]) / 1e-2 == pytest.approx(float((gradient * direction).sum()), rel=0.03, abs=0.02)


def test_a_step_moves_every_class_however_few_go_through_at_once(
    base: BaseModel, adapter: Adapter, bright_or_dark: MakeTask
) -> None:
    real = replace(bright_or_dark(12), labels=("dark", "bright", "other"), targets=torch.arange(12) % 3)
    pixels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses, gradients = [], []
    for images in (60, 5, 1):  # all classes, two, one
        points = TeacherPoints(base, adapter, real, replace(POINTS, step_images=images), unwatched)
        loss, gradient = points.gradient(pixels, generator_of(0, 0))
        losses.append(loss)
        gradients.append(gradient)
    assert bool((gradients[0].view(6, -1).abs().sum(1) > 0).all())
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-4)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-3, atol=1e-6)


def test_a_run_starts_from_the_colours_and_comes_closer(
    base: BaseModel, adapter: Adapter, bright_or_dark: MakeTask
) -> None:
    real, told, saved = bright_or_dark(24), list[tuple[int, str]](), list[Progress]()

    def advance(steps: int, note: str) -> None:
        told.append((steps, note))

    wanted = replace(POINTS, steps=30, points=2)
    distil(base, real, real, wanted, adapter=adapter, save=saved.append, advance=advance)
    losses = [float(note.removeprefix("loss ")) for steps, note in told if steps == 1]
    assert len(losses) == 30
    assert sum(losses[-6:]) < 0.7 * sum(losses[:6])
    start = channel_noise(base, real, 4, 0)
    # Adam's first step is its rate, whatever the gradient's size.
    assert float((saved[0].pixels - start).abs().max()) == pytest.approx(0.05, rel=1e-3)


def test_the_adapter_is_needed(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(8)
    with pytest.raises(ForgeError, match="needs the contribution's adapter") as caught:
        distil(base, task, task, POINTS)
    assert "git forge train" in (caught.value.hint or "")


def test_another_adapter_makes_other_images(
    base: BaseModel, adapter: Adapter, bright_or_dark: MakeTask, make_adapter: Any, read: Any
) -> None:
    other, task = read(make_adapter(4)), bright_or_dark(8)
    found = [distil(base, task, task, POINTS, adapter=each) for each in (adapter, other)]
    assert not torch.equal(found[0].images, found[1].images)
    assert adapter_digest(adapter) == adapter_digest(dict(reversed(adapter.items())))
    assert adapter_digest(adapter) != adapter_digest(other)
    name, module = next(iter(adapter.items()))
    assert adapter_digest({**adapter, name: replace(module, scaling=9.0)}) != adapter_digest(adapter)
