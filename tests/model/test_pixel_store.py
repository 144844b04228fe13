"""Pixels that do not fit memory lie in a file of no name, and nothing else changes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forge.errors import ForgeError
from forge.model import pixel_store
from forge.model.base import BaseModel
from forge.model.images import load_images, split_validation
from forge.model.pixel_store import empty_pixels, some_pixels
from forge.model.scoring import TaskImages
from forge.model.training import TrainSettings, train_adapter


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    for name, low in (("dark", 0), ("bright", 120)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(low, low + 120, size=(36, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


def on_disk(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    folder.mkdir()
    monkeypatch.setattr(pixel_store, "IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(folder))


def test_the_same_adapter_is_trained_on_images_on_disk(
    base: BaseModel, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings("adamw", 1e-3, "cosine", 0.01, epochs=2, batch=5)
    results = []
    for _ in range(2):
        parts = split_validation(load_images(data, base), 0.25, 0)
        train, validation = (TaskImages("t", ("dark", "bright"), part.pixels, part.targets) for part in parts)
        results.append((train.pixels.clone(), train_adapter(base, train, validation, settings).tensors))
        if len(results) == 1:
            on_disk(monkeypatch, tmp_path / "temporary")
    (pixels, memory), (streamed, disk) = results
    assert torch.equal(pixels, streamed)
    assert all(torch.equal(memory[name], disk[name]) for name in memory)


def test_the_file_has_no_name_and_is_not_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk(monkeypatch, tmp_path / "temporary")
    pixels = empty_pixels(5, (4, 3))
    pixels[:] = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1)
    assert list((tmp_path / "temporary").iterdir()) == []
    maps = Path("/proc/self/maps").read_text()
    assert str(tmp_path / "temporary") in maps and "(deleted)" in maps
    chosen = some_pixels(pixels, torch.tensor([True, False, False, True, True]))
    assert chosen[:, 0, 0, 0].tolist() == [0, 3, 4]
    assert some_pixels(pixels, torch.tensor([4, 1]))[:, 0, 0, 0].tolist() == [4, 1]


def test_where_the_system_cannot_reserve_room_it_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk(monkeypatch, tmp_path / "temporary")
    monkeypatch.delattr(os, "posix_fallocate")  # macOS
    pixels = empty_pixels(2, (3, 4))
    assert pixels.shape == (2, 3, 3, 4) and int(pixels.sum()) == 0
    pixels[1] = 7
    assert int(pixels.sum()) == 7 * 36


def test_few_images_lie_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    assert empty_pixels(2, (8, 8)).shape == (2, 3, 8, 8)


def test_a_full_disk_is_said_before_a_picture_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk(monkeypatch, tmp_path / "temporary")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ForgeError, match=r"1,000 images need 0\.2 GB in .*temporary: No space left") as caught:
        empty_pixels(1000, (224, 224))
    assert "TMPDIR" in (caught.value.hint or "")
