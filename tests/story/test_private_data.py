"""Private data that bring a validation split of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from story.test_bad_places import pictures

from forge.data.listing import ReadOptions
from forge.data.matching import Given
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.operations.private_data import list_private_data, read_private_data


def test_the_own_split_is_used_for_validation(base: BaseModel, tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "train", {"calm": 3, "sick": 2}, 0)
    pictures(tmp_path / "data" / "val", {"calm": 1, "sick": 1}, 1)
    private = read_private_data(base, tmp_path / "data", (), None, "task", 0.5, 0)
    assert (len(private.train.targets), len(private.validation.targets)) == (5, 2)
    assert private.labels == private.validation.labels == ("calm", "sick")


def test_splits_of_different_classes_are_refused(base: BaseModel, tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "train", {"calm": 2, "sick": 2}, 0)
    pictures(tmp_path / "data" / "val", {"calm": 1, "ill": 1}, 1)
    with pytest.raises(ForgeError, match=r"calm, ill.*calm, sick"):
        read_private_data(base, tmp_path / "data", (), None, "task", 0.5, 0)


def test_a_patient_on_both_sides_is_refused(base: BaseModel, tmp_path: Path) -> None:
    pictures(tmp_path / "data" / "train", {"calm": 2, "sick": 2}, 0)
    pictures(tmp_path / "data" / "val", {"calm": 1, "sick": 1}, 1)
    by_number = ReadOptions(group_by=r"^(\d)\.")
    with pytest.raises(ForgeError, match=r"1 patient\(s\) have images in .*train as well: 0"):
        list_private_data(tmp_path / "data", Given(), None, by_number)
    with pytest.raises(ForgeError, match="as well: 0"):
        list_private_data(tmp_path / "data" / "train", Given(), None, by_number, tmp_path / "data" / "val")
