"""A model with an attacker: main has breast by an honest hospital; what the attacker brings is the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from story.conftest import Files, base, base_folder, contributions, hospitals, merged, model
from story.hospitals import (
    change_settings,
    contribute,
    copy_repository,
    forge_ok,
    git_ok,
    quick_program,
    set_up_with,
    start_model,
)
from threats.attacker import hospital_files

from forge.model.base import BaseModel

__all__ = ["base", "base_folder", "contributions", "hospitals", "merged", "model"]

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def quick_reviews(request: pytest.FixtureRequest) -> Iterator[None]:
    """The merge that a review makes starts the quick git forge, as the merges of these models do."""
    if "base_folder" not in request.fixturenames:
        yield
        return
    with set_up_with(quick_program(request.getfixturevalue("base_folder"))):
        yield


@pytest.fixture(scope="session")
def site_files(base: BaseModel) -> Files:
    """The files of two hospitals that have the same task, each with images of its own."""
    return {name: hospital_files(base, name, seed) for name, seed in (("breast", 1), ("other", 2))}


@pytest.fixture(scope="session")
def founded(
    tmp_path_factory: pytest.TempPathFactory, isolated_home: Path, base_folder: Path, site_files: Files
) -> Path:
    """main with breast and the default settings, its first commit on the branch start; not to be changed: copy it."""
    top = start_model(tmp_path_factory.mktemp("founded") / "model", base_folder, "mixture", "--settings", "best")
    change_settings(top, "gate = 1.0", "gate = 0.2")
    git_ok(top, "commit", "--quiet", "-am", "A gate")
    git_ok(top, "branch", "start")
    contribute(top, "breast", site_files["breast"])
    git_ok(top, "merge", "--quiet", "breast")
    git_ok(top, "branch", "--quiet", "--delete", "breast")
    return top


@pytest.fixture
def site(founded: Path, tmp_path: Path) -> Path:
    """A copy of `founded` for one test, on main."""
    top = copy_repository(founded, tmp_path / "model")
    forge_ok(top, "status")
    return top
