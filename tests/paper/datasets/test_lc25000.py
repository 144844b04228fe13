"""LC25000: the lung part only, 70% of each class for training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.paper.datasets.lc25000 import find_lc25000, load_lc25000
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.scoring import TaskImages

Colours = Callable[[TaskImages], list[tuple[int, int, int]]]
SORTED = ("lung adenocarcinomas", "benign lung tissues", "lung squamous cell carcinomas")  # as the fixture numbers them


def test_each_image_once_under_its_label(
    tmp_path: Path, base: BaseModel, make_lc25000: Callable[..., Path], colours: Colours
) -> None:
    make_lc25000(tmp_path)
    parts = {split: load_lc25000(tmp_path, base, split=split, seed=2) for split in ("train", "validation", "test")}
    assert {split: len(part.targets) for split, part in parts.items()} == {"train": 18, "validation": 3, "test": 9}
    everything = [colour for part in parts.values() for colour in colours(part)]
    assert sorted(everything) == [(number, image, 0) for number in range(3) for image in range(10)]
    for part in parts.values():
        assert part.task == "lung" and part.groups is None
        assert [part.labels[target] for target in part.targets] == [SORTED[number] for number, _, _ in colours(part)]


def test_seeds(tmp_path: Path, base: BaseModel, make_lc25000: Callable[..., Path], colours: Colours) -> None:
    here, there = make_lc25000(tmp_path / "here"), make_lc25000(tmp_path / "there/archive")
    one, other = (colours(load_lc25000(root, base, seed=5)) for root in (here, there))
    assert one == other != colours(load_lc25000(here, base, seed=6))
    assert len(load_lc25000(here, base, per_class=2).targets) == 6


def test_what_is_missing_is_named(tmp_path: Path, base: BaseModel, make_lc25000: Callable[..., Path]) -> None:
    with pytest.raises(ForgeError, match="no LC25000 in"):
        load_lc25000(tmp_path, base)
    lung = find_lc25000(make_lc25000(tmp_path))
    (lung / "lung_aca/lungaca7.jpeg").write_bytes(b"")
    with pytest.raises(ForgeError, match=r"lungaca7\.jpeg cannot be read"):
        for split in ("train", "validation", "test"):
            load_lc25000(tmp_path, base, split=split)
    for path in (lung / "lung_n").iterdir():
        path.unlink()
    with pytest.raises(ForgeError, match="lung_n holds no images"):
        load_lc25000(tmp_path, base)
    (lung / "lung_n").rmdir()
    with pytest.raises(ForgeError, match=f"LC25000 is not complete: no {lung}/lung_n"):
        load_lc25000(tmp_path, base)


def test_a_complete_copy_is_taken_before_an_incomplete_one(tmp_path: Path, make_lc25000: Callable[..., Path]) -> None:
    (tmp_path / "lung_n").mkdir()
    make_lc25000(tmp_path / "a/__MACOSX")  # what a Mac leaves beside an unpacked archive
    make_lc25000(tmp_path / "b")
    assert find_lc25000(tmp_path) == tmp_path / "b/lung_colon_image_set/lung_image_sets"
