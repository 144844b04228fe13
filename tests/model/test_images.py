"""Labelled images from disk; open_clip's own transform is the oracle for what a picture becomes."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from forge.data.listing import ReadOptions, has_split
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.images import (
    LabelledImages,
    load_images,
    load_picture,
    split_validation,
    with_labels,
)

RANDOM = np.random.default_rng(0)


def noise(height: int, width: int, *channels: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, *channels), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, one image of each nested, all of one colour that tells which it is."""
    top = tmp_path / "private data"
    for value, name in enumerate(("benign/a.png", "benign/b.PNG", "malignant/patient 3/left/c.jpg", "malignant/d.bmp")):
        save(top / name, np.full((32, 32, 3), 60 * value, np.uint8))
    return top


def by_open_clip(base: BaseModel, picture: Any, **changes: Any) -> torch.Tensor:
    """The normalised pixels of open_clip's evaluation transform."""
    transform = open_clip.image_transform(
        changes.pop("image_size", base.image_size), is_train=False, mean=base.mean, std=base.std, **changes
    )
    pixels: torch.Tensor = transform(picture)
    return pixels


@pytest.mark.parametrize("size", [(32, 32), (70, 40), (33, 91), (8, 8), (1, 5), (200, 64)], ids=str)
@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_a_picture_is_what_open_clip_makes_of_it(
    base: BaseModel, tmp_path: Path, size: tuple[int, int], channels: tuple[int, ...]
) -> None:
    path = save(tmp_path / "picture.png", noise(*size, *channels))
    found = load_picture(path, base)
    assert (found.dtype, found.shape) == (torch.uint8, (3, 32, 32))
    torch.testing.assert_close(base.normalise(found[None])[0], by_open_clip(base, Image.open(path)))


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "1", "CMYK", "YCbCr"])
def test_other_modes_are_converted_to_colour_first(base: BaseModel, tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(noise(50, 40, 3)).convert(mode)
    path = tmp_path / "picture.tif"
    picture.save(path)
    expected = by_open_clip(base, Image.open(path).convert("RGB"))
    torch.testing.assert_close(base.normalise(load_picture(path, base)[None])[0], expected)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_keep_their_contrast(base: BaseModel, tmp_path: Path, suffix: str) -> None:
    deep = (np.arange(32 * 32, dtype=np.uint16) * 64).reshape(32, 32)
    found = load_picture(save(tmp_path / f"deep{suffix}", deep), base)
    np.testing.assert_array_equal(found.numpy(), np.broadcast_to(deep // 256, (3, 32, 32)))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_of_unknown_range_are_refused(base: BaseModel, tmp_path: Path, kind: type) -> None:
    path = save(tmp_path / "deep.tif", np.ones((8, 8), kind))
    with pytest.raises(ForgeError, match=r"deep\.tif cannot be read as an image: 32-bit pixels"):
        load_picture(path, base)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"interpolation": "bilinear"}, (32, 32)),
        ({"resize_mode": "squash"}, (32, 32)),
        ({"resize_mode": "longest", "fill_color": 7}, (32, 32)),
        ({}, (16, 32)),
        ({"resize_mode": "squash"}, (16, 32)),
    ],
    ids=str,
)
def test_the_bases_own_way_of_resizing(
    base: BaseModel, tmp_path: Path, changes: dict[str, Any], size: tuple[int, int]
) -> None:
    other = replace(base, image_size=size, preprocess={**base.preprocess, **changes})
    path = save(tmp_path / "picture.png", noise(60, 45, 3))
    expected = by_open_clip(base, Image.open(path), image_size=size, **changes)
    torch.testing.assert_close(base.normalise(load_picture(path, other)[None])[0], expected)


def test_a_folder_of_classes(base: BaseModel, folder: Path) -> None:
    (folder / "benign" / "notes.txt").write_text("not an image")
    (folder / ".cache").mkdir()
    (folder / "README.md").write_text("about this data")
    asked: list[tuple[list[str], int]] = []

    def progress(items: Any, total: int) -> Any:
        asked.append(([path.name for path in items], total))
        return items

    found = load_images(folder, base, progress=progress)
    assert found.classes == ("benign", "malignant")
    assert found.targets.tolist() == [0, 0, 1, 1]
    assert found.targets.dtype == torch.int64
    assert found.pixels.shape == (4, 3, 32, 32)
    assert found.pixels[:2, 0, 0, 0].tolist() == [0, 60]
    assert sorted(found.pixels[2:, 0, 16, 16].tolist()) == pytest.approx([120, 180], abs=2)  # JPEG is not exact
    assert asked == [(["a.png", "b.PNG", "d.bmp", "c.jpg"], 4)]
    assert len(found) == 4


def test_a_folder_of_splits(base: BaseModel, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "splits"
    data.mkdir()
    folder.rename(data / "train")
    for name in ("benign", "malignant"):
        save(data / "test" / name / "one.png", noise(32, 32))
    assert (has_split(data, "train"), has_split(data, "val"), has_split(data, "test")) == (True, False, True)
    assert len(load_images(data, base)) == 4
    assert len(load_images(data, base, split="test")) == 2
    with pytest.raises(ForgeError, match="has train, test, but no val"):
        load_images(data, base, split="val")
    assert load_images(data / "train", base, split="val").classes == ("benign", "malignant")


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
def test_an_archive_of_medmnist(base: BaseModel, tmp_path: Path, split: str, channels: tuple[int, ...]) -> None:
    path = tmp_path / "tissue.npz"
    arrays: dict[str, Any] = {}
    for name in ("train", "val", "test"):
        arrays[f"{name}_images"] = noise(5, 28, 28, *channels)
        arrays[f"{name}_labels"] = np.array([[2], [0], [1], [2], [0]], np.uint8)
    np.savez(path, **arrays)
    assert has_split(path, split)
    found = load_images(path, base, split=split)
    assert found.targets.tolist() == [2, 0, 1, 2, 0]
    assert found.classes == ("0", "1", "2")
    for pixels, image in zip(found.pixels, arrays[f"{split}_images"], strict=True):
        torch.testing.assert_close(base.normalise(pixels[None])[0], by_open_clip(base, Image.fromarray(image)))


def test_an_archive_of_plain_arrays(base: BaseModel, tmp_path: Path) -> None:
    path = tmp_path / "all.npz"
    np.savez(path, images=noise(3, 32, 32), labels=np.array([7, -1, 7]))
    assert not has_split(path, "val")
    found = load_images(path, base, split="test")
    assert found.classes == ("-1", "7")
    assert found.targets.tolist() == [1, 0, 1]


GOOD: dict[str, Any] = {"images": np.zeros((3, 8, 8), np.uint8), "labels": np.arange(3)}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": np.zeros((3, 8, 8), np.float32)}, "images are float32"),
        ({"images": np.zeros((3, 8, 8, 8), np.uint8)}, r"images are uint8 \(3, 8, 8, 8\)"),
        ({"images": np.zeros((3, 8, 8, 8, 3), np.uint8)}, "not uint8"),
        ({"images": np.zeros(3, np.uint8)}, "not uint8"),
        ({"labels": np.arange(2)}, "one whole number per image"),
        ({"labels": np.zeros((3, 4), np.uint8)}, "one whole number per image"),
        ({"labels": np.zeros(3)}, "one whole number per image"),
        ({"labels": np.array(["a", "b", "c"])}, "one whole number per image"),
        ({"labels": np.array([1, "b", None], dtype=object)}, "cannot be read as an .npz of plain arrays"),
        ({"images": np.zeros((0, 8, 8), np.uint8), "labels": np.zeros(0, int)}, "is empty"),
        ({"images": np.zeros((3, 0, 8), np.uint8)}, "is empty"),
    ],
)
def test_arrays_that_are_no_labelled_images(
    base: BaseModel, tmp_path: Path, changes: dict[str, np.ndarray], reason: str
) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **{**GOOD, **changes})
    with pytest.raises(ForgeError, match=reason) as caught:
        load_images(path, base)
    assert str(path) in caught.value.message


def test_an_archive_without_the_split(base: BaseModel, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, train_images=GOOD["images"], train_labels=GOOD["labels"])
    with pytest.raises(ForgeError, match="no val_images and val_labels") as caught:
        load_images(path, base, split="val")
    assert "train_images, train_labels" in (caught.value.hint or "")


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(base: BaseModel, tmp_path: Path) -> None:
    trace, path = tmp_path / "opened", tmp_path / "set.npz"
    np.savez(path, images=np.array([Evil(trace)] * 3, dtype=object), labels=np.arange(3))
    with pytest.raises(ForgeError, match="cannot be read"):
        load_images(path, base)
    path.write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(ForgeError, match="cannot be read"):
        load_images(path, base)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", pickle.dumps(Evil(trace)))
        archive.writestr("labels", b"plain bytes")
    with pytest.raises(ForgeError, match=r"set\.npz"):
        load_images(path, base)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg", "picture.bmp", "picture.tif", "picture.webp"])
def test_truncated_pictures(base: BaseModel, tmp_path: Path, name: str) -> None:
    whole = save(tmp_path / name, noise(40, 40, 3)).read_bytes()
    for share in (0, 0.001, 0.01, 0.1, 0.5, 0.9):
        path = tmp_path / f"cut {share} {name}"
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ForgeError, match="cannot be read as an image") as caught:
            load_picture(path, base)
        assert caught.value.message.startswith(str(path))


def spoil(data: bytes, places: list[tuple[int, int]]) -> bytes:
    spoilt = bytearray(data)
    for place, value in places:
        spoilt[place % len(spoilt)] = value
    return bytes(spoilt)


PLACES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP"]), places=PLACES)
def test_spoilt_pictures_are_read_or_refused(
    base: BaseModel, tmp_path: Path, name: str, places: list[tuple[int, int]]
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(buffer, name)
    path = tmp_path / "spoilt.png"
    path.write_bytes(spoil(buffer.getvalue(), places))
    try:
        assert load_picture(path, base).shape == (3, 32, 32)
    except ForgeError as error:
        assert "cannot be read as an image" in error.message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=PLACES, cut=st.integers(0, 900))
def test_spoilt_archives_are_read_or_refused(
    base: BaseModel, tmp_path: Path, places: list[tuple[int, int]], cut: int
) -> None:
    path = tmp_path / "spoilt.npz"
    np.savez(path, **GOOD)
    path.write_bytes(spoil(path.read_bytes(), places)[: -cut or None])
    assert has_split(path, "val") is False
    try:
        assert len(load_images(path, base)) == 3
    except ForgeError as error:
        assert str(path) in error.message


def test_a_broken_picture_in_a_folder_is_named(base: BaseModel, folder: Path) -> None:
    broken = folder / "malignant" / "broken.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(ForgeError, match=r"malignant/broken\.png cannot be read as an image") as caught:
        load_images(folder, base)
    hint = caught.value.hint or ""
    assert "--skip-unreadable" in hint and "remove" not in hint


def test_a_picture_too_large_to_open_is_refused(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for side in (11, 40):  # PIL warns above the limit and refuses above twice the limit
        path = save(tmp_path / f"{side}.png", noise(side, side))
        with pytest.raises(ForgeError, match=r"exceeds limit|decompression bomb"):
            load_picture(path, base)


def make_nothing(top: Path) -> Path:
    return top / "nothing"


def make_empty(top: Path) -> Path:
    return top


def make_flat(top: Path) -> Path:
    save(top / "a.png", noise(4, 4))
    return top


def make_empty_class(top: Path) -> Path:
    save(top / "full" / "a.png", noise(4, 4))
    (top / "hollow").mkdir()
    (top / "hollow" / "notes.txt").touch()
    return top


def make_text(top: Path) -> Path:
    (top / "data.dat").write_text("a,b")
    return top / "data.dat"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_nothing, "no such data: .*nothing"),
        (make_empty, "has no sub-folders"),
        (make_flat, "has no sub-folders"),
        (make_empty_class, "hollow holds no images"),
        (make_text, r"data\.dat is neither a folder nor an \.npz"),
    ],
)
def test_no_data(base: BaseModel, tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    with pytest.raises(ForgeError, match=reason) as caught:
        load_images(make(tmp_path), base)
    assert caught.value.hint


def labelled(counts: list[int]) -> LabelledImages:
    """Images whose first pixel is their number."""
    targets = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    targets = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))]
    pixels = torch.arange(len(targets), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    return LabelledImages(pixels, targets, tuple(f"class {label}" for label in range(len(counts))), "here")


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 5),
)
def test_a_validation_split_is_stratified_and_seeded(counts: list[int], fraction: float, seed: int) -> None:
    images = labelled(counts)
    train, validation = split_validation(images, fraction, seed)
    numbers = [part.pixels[:, 0, 0, 0].tolist() for part in (train, validation)]
    assert sorted(numbers[0] + numbers[1]) == list(range(len(images)))
    assert all(images.targets[n] == t for n, t in zip(numbers[1], validation.targets.tolist(), strict=True))
    for label, count in enumerate(counts):
        held = int((validation.targets == label).sum())
        assert 1 <= held <= count - 1
        assert abs(held - fraction * count) <= 1
    again = split_validation(images, fraction, seed)
    assert torch.equal(again[1].pixels, validation.pixels)


def test_another_seed_holds_others_back() -> None:
    images = labelled([30, 30])
    chosen = {tuple(split_validation(images, 0.2, seed)[1].pixels[:, 0, 0, 0].tolist()) for seed in range(4)}
    assert len(chosen) == 4


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(ForgeError, match=r"here: class 'class 1' has 1 image\(s\)"):
        split_validation(labelled([4, 1]), 0.2, 0)


def test_labels_stand_for_classes_by_name(base: BaseModel) -> None:
    images = labelled([3, 2])
    task = with_labels(images, base, "t", ("one", "two", "three"), {"class 0": "three", "class 1": "one"})
    assert task.labels == ("one", "two", "three")
    assert task.targets.tolist() == [[2, 0][target] for target in images.targets.tolist()]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 6)), min_size=4, max_size=14),
    fraction=st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7]),
    seed=st.integers(0, 3),
)
def test_each_patient_is_on_one_side(sizes: list[tuple[int, int]], fraction: float, seed: int) -> None:
    sizes = [(0, 2), (0, 1), (1, 2), (1, 1), *sizes]  # two patients of each class at least
    targets = torch.tensor([target for target, count in sizes for _ in range(count)])
    patients = tuple(f"P{number}" for number, (_, count) in enumerate(sizes) for _ in range(count))
    pixels = torch.arange(len(targets), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    images = LabelledImages(pixels, targets, ("a", "b"), "here", patients)
    train, validation = split_validation(images, fraction, seed)
    assert not set(train.patients or ()) & set(validation.patients or ())
    assert sorted((train.patients or ()) + (validation.patients or ())) == sorted(patients)
    assert all(set(part.targets.tolist()) == {0, 1} for part in (train, validation))
    assert torch.equal(split_validation(images, fraction, seed)[1].pixels, validation.pixels)


def test_a_class_of_one_patient_cannot_be_split() -> None:
    images = replace(labelled([4, 4]), patients=tuple("AAAAAAAB"))
    images = replace(images, targets=torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    with pytest.raises(ForgeError, match=r"class 'class 0' has images of 1 patient"):
        split_validation(images, 0.2, 0)


def test_one_unreadable_picture_is_left_out_and_counted(base: BaseModel, folder: Path) -> None:
    (folder / "benign" / "aa.png").write_bytes(b"no picture")
    found = load_images(folder, base, options=ReadOptions(skip_unreadable=True, group_by=r"\w+"))
    assert found.pixels.shape == (4, 3, 32, 32) and found.targets.tolist() == [0, 0, 1, 1]
    assert found.left_out == {"cannot be read": 1}
    assert found.patients == ("a", "b", "d", "c")
    for name in ("a.png", "b.PNG"):
        (folder / "benign" / name).write_bytes(b"")
    with pytest.raises(ForgeError, match="no image of class 'benign' can be read"):
        load_images(folder, base, options=ReadOptions(skip_unreadable=True))


@pytest.mark.parametrize("size", [(1, 20000), (20000, 1)], ids=str)
def test_a_very_thin_picture_is_refused(base: BaseModel, tmp_path: Path, size: tuple[int, int]) -> None:
    large = replace(base, image_size=(224, 224))
    path = save(tmp_path / "thin.png", np.zeros(size, np.uint8))
    with pytest.raises(ForgeError, match=r"thin\.png .*are too thin for 224 x 224"):
        load_picture(path, large)
    assert load_picture(path, replace(large, preprocess={**base.preprocess, "resize_mode": "squash"})).shape[1] == 224


def test_the_range_of_deep_pictures_is_that_of_the_set(base: BaseModel, tmp_path: Path) -> None:
    dark, light = np.full((32, 32), 900, np.uint16), np.full((32, 32), 40000, np.uint16)
    save(tmp_path / "data" / "dark" / "1.png", dark)
    save(tmp_path / "data" / "light" / "2.png", light)
    found = load_images(tmp_path / "data", base)
    assert found.depth is not None and (found.depth.pictures, found.depth.values) == (2, (900, 40000))
    with pytest.raises(ForgeError, match=r"values from 900 to 900, 1 of them far below 65535") as caught:
        load_picture(tmp_path / "data" / "dark" / "1.png", base)
    assert "--grey" in (caught.value.hint or "")
    known = load_picture(tmp_path / "data" / "dark" / "1.png", base, ReadOptions(grey=(0, 999)))
    assert (known == 900 * 256 // 1000).all()
    save(tmp_path / "data" / "dark" / "3.png", dark)
    with pytest.raises(ForgeError, match="values from 900 to 40000, 2 of them far below"):
        load_images(tmp_path / "data", base)  # one outlier makes no 16 bits of the others
    unsettled = ReadOptions(unsettled="and two cards differ")
    with pytest.raises(ForgeError, match="and two cards differ"):
        load_images(tmp_path / "data", base, options=unsettled)
