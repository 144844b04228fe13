"""Scores against plain loops, values by hand and scikit-learn's definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.model import scoring
from forge.model.adapters import Adapter
from forge.model.base import BaseModel
from forge.model.scoring import (
    TaskImages,
    area_under_curve,
    batch_size,
    evaluate,
    logits,
    probabilities,
    score,
    score_tasks,
)
from forge.model.strategies import compose

LABELS = ("benign lung tissues", "lung adenocarcinomas", "lung squamous cell carcinomas")


@pytest.fixture
def task(images: torch.Tensor) -> TaskImages:
    return TaskImages("lung", LABELS, images, torch.arange(len(images)) % 3)


def by_open_clip(model: Any, folder: Any, pixels: torch.Tensor) -> np.ndarray:
    """Logits as CLIP defines them, one image and one label at a time, in double precision."""
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.no_grad():
        seen = model.encode_image(pixels).double().numpy()
        read = model.encode_text(tokenizer(list(LABELS))).double().numpy()
        scale = float(model.logit_scale.exp())
    return np.array([[scale * (x @ t) / math.sqrt((x @ x) * (t @ t)) for t in read] for x in seen])


def test_logits_are_clips(base: BaseModel, open_clip_model: Any, base_folder: Any, images: torch.Tensor) -> None:
    found = logits(base, images, LABELS)
    np.testing.assert_allclose(found, by_open_clip(open_clip_model, base_folder, images), rtol=1e-4, atol=1e-4)
    assert not found.requires_grad


def test_cross_entropy_and_accuracy_by_a_loop(
    base: BaseModel, open_clip_model: Any, base_folder: Any, task: TaskImages
) -> None:
    rows = by_open_clip(open_clip_model, base_folder, task.pixels)
    loss, right = 0.0, 0
    for row, target in zip(rows, task.targets.tolist(), strict=True):
        loss -= row[target] - math.log(sum(math.exp(value) for value in row))
        right += int(max(range(3), key=lambda label: row[label]) == target)
    found = score(base, task)
    assert found.cross_entropy == pytest.approx(loss / len(rows), rel=1e-4)
    assert found.accuracy == pytest.approx(right / len(rows))
    metrics = evaluate(base, {}, task)
    assert metrics.images == 10
    assert metrics.accuracy == pytest.approx(right / len(rows))
    assert metrics.cross_entropy == pytest.approx(loss / len(rows), rel=1e-4)
    expected = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(base, {}, task.pixels, LABELS), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("untouched")
def test_the_change_is_folded_in_for_the_score_only(
    base: BaseModel, task: TaskImages, make_adapter: Callable[..., Any], read: Callable[[Any], Adapter]
) -> None:
    plain = score(base, task)
    delta = compose("mixture", [(read(make_adapter(1)), 1.0)])
    other = TaskImages("lung, half", LABELS, task.pixels[:4], task.targets[:4])
    changed, half = score_tasks(base, delta, [task, other])
    assert changed != plain
    assert score_tasks(base, delta, [other]) == [half]
    assert evaluate(base, delta, task).cross_entropy == pytest.approx(changed.cross_entropy)
    assert score(base, task) == plain
    assert score_tasks(base, delta, []) == []


def test_batches_do_not_change_results(base: BaseModel, task: TaskImages, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = logits(base, task.pixels, LABELS)
    monkeypatch.setattr(scoring, "batch_size", lambda pixels: 3)
    torch.testing.assert_close(logits(base, task.pixels, LABELS), whole, rtol=1e-5, atol=1e-5)


def test_images_kept_as_bytes_score_the_same(base: BaseModel) -> None:
    generator = torch.Generator().manual_seed(0)
    kept = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=generator)
    assert torch.equal(logits(base, kept, LABELS), logits(base, base.normalise(kept), LABELS))


def test_batches_hold_so_many_pixels() -> None:
    sizes = {side: batch_size(torch.empty(1, 3, side, side)) for side in (16, 32, 224, 2048)}
    assert sizes == {16: 1024, 32: 256, 224: 8, 2048: 8}


def rank_sum(scores: np.ndarray, positive: np.ndarray) -> float:
    """AUC as the share of (positive, negative) pairs in the right order, ties counting half."""
    pairs = [(p, n) for p in scores[positive] for n in scores[~positive]]
    return sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)


def test_area_under_the_curve_by_hand() -> None:
    second = np.array([0.1, 0.4, 0.35, 0.8])
    probabilities = np.stack([1 - second, second], axis=1)
    assert area_under_curve(probabilities, np.array([0, 0, 1, 1])) == 0.75  # scikit-learn's own example
    assert area_under_curve(probabilities, np.array([1, 1, 0, 0])) == 0.25
    assert area_under_curve(np.full((4, 2), 0.5), np.array([0, 1, 0, 1])) == 0.5


@settings(max_examples=30, deadline=None)
@given(classes=st.integers(2, 5), seed=st.integers(0, 1000))
def test_area_under_the_curve_is_the_share_of_pairs_in_order(classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(classes), random.integers(0, classes, 12)])
    probabilities = random.dirichlet(np.ones(classes), len(targets)).astype("f4").astype("f8")
    found = area_under_curve(probabilities, targets)
    if classes == 2:
        expected = rank_sum(probabilities[:, 1], targets == 1)
    else:
        normalised = probabilities / probabilities.sum(1, keepdims=True)
        expected = float(np.mean([rank_sum(normalised[:, c], targets == c) for c in range(classes)]))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "targets"), [(2, [0, 0]), (2, [1, 1]), (3, [0, 2]), (1, [0, 0])])
def test_no_area_where_a_class_has_no_image(classes: int, targets: list[int]) -> None:
    assert area_under_curve(np.full((2, classes), 1 / classes), np.array(targets)) is None


def test_evaluation_without_an_image_of_a_class(base: BaseModel, images: torch.Tensor) -> None:
    metrics = evaluate(base, {}, TaskImages("lung", LABELS, images, torch.zeros(10, dtype=torch.int64)))
    assert metrics.auc is None
