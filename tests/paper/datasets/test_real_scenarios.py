"""The paper's experiment on the three data sets, found below one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from examples.generated.tasks import make_task
from examples.paper.real_scenarios import LOADERS, make_real_scenario
from examples.paper.scenarios import MULTI_TASK
from forge.errors import ForgeError
from forge.model.base import BaseModel


def plainly(items: Iterable[Path], total: int) -> Iterable[Path]:
    return items


@pytest.fixture
def everything(
    tmp_path: Path,
    make_breakhis: Callable[..., Path],
    make_lc25000: Callable[..., Path],
    make_colon: Callable[..., dict[str, int]],
) -> Path:
    make_breakhis(tmp_path / "BreakHis")
    make_lc25000(tmp_path / "archive")
    colon = tmp_path / "MedFMC/colon"
    for name, first, count in (("trainval.txt", 0, 6), ("test_WithLabel.txt", 6, 3)):
        targets = make_colon(colon / "images", first, count)
        (colon / name).write_text("".join(f"{image} {target}\n" for image, target in targets.items()))
    return tmp_path


def test_participants_and_test_sets(everything: Path, base: BaseModel) -> None:
    found = make_real_scenario(everything, base, 3)
    assert (found.name, found.seed) == ("multi-task", 3)
    assert tuple(each.name for each in found.participants) == MULTI_TASK
    assert [each.seed for each in found.participants] == [300, 301, 302]
    assert tuple(each.task for each in found.test) == tuple(each.task for each in found.validation) == MULTI_TASK
    assert all(each.validation is images for each, images in zip(found.participants, found.validation, strict=True))
    for number, (task, load) in enumerate(LOADERS.items()):
        parts = {"train": found.participants[number].train, "validation": found.validation[number]}
        for split, images in {**parts, "test": found.test[number]}.items():
            expected = load(everything, base, split=split, seed=3, validation=0.1, per_class=None, progress=plainly)
            assert images.task == task and torch.equal(images.pixels, expected.pixels)
    assert [each.groups is None for each in found.test] == [False, True, True]


def test_the_labels_are_those_of_the_generated_tasks(everything: Path, base: BaseModel) -> None:
    found = make_real_scenario(everything, base, 0)
    for participant, test in zip(found.participants, found.test, strict=True):
        _, _, labels = make_task(participant.name, "test", 3, 0)
        assert participant.train.labels == participant.validation.labels == test.labels == labels


def test_a_quick_run(everything: Path, base: BaseModel) -> None:
    found = make_real_scenario(everything, base, 0, per_class=1)
    images = [*found.test, *found.validation, *(each.train for each in found.participants)]
    assert [len(each.targets) for each in images] == [2, 3, 2] * 3


def test_what_is_missing_is_said_before_anything_is_read(everything: Path, base: BaseModel) -> None:
    (everything / "MedFMC/colon/trainval.txt").unlink()
    read: list[int] = []

    def progress(items: Iterable[Path], total: int) -> Iterable[Path]:
        read.append(total)
        return items

    with pytest.raises(ForgeError, match="no MedFMC-Colon in"):
        make_real_scenario(everything, base, 0, progress=progress)
    assert read == []
