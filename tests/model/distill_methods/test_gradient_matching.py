"""Gradient matching: the distance by loops, the gradients by the chain rule on the tower's own weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from forge.model.augmentation import IDENTITY, Augmentation
from forge.model.base import BaseModel
from forge.model.distill_methods import gradient_matching
from forge.model.distill_methods.gradient_matching import gradient_distance, gradient_matcher
from forge.model.distillation import DistillSettings, distil
from forge.model.pixel_steps import generator_of
from forge.model.scoring import TaskImages

MakeTask = Callable[..., TaskImages]
WANTED = DistillSettings(
    steps=3, real_batch=100, optimizer="adam", pixel_rate=0.1, ipc=2, redraw=2, judge_points=0, method="dc-dsa"
)

pytestmark = pytest.mark.usefixtures("untouched")


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999), shapes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3)
)
def test_the_distance_by_loops(seed: int, shapes: list[tuple[int, int]]) -> None:
    random = np.random.default_rng(seed)
    real, synthetic = ([random.normal(size=shape) for shape in shapes] for _ in range(2))
    total = 0.0
    for wanted, found in zip(real, synthetic, strict=True):
        for row, other in zip(wanted, found, strict=True):
            product = sum(a * b for a, b in zip(row, other, strict=True))
            total += 1 - product / (np.sqrt(sum(a * a for a in row)) * np.sqrt(sum(b * b for b in other)))
    found = gradient_distance(*([torch.from_numpy(each) for each in side] for side in (real, synthetic)))
    # What keeps rows without a gradient from dividing by zero shows where two rows are short.
    assert float(found) == pytest.approx(total, abs=1e-6)


def test_rows_without_a_gradient_count_as_unlike() -> None:
    assert float(gradient_distance([torch.zeros(2, 3)], [torch.ones(2, 3)])) == 2
    same = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert float(gradient_distance([same], [3 * same])) == pytest.approx(0, abs=1e-5)
    assert float(gradient_distance([same], [-same])) == pytest.approx(8, abs=1e-4)


def gradients_by_hand(
    base: BaseModel, layers: dict[str, Any], images: torch.Tensor, label: int, task: TaskImages
) -> Any:
    """dL/dA = s B^T dL/dW and dL/dB = s dL/dW A^T, with W + s B A as a weight of the plain tower."""
    from torch.func import functional_call

    weights = {}
    for name, (a, b, weight) in layers.items():
        weights[f"{name}.weight"] = (weight + b @ a).requires_grad_()
    embedded = functional_call(base.tower, weights, (images,))
    similarity = F.normalize(embedded, dim=-1) @ base.text_embeddings(task.labels).T
    loss = F.cross_entropy(base.logit_scale * similarity, torch.full((len(images),), label))
    found = []
    for (a, b, _), slope in zip(layers.values(), torch.autograd.grad(loss, list(weights.values())), strict=True):
        found += [b.T @ slope, slope @ a.T]
    return found


def test_the_loss_of_a_step_by_hand(base: BaseModel, bright_or_dark: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_matching, "draw", lambda generator: IDENTITY)
    real = bright_or_dark(10)
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with gradient_matcher(base, real, WANTED) as matcher:
        matcher.redraw(generator_of(0, 0))
        loss, _ = matcher.gradient(pixels.clone().requires_grad_(), generator_of(0, 0))
        layers = {}
        for name, layer in matcher.network.model.named_modules():
            if hasattr(layer, "lora_A"):
                a, b = layer.lora_A["default"].weight.detach().clone(), layer.lora_B["default"].weight.detach().clone()
                layers[name.removeprefix("base_model.model.")] = (a, b, layer.base_layer.weight.detach().clone())
    assert len(layers) == 5
    expected = 0.0
    for label in range(2):
        wanted = gradients_by_hand(base, layers, real.pixels[real.targets == label], label, real)
        found = gradients_by_hand(base, layers, pixels[2 * label : 2 * label + 2], label, real)
        for theirs, ours in zip(wanted, found, strict=True):
            expected += float((1 - F.cosine_similarity(theirs, ours, dim=1)).sum())
    assert loss == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("number", range(3))
def test_the_gradient_by_differences(base: BaseModel, bright_or_dark: MakeTask, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    pixels, direction = (torch.randn(4, 3, 32, 32, generator=generator) for _ in range(2))

    with gradient_matcher(base, bright_or_dark(10), WANTED) as matcher:
        matcher.redraw(generator_of(0, number))

        def at(place: torch.Tensor) -> tuple[float, torch.Tensor]:
            return matcher.gradient(place.clone().requires_grad_(), generator_of(7, number))

        _, gradient = at(pixels)
        ahead, behind = at(pixels + 2e-3 * direction)[0], at(pixels - 2e-3 * direction)[0]
    assert (ahead - behind) / 4e-3 == pytest.approx(float((gradient * direction).sum()), rel=0.05, abs=0.3)


def test_real_images_are_no_distance_from_themselves(base: BaseModel, bright_or_dark: MakeTask) -> None:
    real = bright_or_dark(4)
    order = real.targets.argsort(stable=True)
    with gradient_matcher(base, real, WANTED) as matcher:
        matcher.redraw(generator_of(0, 0))
        loss, _ = matcher.gradient(real.pixels[order].clone().requires_grad_(), generator_of(0, 0))
        noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
        further, _ = matcher.gradient(noise, generator_of(0, 0))
    assert abs(loss) < 0.01 * further


def test_every_class_and_every_update_has_an_augmentation_of_its_own(
    base: BaseModel, bright_or_dark: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, Augmentation]] = []
    plain = gradient_matching.augment

    def recorded(images: torch.Tensor, operation: Augmentation) -> torch.Tensor:
        seen.append((len(images), operation))
        return plain(images, operation)

    monkeypatch.setattr(gradient_matching, "augment", recorded)
    task = bright_or_dark(10)
    distil(base, task, task, replace(WANTED, steps=2, adapter_steps=2))
    assert [count for count, _ in seen] == [5, 2, 5, 2, 4, 4, 5, 2, 5, 2]  # no update before the network is drawn anew
    operations = [operation for _, operation in seen]
    assert operations[0] == operations[1] and operations[2] == operations[3]
    assert len({operations[0], operations[2], operations[4], operations[5]}) == 4


def test_updates_lower_the_loss_and_a_draw_forgets_them(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(10)
    pixels = torch.cat([task.pixels[task.targets == label][:2] for label in range(2)])
    with gradient_matcher(base, task, replace(WANTED, adapter_steps=20, adapter_rate=0.02)) as matcher:

        def loss() -> float:
            return float(matcher.network.classification_loss(pixels, matcher.targets, task.labels).detach())

        matcher.redraw(generator_of(0, 0))
        matcher.generator = generator_of(0, 1)
        before = loss()
        matcher.follow(pixels)
        after = loss()
        matcher.redraw(generator_of(0, 0))
        assert after < before
        assert loss() == pytest.approx(before, rel=1e-5)
