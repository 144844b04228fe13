"""BreakHis: patients stay whole, 40x only, the middle 460 x 460, and slides are scored as one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from examples.paper.datasets.breakhis import LABELS, find_breakhis, load_breakhis
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.scoring import TaskImages, evaluate, logits

Colours = Callable[[TaskImages], list[tuple[int, int, int]]]
MakeRelease = Callable[..., Path]
Paint = Callable[..., Path]
PATIENTS = (
    # As the fixture numbers the slides of each class; the last but three malignant ones share a patient.
    ["14-22549AB", "14-22549CD", "14-22549G", "14-21998AB", "14-22704", "14-4659", "14-16184"],
    ["14-2523", "14-2980", "14-5287", "14-13412", "14-12204", "14-13412", "14-9146", "14-15704"],
)


def splits(root: Path, base: BaseModel, **options: object) -> dict[str, TaskImages]:
    return {split: load_breakhis(root, base, split=split, **options) for split in ("train", "validation", "test")}  # type: ignore[arg-type]


def test_every_patch_once_and_no_patient_in_two_splits(
    tmp_path: Path, base: BaseModel, make_breakhis: MakeRelease, colours: Colours
) -> None:
    found = splits(make_breakhis(tmp_path), base, seed=4)
    everything = [colour for part in found.values() for colour in colours(part)]
    slides = [(target, slide) for target, ids in enumerate(PATIENTS) for slide in range(len(ids))]
    assert sorted(everything) == sorted((*slide, patch) for slide in slides for patch in range(3))
    patients = {name: {PATIENTS[target][slide] for target, slide, _ in colours(part)} for name, part in found.items()}
    assert not patients["train"] & patients["validation"]
    assert not (patients["train"] | patients["validation"]) & patients["test"]
    # 7 patients of each class: 30% are two, and a tenth of the other five is at least one.
    assert [len(patients[name]) for name in ("train", "validation", "test")] == [8, 2, 4]
    for part in found.values():
        assert (part.task, part.labels) == ("breast", ("benign breast tissues", "malignant breast tumors"))
        assert part.targets.tolist() == [target for target, _, _ in colours(part)]
        assert (part.pixels.dtype, part.pixels.shape[1:]) == (torch.uint8, (3, 16, 16))


def test_groups_number_the_slides_alike_in_all_splits(
    tmp_path: Path, base: BaseModel, make_breakhis: MakeRelease, colours: Colours
) -> None:
    number_of: dict[tuple[int, int], set[int]] = {}
    for part in splits(make_breakhis(tmp_path), base).values():
        assert part.groups is not None
        for (target, slide, _), group in zip(colours(part), part.groups.tolist(), strict=True):
            number_of.setdefault((target, slide), set()).add(group)
    assert all(len(groups) == 1 for groups in number_of.values())
    assert sorted(group for groups in number_of.values() for group in groups) == list(range(15))


def test_a_seed_gives_the_same_split_whatever_the_folder_and_the_order_of_its_files(
    tmp_path: Path, base: BaseModel, make_breakhis: MakeRelease, colours: Colours
) -> None:
    there = make_breakhis(tmp_path / "here")
    elsewhere = make_breakhis(tmp_path / "elsewhere/BreaKHis_v1", order=("malignant", "benign"))
    one, other = splits(there, base, seed=1), splits(elsewhere, base, seed=1)
    assert {name: colours(part) for name, part in one.items()} == {name: colours(part) for name, part in other.items()}
    tests = {tuple(colours(load_breakhis(there, base, split="test", seed=seed))) for seed in range(6)}
    assert len(tests) > 1


@pytest.mark.parametrize(("height", "box"), [(460, (120, 0, 580, 460)), (456, (122, 0, 578, 456))], ids=str)
def test_the_middle_is_cut_out_before_the_resize(
    tmp_path: Path, base: BaseModel, make_breakhis: MakeRelease, height: int, box: tuple[int, int, int, int]
) -> None:
    make_breakhis(tmp_path, patches=1)
    pixels = np.random.default_rng(0).integers(0, 256, (height, 700, 3), dtype=np.uint8)
    for path in find_breakhis(tmp_path).glob("*/*/*/*/40X/*.png"):
        Image.fromarray(pixels).save(path)
    found = load_breakhis(tmp_path, base, per_class=1).pixels[0]
    transform = open_clip.image_transform(base.image_size, is_train=False, mean=base.mean, std=base.std)
    expected = transform(Image.fromarray(pixels).crop(box))
    torch.testing.assert_close(base.normalise(found[None])[0], expected)


def test_a_cap_on_each_class(tmp_path: Path, base: BaseModel, make_breakhis: MakeRelease) -> None:
    found = load_breakhis(make_breakhis(tmp_path), base, per_class=2)
    assert Counter(found.targets.tolist()) == {0: 2, 1: 2}
    assert found.groups is not None and len(found.groups) == 4


@pytest.mark.parametrize(
    "above", ["", "BreaKHis_v1", "BreaKHis_v1/histology_slides", "BreaKHis_v1/histology_slides/breast"]
)
def test_it_is_found_from_any_folder_above(
    tmp_path: Path, make_breakhis: MakeRelease, monkeypatch: pytest.MonkeyPatch, above: str
) -> None:
    expected = make_breakhis(tmp_path, patches=1) / "BreaKHis_v1/histology_slides/breast"
    assert find_breakhis(tmp_path / above) == expected
    monkeypatch.chdir(tmp_path / above)
    assert find_breakhis(Path()) == expected


def test_what_is_missing_is_named(tmp_path: Path, base: BaseModel, make_breakhis: MakeRelease, paint: Paint) -> None:
    with pytest.raises(ForgeError, match=r"no such folder: .*nowhere"):
        load_breakhis(tmp_path / "nowhere", base)
    paint(tmp_path / "photos/cat.png", (1, 2, 3))
    with pytest.raises(ForgeError, match=r"no BreakHis in .* or below") as caught:
        load_breakhis(tmp_path, base)
    assert caught.value.hint is not None and "{benign,malignant}/SOB/TYPE/SLIDE/40X" in caught.value.hint
    benign = tmp_path / "BreaKHis_v1/histology_slides/breast/benign"
    make_breakhis(tmp_path, order=("benign",))
    with pytest.raises(ForgeError, match=f"BreakHis is not complete: no {benign.with_name('malignant')}/SOB"):
        load_breakhis(tmp_path, base)
    (benign.with_name("malignant") / "SOB").mkdir(parents=True)
    with pytest.raises(ForgeError, match=f"no 40x images in {benign.with_name('malignant')}"):
        load_breakhis(tmp_path, base)


def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, base: BaseModel, make_breakhis: MakeRelease, paint: Paint
) -> None:
    folder = find_breakhis(make_breakhis(tmp_path)) / "benign/SOB/adenosis/SOB_B_A_14-22549AB/40X"
    (folder / "._SOB_B_A-14-22549AB-40-001.png").write_bytes(b"macOS leaves these")
    (folder / "Thumbs.db").write_bytes(b"and Windows these")
    splits(tmp_path, base)
    odd = paint(folder / "copy of 001.png", (0, 0, 0))
    with pytest.raises(ForgeError, match=r"copy of 001\.png: no patient can be read from this name"):
        load_breakhis(tmp_path, base)
    odd.unlink()
    broken = folder / "SOB_B_A-14-22549AB-40-002.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ForgeError, match=r"14-22549AB-40-002\.png cannot be read as an image"):
        splits(tmp_path, base)


def test_no_such_split_and_no_validation_images(tmp_path: Path, base: BaseModel, make_breakhis: MakeRelease) -> None:
    make_breakhis(tmp_path)
    with pytest.raises(ForgeError, match="no split is called 'val'"):
        load_breakhis(tmp_path, base, split="val")
    with pytest.raises(ForgeError, match="no breast images in this split"):
        load_breakhis(tmp_path, base, split="validation", validation=0)


def test_a_slide_is_scored_by_the_mean_of_its_patches(
    tmp_path: Path, base: BaseModel, make_breakhis: MakeRelease
) -> None:
    """A plain loop over slides; ACC, AUC and cross-entropy by hand."""
    make_breakhis(tmp_path)
    generator = np.random.default_rng(1)
    for path in find_breakhis(tmp_path).glob("*/*/*/*/40X/*.png"):
        Image.fromarray(generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    task = load_breakhis(tmp_path, base, split="test")
    assert task.groups is not None
    patches = logits(base, task.pixels, LABELS).double()
    answers, odds = [], {0: [], 1: []}  # type: ignore[var-annotated]
    loss = 0.0
    for group in sorted(set(task.groups.tolist())):
        members = [index for index, number in enumerate(task.groups.tolist()) if number == group]
        means = [sum(float(patches[index, label]) for index in members) / len(members) for label in (0, 1)]
        chances = [math.exp(mean) / sum(math.exp(other) for other in means) for mean in means]
        target = int(task.targets[members[0]])
        answers.append((chances[1] > chances[0]) == bool(target))
        odds[target].append(chances[1])
        loss -= math.log(chances[target])
    pairs = [(one > zero) + (one == zero) / 2 for one in odds[1] for zero in odds[0]]
    found = evaluate(base, {}, task)
    assert found.images == len(answers) < len(task.targets)
    assert found.accuracy == pytest.approx(sum(answers) / len(answers))
    assert found.auc == pytest.approx(sum(pairs) / len(pairs))
    assert found.cross_entropy == pytest.approx(loss / len(answers), rel=1e-4)
