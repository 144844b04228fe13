"""MedMNIST: the file that suits the base, the set's own splits, class numbers and names."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.paper.datasets.medmnist import LABELS, find_medmnist, load_medmnist
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.images import load_images


def write(path: Path, size: int = 28, classes: int = 2, colour: bool = False, **labels: list[int]) -> Path:
    """An .npz as medmnist saves them: labels are [n, 1] uint8."""
    generator = np.random.default_rng(len(path.name))
    arrays = {}
    for split, count in (("train", 8), ("val", 4), ("test", 6)):
        shape = (count, size, size, 3) if colour else (count, size, size)
        given = labels.get(split, [index % classes for index in range(count)])
        arrays[f"{split}_images"] = generator.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.array(given, np.uint8)[:, None]
    np.savez_compressed(path, **arrays)
    return path


def test_the_released_splits_and_names(tmp_path: Path, base: BaseModel) -> None:
    path = write(tmp_path / "pneumoniamnist.npz")
    for split, stored, count in (("train", "train", 8), ("validation", "val", 4), ("test", "test", 6)):
        found = load_medmnist(tmp_path, base, "pneumoniamnist", split=split)
        assert (found.task, found.labels, found.groups) == ("pneumoniamnist", ("normal", "pneumonia"), None)
        assert found.targets.tolist() == [index % 2 for index in range(count)]
        torch.testing.assert_close(found.pixels, load_images(path, base, split=stored).pixels)


def test_a_class_that_a_split_lacks_keeps_the_others_numbers(tmp_path: Path, base: BaseModel) -> None:
    write(tmp_path / "pathmnist.npz", colour=True, classes=9, val=[8, 0, 3, 8])
    found = load_medmnist(tmp_path / "pathmnist.npz", base, "pathmnist", split="validation")
    assert found.targets.tolist() == [8, 0, 3, 8]
    assert found.labels[8] == "colorectal adenocarcinoma epithelium"


@pytest.mark.parametrize(
    ("sizes", "image_size", "expected"),
    [([28, 64, 224], 32, 64), ([28, 64, 224], 224, 224), ([28, 128], 224, 128), ([28], 224, 28), ([28, 64], 16, 28)],
    ids=str,
)
def test_the_size_that_suits_the_base(
    tmp_path: Path, base: BaseModel, sizes: list[int], image_size: int, expected: int
) -> None:
    files = {
        size: tmp_path / "down/load" / (f"bloodmnist_{size}.npz" if size > 28 else "bloodmnist.npz") for size in sizes
    }
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    changed = replace(base, image_size=(image_size, image_size))
    assert find_medmnist(tmp_path, "bloodmnist", changed) == files[expected]


def test_labels_of_the_callers_own(tmp_path: Path, base: BaseModel) -> None:
    write(tmp_path / "retinamnist.npz", classes=5, colour=True)
    with pytest.raises(ForgeError, match="no label texts are known for 'retinamnist'"):
        load_medmnist(tmp_path, base, "retinamnist")
    grades = ("no retinopathy", "mild", "moderate", "severe", "proliferative")
    assert load_medmnist(tmp_path, base, "retinamnist", labels=grades).labels == grades
    with pytest.raises(ForgeError, match="has the classes 0, 1, 2, 3, 4, but there are 4 label texts"):
        load_medmnist(tmp_path, base, "retinamnist", labels=grades[:4])


def test_known_names_are_as_many_as_the_sets_have_classes() -> None:
    # The data paper's table of its 2-D sets.
    classes = {
        "pathmnist": 9, "dermamnist": 7, "octmnist": 4, "pneumoniamnist": 2, "breastmnist": 2, "bloodmnist": 8,
        "tissuemnist": 8, "organamnist": 11, "organcmnist": 11, "organsmnist": 11,
    }  # fmt: skip
    assert {name: len(set(labels)) for name, labels in LABELS.items()} == classes


def test_a_cap_on_each_class(tmp_path: Path, base: BaseModel) -> None:
    write(tmp_path / "breastmnist.npz", train=[0, 1, 1, 1, 1, 1, 1, 1])
    everything = load_medmnist(tmp_path, base, "breastmnist")
    found = load_medmnist(tmp_path, base, "breastmnist", per_class=3, seed=1)
    assert Counter(found.targets.tolist()) == {0: 1, 1: 3}
    index = [int((everything.pixels == image).flatten(1).all(1).nonzero()) for image in found.pixels]
    assert index == sorted(set(index))
    assert everything.targets[index].tolist() == found.targets.tolist()


def test_files_that_cannot_be_used(tmp_path: Path, base: BaseModel) -> None:
    with pytest.raises(ForgeError, match=r"no octmnist in .* or below"):
        load_medmnist(tmp_path, base, "octmnist")
    np.savez(tmp_path / "octmnist.npz", images=np.zeros((2, 28, 28), np.uint8), labels=np.zeros(2, np.uint8))
    with pytest.raises(ForgeError, match=r"octmnist\.npz has no val_images"):
        load_medmnist(tmp_path, base, "octmnist", split="validation")
    with pytest.raises(ForgeError, match=r"no split is called 'val'"):
        load_medmnist(tmp_path, base, "octmnist", split="val")
    many = {f"train_{kind}": np.zeros((2, *rest), np.uint8) for kind, rest in (("images", (28, 28)), ("labels", (14,)))}
    np.savez(tmp_path / "chestmnist.npz", **many)
    with pytest.raises(ForgeError, match=r"labels are uint8 \(2, 14\), not one whole number per image"):
        load_medmnist(tmp_path, base, "chestmnist", labels=["a", "b"])
