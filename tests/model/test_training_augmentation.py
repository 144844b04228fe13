"""Which variations leave classes what they are, on images that are made so that it is known."""

from __future__ import annotations

import pytest
import torch

from examples.generated.tasks import make_task
from forge.model.augmentation import KINDS
from forge.model.base import BaseModel, load_base
from forge.model.scoring import TaskImages
from forge.model.training_augmentation import STAIN_GAIN, chosen_augmentation, siamese_kinds, stained, varied_at_random

EVERY = ("mirror", "upside-down", "transpose")


@pytest.mark.parametrize("flip", EVERY)
def test_about_every_other_image_is_flipped(flip: str) -> None:
    images = torch.arange(200.0).view(200, 1, 1, 1) + torch.tensor([[0.0, 0.1], [0.2, 0.3]])  # none symmetric
    flipped = varied_at_random(images, (flip,), torch.Generator().manual_seed(3))
    by_hand = {"mirror": [1, 0, 3, 2], "upside-down": [2, 3, 0, 1], "transpose": [0, 2, 1, 3]}[flip]
    changed = 0
    for before, after in zip(images.flatten(1).tolist(), flipped.flatten(1).tolist(), strict=True):
        turned = [before[place] for place in by_hand]
        assert after in (before, turned)
        changed += after == turned
    assert 70 < changed < 130
    assert torch.equal(flipped, varied_at_random(images, (flip,), torch.Generator().manual_seed(3)))


def test_all_three_make_every_turn() -> None:
    image = torch.arange(4.0).view(1, 1, 2, 2)
    seen = {
        tuple(varied_at_random(image, EVERY, torch.Generator().manual_seed(seed)).flatten().tolist())
        for seed in range(80)
    }
    turns = [torch.rot90(side, k, (2, 3)) for side in (image, image.flip(-1)) for k in range(4)]
    assert seen == {tuple(turn.flatten().tolist()) for turn in turns}


@pytest.fixture(scope="module")
def embedded() -> BaseModel:
    return load_base("embedded")


def made(task: str, count: int) -> TaskImages:
    images, classes, labels = make_task(task, "train", count, 5)
    return TaskImages(task, labels, torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(classes))


@pytest.mark.parametrize(("task", "variations"), [("lung", (*EVERY, "stain")), ("breast", (*EVERY, "stain"))])
def test_tissue_may_be_turned_over_and_stained(embedded: BaseModel, task: str, variations: tuple[str, ...]) -> None:
    assert chosen_augmentation(embedded, made(task, 200), "auto") == variations


def test_digits_may_not_be_turned_over(embedded: BaseModel) -> None:
    assert not set(chosen_augmentation(embedded, made("digits", 100), "auto")) & set(EVERY)


def test_digits_are_not_mirrored_where_they_are_distilled(embedded: BaseModel) -> None:
    assert siamese_kinds(embedded, made("digits", 100)) == ("colour", "crop", "cutout", "scale", "rotate")
    assert siamese_kinds(embedded, made("lung", 100)) == KINDS
    assert siamese_kinds(embedded, made("digits", 20)) == KINDS  # too few to see it


def test_a_stain_is_a_gain_of_optical_density() -> None:
    images = torch.randint(1, 256, (50, 3, 2, 2), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    found = stained(images, torch.Generator().manual_seed(2))
    gains = 1 + STAIN_GAIN * (2 * torch.rand(50, 3, 1, 1, generator=torch.Generator().manual_seed(2)) - 1)
    expected = 255 * (images / 255.0) ** gains  # exp(-gain * -log v) = v ** gain
    assert found.dtype == torch.uint8
    assert float((found.float() - expected).abs().max()) <= 0.51
    assert torch.equal(stained(torch.full_like(images, 255), torch.Generator()), torch.full_like(images, 255))
    assert not stained(torch.zeros_like(images), torch.Generator()).gt(6).any()  # black stays nearly black


def test_what_is_asked_for_is_done(base: BaseModel) -> None:
    few = TaskImages("few", ("a", "b"), torch.zeros(2, 3, *base.image_size), torch.tensor([0, 1]))
    assert chosen_augmentation(base, few, "none") == ()
    assert chosen_augmentation(base, few, "mirror") == ("mirror",)
    assert chosen_augmentation(base, few, "all") == EVERY
    assert chosen_augmentation(base, few, "auto") == ()  # too few to see anything
    wide = TaskImages("wide", ("a", "b"), torch.zeros(2, 3, 4, 6), torch.tensor([0, 1]))
    assert chosen_augmentation(base, wide, "all") == ("mirror", "upside-down")
    assert chosen_augmentation(base, made("lung", 4), "all") == (*EVERY, "stain")
