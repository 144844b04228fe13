"""The tasks: balanced, split without overlap, labels in folder order; and the folders written for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.generated.image_folder import write_image_folder
from examples.generated.tasks import SPLITS, TASKS, make_site, make_task, task_labels
from forge.errors import ForgeError

MAKE_DATA = Path(__file__).parents[2] / "examples" / "make_data"


@pytest.mark.parametrize("name", TASKS)
def test_images_labels_and_balance(name: str) -> None:
    images, classes, labels = make_task(name, "train", 120, seed=0)
    assert images.shape == (120, 32, 32, 3)
    assert images.dtype == np.uint8
    assert classes.dtype == np.int64
    counts = np.bincount(classes, minlength=len(labels))
    assert counts.max() - counts.min() <= 1
    assert labels == task_labels(name)
    assert list(labels) == sorted(labels), "folders named after labels must sort in class order"


@pytest.mark.parametrize("name", TASKS)
def test_seed_decides_and_splits_do_not_overlap(name: str) -> None:
    again = [make_task(name, "train", 30, seed=1)[0].tobytes() for _ in range(2)]
    assert again[0] == again[1]
    assert again[0] != make_task(name, "train", 30, seed=2)[0].tobytes()
    seen: dict[str, set[bytes]] = {
        split: {image.tobytes() for image in make_task(name, split, 150, seed=1)[0]} for split in SPLITS
    }
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_digits_are_never_in_two_splits_whatever_the_seeds() -> None:
    train = {image.tobytes() for seed in range(3) for image in make_task("digits", "train", 1000, seed)[0]}
    test = {image.tobytes() for image in make_task("digits", "test", 597, seed=9)[0]}
    assert len(test) == 597
    assert len(train) == 1000
    assert not train & test


def test_a_site_changes_stain_and_scanner_and_nothing_repeats() -> None:
    plain, first, second = (make_task("breast", "train", 200, 0, site)[0].astype(float) for site in (None, 0, 1))
    means = [images.mean(axis=(0, 1, 2)) for images in (plain, first, second)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(means[one] - means[other]).max() > 4
    assert make_site(3).gain.tolist() == make_site(3).gain.tolist()
    assert make_task("breast", "train", 20, 0, 1)[0].tobytes() == make_task("breast", "train", 20, 0, 1)[0].tobytes()


@pytest.mark.parametrize(
    ("name", "split", "count", "part"),
    [
        ("heart", "train", 10, "heart"),
        ("breast", "dev", 10, "dev"),
        ("breast", "train", 0, "at least one"),
        ("digits", "test", 598, "597"),
    ],
)
def test_what_cannot_be_made_is_named(name: str, split: str, count: int, part: str) -> None:
    with pytest.raises(ForgeError, match=part):
        make_task(name, split, count, seed=0)


def test_the_classes_differ_but_not_too_plainly() -> None:
    """A threshold on darkness alone does better than chance on breast and worse than nine in ten."""
    images, classes, _ = make_task("breast", "test", 400, seed=0)
    dark = (images.astype(float).mean(axis=-1) < 100).mean(axis=(1, 2))
    right = ((dark > np.median(dark)) == classes).mean()
    assert 0.6 < right < 0.95


def test_folder_holds_the_images_exactly(tmp_path: Path) -> None:
    images, classes, labels = make_task("lung", "test", 9, seed=0)
    paths = write_image_folder(tmp_path / "lung", images, classes, labels)
    assert sorted(path.name for path in (tmp_path / "lung").iterdir()) == list(labels)
    for path, image, label in zip(paths, images, classes, strict=True):
        assert path.parent.name == labels[label]
        assert np.asarray(Image.open(path)).tobytes() == image.tobytes()


def test_folder_is_not_written_over(tmp_path: Path) -> None:
    images, classes, labels = make_task("colon", "test", 2, seed=0)
    write_image_folder(tmp_path / "colon", images, classes, labels)
    with pytest.raises(ForgeError, match="not an empty folder"):
        write_image_folder(tmp_path / "colon", images, classes, labels)


def test_make_data_writes_both_splits_and_prints_the_labels(tmp_path: Path) -> None:
    command = [sys.executable, str(MAKE_DATA), "colon", str(tmp_path / "d"), "--train", "6", "--test", "4"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert tuple(done.stdout.splitlines()) == task_labels("colon")
    assert len(list((tmp_path / "d" / "train").glob("*/*.png"))) == 6
    assert len(list((tmp_path / "d" / "test").glob("*/*.png"))) == 4
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 128
    assert again.stderr.startswith("make_data: ")
    assert "Traceback" not in again.stderr
