"""MedFMC's colon part in its three releases; the released split is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from examples.paper.datasets.medfmc import find_medfmc, load_medfmc_colon
from examples.paper.datasets.splits import SPLITS
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.scoring import TaskImages

Colours = Callable[[TaskImages], list[tuple[int, int, int]]]
MakeColon = Callable[..., dict[str, int]]


def write_list(path: Path, targets: Mapping[str, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} {target}\n" for name, target in targets.items()))
    return path


def write_table(path: Path, targets: Mapping[str, object], header: str = "img_id,tumor") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(f"{name},{target}" for name, target in targets.items()), ",", ""]))
    return path


def regions(images: list[tuple[int, int, int]]) -> set[int]:
    return {region for _, region, _ in images}


@pytest.fixture
def with_lists(tmp_path: Path, make_colon: MakeColon) -> Path:
    """Regions 0-7 to train, 8-11 to validate, 12-15 to test; the lists lie beside the images."""
    colon = tmp_path / "data/MedFMC/colon"
    train, validation, test = (make_colon(colon / "images", *part) for part in ((0, 8), (8, 4), (12, 4)))
    write_list(colon / "trainval.txt", train | validation)
    write_list(colon / "train_20.txt", train)
    write_list(colon / "val_20.txt", validation)
    write_list(colon / "test_WithLabel.txt", test)
    (colon / "test_WithoutLabel.txt").write_text("unknown.png\n")
    write_list(tmp_path / "data/MedFMC/chest/trainval.txt", {"chest.png": 1})
    write_list(tmp_path / "data/MedFMC/chest/test_WithLabel.txt", {"chest.png": 1})
    return tmp_path


def test_the_released_lists(with_lists: Path, base: BaseModel, colours: Colours) -> None:
    expected = {"train": (0, 8), "validation": (8, 4), "test": (12, 4)}
    for split, (first, count) in expected.items():
        found = load_medfmc_colon(with_lists, base, split=split)
        assert sorted(colours(found)) == sorted(
            (region % 2, region, patch) for region in range(first, first + count) for patch in range(2)
        )
        assert (found.task, found.labels, found.groups) == (
            "colon",
            ("negative colon tumor", "positive colon tumor"),
            None,
        )
        assert found.targets.tolist() == [target for target, _, _ in colours(found)]


def test_without_a_validation_list_whole_regions_are_held_back(
    with_lists: Path, base: BaseModel, colours: Colours
) -> None:
    (with_lists / "data/MedFMC/colon/val_20.txt").unlink()
    found = {split: colours(load_medfmc_colon(with_lists, base, split=split)) for split in ("train", "validation")}
    assert regions(found["train"]) | regions(found["validation"]) == set(range(12))
    assert not regions(found["train"]) & regions(found["validation"])
    assert len(found["validation"]) == 4  # a region of each class, both patches of it
    other = load_medfmc_colon(with_lists, base, split="validation", seed=1)
    assert colours(other) != found["validation"]
    assert regions(colours(load_medfmc_colon(with_lists, base, split="test"))) == {12, 13, 14, 15}


def test_lists_and_images_in_folders_of_their_own(tmp_path: Path, base: BaseModel, make_colon: MakeColon) -> None:
    train = make_colon(tmp_path / "MedFMC_train/colon/images", 0, 4)
    test = make_colon(tmp_path / "MedFMC_val/colon/image", 4, 2)
    write_list(tmp_path / "MedFM/data_backup/MedFMC/colon/trainval.txt", train)
    write_list(tmp_path / "MedFM/data_backup/MedFMC/colon/test_WithLabel.txt", test)
    assert len(load_medfmc_colon(tmp_path, base, split="test").targets) == 4
    assert find_medfmc(tmp_path) == tmp_path / "MedFM/data_backup/MedFMC/colon"


def test_the_lists_of_the_data_papers_own_code(tmp_path: Path, base: BaseModel, make_colon: MakeColon) -> None:
    folder = tmp_path / "ColonPath"
    write_list(folder / "fewshot-pool.txt", make_colon(folder / "images", 0, 4))
    write_list(folder / "test.txt", make_colon(folder / "images", 4, 3))
    counts = {split: len(load_medfmc_colon(tmp_path, base, split=split).targets) for split in SPLITS}
    assert counts == {"train": 4, "validation": 4, "test": 6}


@pytest.fixture
def with_tables(tmp_path: Path, make_colon: MakeColon) -> Path:
    """The challenge's folders: a byte order mark, a column more, floats, and an empty row at the end."""
    for split, first, count in (("train", 0, 6), ("val", 6, 3)):
        folder = tmp_path / f"MedFMC_{split}/colon"
        targets = make_colon(folder / "images", first, count)
        write_table(
            folder / f"colon_{split}.csv",
            {n: f"s,{float(t)}" for n, t in targets.items()},
            "\ufeffimg_id,study_id,tumor",
        )
    return tmp_path


def test_the_challenges_tables(with_tables: Path, base: BaseModel, colours: Colours) -> None:
    parts = {
        split: colours(load_medfmc_colon(with_tables, base, split=split)) for split in ("train", "validation", "test")
    }
    assert regions(parts["test"]) == {6, 7, 8}
    assert regions(parts["train"]) | regions(parts["validation"]) == set(range(6))
    assert not regions(parts["train"]) & regions(parts["validation"])
    assert all(target == region % 2 for part in parts.values() for target, region, _ in part)


@pytest.mark.parametrize("header", ["img_id", "img_id,tumor"])
def test_test_labels_that_came_later(with_tables: Path, base: BaseModel, header: str) -> None:
    images = sorted(path.name for path in (with_tables / "MedFMC_val/colon/images").iterdir())
    write_table(with_tables / "MedFMC_val/colon/colon_val.csv", dict.fromkeys(images, ""), header)
    for split in ("train", "test"):
        with pytest.raises(ForgeError, match=r"colon_val\.csv: 6 of 6 images have no label") as caught:
            load_medfmc_colon(with_tables, base, split=split)
    assert "test_WithLabel.txt" in str(caught.value.hint)
    labels = {name: number % 2 for number, name in enumerate(images)}
    write_table(with_tables / "MedFMC_trainval_annotation/ColonPath_published.csv", labels)
    found = load_medfmc_colon(with_tables, base, split="test")
    assert found.targets.tolist() == [0, 1, 0, 1, 0, 1]
    write_table(with_tables / "MedFMC_trainval_annotation/ColonPath_published.csv", dict(list(labels.items())[1:]))
    with pytest.raises(ForgeError, match=r"1 of 6 images have no label"):
        load_medfmc_colon(with_tables, base, split="test")


def test_lists_are_taken_before_tables(
    with_tables: Path, base: BaseModel, colours: Colours, make_colon: MakeColon
) -> None:
    colon = with_tables / "lists/colon"
    targets = {path.name: 1 for path in (with_tables / "MedFMC_train/colon/images").iterdir()}
    write_list(colon / "trainval.txt", targets)
    write_list(colon / "test_WithLabel.txt", targets)
    assert set(load_medfmc_colon(with_tables, base, split="test").targets.tolist()) == {1}


def test_what_is_missing_is_named(tmp_path: Path, base: BaseModel, with_tables: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ForgeError, match=r"no MedFMC-Colon in .*empty or below") as caught:
        load_medfmc_colon(empty, base)
    assert "trainval.txt" in str(caught.value.hint) and "colon_train.csv" in str(caught.value.hint)
    gone = sorted((with_tables / "MedFMC_train/colon/images").iterdir())[0]
    gone.unlink()
    with pytest.raises(ForgeError, match=f"1 of 12 images named in .* are in no folder colon/images, '{gone.name}'"):
        load_medfmc_colon(with_tables, base)
    (with_tables / "MedFMC_val/colon/colon_val.csv").unlink()
    with pytest.raises(ForgeError, match=r"has the training images only: no colon_val\.csv"):
        load_medfmc_colon(with_tables, base)


@pytest.mark.parametrize("line", ["a.png", "a.png 2", "a.png  ", "1", "a.png,1"])
def test_lines_that_are_none(with_lists: Path, base: BaseModel, line: str) -> None:
    path = with_lists / "data/MedFMC/colon/test_WithLabel.txt"
    path.write_text(f"\nb b.png 1\n{line}\n")
    with pytest.raises(ForgeError, match=r"test_WithLabel\.txt, line 3: not `NAME\.png 0`"):
        load_medfmc_colon(with_lists, base, split="test")


def test_tables_that_are_none(with_tables: Path, base: BaseModel) -> None:
    path = with_tables / "MedFMC_train/colon/colon_train.csv"
    write_table(path, {"a.png": "maybe"})
    with pytest.raises(ForgeError, match=r"colon_train\.csv: tumor is 'maybe' for a\.png"):
        load_medfmc_colon(with_tables, base)
    write_table(path, {"a.png": 1}, header="name,tumor")
    with pytest.raises(ForgeError, match=r"colon_train\.csv has no column img_id"):
        load_medfmc_colon(with_tables, base)
    path.write_bytes(b"\xff\xfe\x00img_id")
    with pytest.raises(ForgeError, match=r"colon_train\.csv cannot be read"):
        load_medfmc_colon(with_tables, base)
