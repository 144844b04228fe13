"""Repositories that are made once: three hospitals on three branches, and main after merges in every order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from story.hospitals import (
    NAMES,
    Merged,
    contribute,
    contribution_files,
    copy_repository,
    load_tiny_base,
    make_base,
    merged_in_order,
    start_model,
)

from forge.model.base import BaseModel

Files = Mapping[str, Mapping[str, bytes]]


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def base(base_folder: Path) -> BaseModel:
    return load_tiny_base(base_folder)


@pytest.fixture(scope="session")
def contributions(base: BaseModel) -> Files:
    """The files of the three contributions by name."""
    return {name: contribution_files(base, name) for name in NAMES}


@pytest.fixture(scope="session")
def hospitals(
    tmp_path_factory: pytest.TempPathFactory, isolated_home: Path, base_folder: Path, contributions: Files
) -> Path:
    """main without contributions, and one branch for each of three; not to be changed: copy it."""
    top = start_model(tmp_path_factory.mktemp("hospitals") / "model", base_folder)
    for name in NAMES:
        contribute(top, name, contributions[name])
    return top


@pytest.fixture
def model(hospitals: Path, tmp_path: Path) -> Path:
    """A copy of `hospitals` for one test, on main."""
    return copy_repository(hospitals, tmp_path / "model")


@pytest.fixture(scope="session")
def merged(tmp_path_factory: pytest.TempPathFactory, hospitals: Path) -> Merged:
    return merged_in_order(tmp_path_factory, hospitals)
