"""Siamese augmentation on tiny images, every operation against values by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.model.augmentation import IDENTITY, KINDS, Augmentation, augment, draw

ODD = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4) / 10 - 3


def apply(kind: str, images: torch.Tensor, first: float = 0.5, second: float = 0.5, third: float = 0.5) -> torch.Tensor:
    return augment(images, Augmentation(kind, (first, second, third)))


def test_draws_are_seeded_and_every_operation_comes_up() -> None:
    def many(seed: int, count: int) -> list[Augmentation]:
        generator = torch.Generator().manual_seed(seed)
        return [draw(generator) for _ in range(count)]

    assert many(3, 50) == many(3, 50)
    assert many(3, 50) != many(4, 50)
    counts = Counter(each.kind for each in many(0, 1200))
    assert set(counts) == set(KINDS) == {"colour", "crop", "cutout", "flip", "scale", "rotate"}
    assert min(counts.values()) > 140
    numbers = np.array([each.numbers for each in many(0, 1200)])
    assert 0 <= numbers.min() < 0.01 < 0.99 < numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(0), 0.5, atol=0.03)
    assert {each.kind for each in (draw(torch.Generator().manual_seed(s), ("flip", "crop")) for s in range(20))} == {
        "flip",
        "crop",
    }


def test_flip_mirrors_left_and_right_half_of_the_time() -> None:
    row = torch.tensor([[[[1.0, 2.0, 3.0]] * 2] * 3])
    assert apply("flip", row, 0.49)[0, 0].tolist() == [[3.0, 2.0, 1.0]] * 2
    assert torch.equal(apply("flip", row, 0.5), row)


@pytest.mark.parametrize(
    ("down", "right", "expected"),
    [
        (0.5, 0.5, [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]),
        (0.0, 0.5, [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]),
        (0.99, 0.5, [[5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16], [0, 0, 0, 0]]),
        (0.5, 0.0, [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11], [0, 13, 14, 15]]),
        (0.99, 0.99, [[6, 7, 8, 0], [10, 11, 12, 0], [14, 15, 16, 0], [0, 0, 0, 0]]),
    ],
)
def test_crop_shifts_by_an_eighth_of_the_side_and_pads_with_zeros(
    down: float, right: float, expected: list[list[int]]
) -> None:
    image = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)  # .125 of 4 rounds to one pixel
    assert apply("crop", image, down, right)[0].tolist() == [expected] * 3


@pytest.mark.parametrize(
    ("down", "right", "rows", "columns"),
    [
        (0.0, 0.0, (0, 1), (0, 1)),
        (0.5, 0.5, (1, 3), (1, 3)),
        (0.999, 0.999, (3, 4), (3, 4)),
        (0.5, 0.0, (1, 3), (0, 1)),
    ],
)
def test_cutout_zeroes_a_square_of_half_the_side(
    down: float, right: float, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    expected = np.ones((4, 4))
    for row in range(*rows):
        for column in range(*columns):
            expected[row, column] = 0
    found = apply("cutout", torch.ones(2, 3, 4, 4), down, right)
    np.testing.assert_array_equal(found.numpy(), np.broadcast_to(expected, (2, 3, 4, 4)))


@settings(max_examples=30, deadline=None)
@given(*[st.floats(0, 0.999)] * 3)
def test_colour_in_the_order_brightness_saturation_contrast(first: float, second: float, third: float) -> None:
    found = apply("colour", ODD, first, second, third).numpy()
    for number, image in enumerate(ODD.double().numpy()):
        image = image + (first - 0.5)
        grey = (image[0] + image[1] + image[2]) / 3
        image = np.stack([grey + (channel - grey) * 2 * second for channel in image])
        mean = sum(image.flatten()) / image.size
        image = mean + (image - mean) * (0.5 + third)
        np.testing.assert_allclose(found[number], image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["colour", "crop", "flip", "scale", "rotate", "none"])
def test_the_middle_of_every_range_changes_nothing(kind: str) -> None:
    torch.testing.assert_close(apply(kind, ODD), ODD, rtol=1e-5, atol=1e-5)
    assert Augmentation("none", (0.5, 0.5, 0.5)) == IDENTITY


def bilinear(image: np.ndarray, y: float, x: float) -> float:
    """The value between pixels, zero outside."""
    height, width = image.shape
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


@settings(max_examples=20, deadline=None)
@given(kind=st.sampled_from(["scale", "rotate"]), first=st.floats(0, 0.999), second=st.floats(0, 0.999))
def test_scale_and_rotation_about_the_middle(kind: str, first: float, second: float) -> None:
    found = apply(kind, ODD, first, second)[1, 2].numpy()
    image = ODD[1, 2].double().numpy()
    angle = math.radians(15) * (2 * first - 1) if kind == "rotate" else 0.0
    tall, wide = (1.2 ** (2 * first - 1), 1.2 ** (2 * second - 1)) if kind == "scale" else (1.0, 1.0)
    for row in range(4):
        for column in range(4):
            y, x = row - 1.5, column - 1.5
            source_x = wide * math.cos(angle) * x - math.sin(angle) * y
            source_y = math.sin(angle) * x + tall * math.cos(angle) * y
            assert found[row, column] == pytest.approx(bilinear(image, source_y + 1.5, source_x + 1.5), abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), numbers=st.tuples(*[st.floats(0, 0.999)] * 3))
def test_one_draw_treats_every_batch_alike_and_gradients_flow(kind: str, numbers: tuple[float, float, float]) -> None:
    one_draw = Augmentation(kind, numbers)
    generator = torch.Generator().manual_seed(0)
    real, synthetic = (torch.randn(count, 3, 8, 6, generator=generator) for count in (5, 2))
    together = augment(torch.cat([real, synthetic]), one_draw)
    torch.testing.assert_close(augment(real, one_draw), together[:5], rtol=1e-5, atol=1e-5)
    pixels = synthetic.clone().requires_grad_()
    treated = augment(pixels, one_draw)
    assert treated.shape == synthetic.shape
    (gradient,) = torch.autograd.grad(treated.square().sum(), [pixels])
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().sum()) > 0


def test_an_unknown_operation() -> None:
    with pytest.raises(ValueError, match="blur"):
        apply("blur", ODD)
