"""A small model for faults to befall: breast on main, colon on a branch, and no torch anywhere."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import quick_forge
from sample_models import SampleModel
from story.hospitals import copy_repository, git_ok

from forge.clone import setup as clone_setup
from forge.operations import changing, folding


@pytest.fixture(autouse=True)
def no_search() -> Iterator[None]:
    """As in the program below: nothing is searched. Not by the test's own monkeypatch, which may be undone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changing, "fold", quick_forge.fold)
        patch.setattr(folding, "fold", quick_forge.fold)
        yield


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path) -> SampleModel:
    """Not to be changed: copy it."""
    folder = tmp_path_factory.mktemp("made")
    program = folder / "git-forge"
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, quick_forge.__file__])} "$@"\n')
    program.chmod(0o755)
    model = SampleModel(folder / "model")
    # Copies of this folder are the same to git, so that it need not hash every file of every test again.
    git_ok(model.top, "config", "core.checkStat", "minimal")
    git_ok(model.top, "config", "core.trustctime", "false")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clone_setup, "program", lambda: shlex.quote(str(program)))
        clone_setup.install(model.repo)
    clone_setup.add_attributes(model.repo)
    model.commit("Set up")
    model.git("switch", "--quiet", "-c", "colon")
    model.add_contribution("colon", {"colon": 1.0}, version=3)
    model.git("switch", "--quiet", "main")
    model.add_contribution("breast", {"breast": 1.0})
    return model


@pytest.fixture
def model(made: SampleModel, tmp_path: Path) -> Path:
    """A copy for one test, on main."""
    return copy_repository(made.top, tmp_path / "model")
