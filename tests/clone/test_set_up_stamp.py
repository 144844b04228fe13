"""The note that a clone is set up: it holds for as long as nothing has changed that it depends on, and no longer."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_models import SampleModel

from forge.cli import run
from forge.clone import set_up_stamp, setup


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleModel:
    model = SampleModel(tmp_path / "model")
    model.add_contribution("lung", {"lung": 0.5})
    model.write(".gitattributes", b"")
    monkeypatch.chdir(model.top)
    setup.install(model.repo)
    assert run(["log"]) == 0
    assert set_up_stamp.holds(model.repo)
    return model


def test_a_clone_that_is_set_up_is_looked_at_once(
    model: SampleModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(repo: object) -> None:
        raise AssertionError("looked at again")

    monkeypatch.setattr(setup, "ensure_installed", never)
    monkeypatch.setattr(setup, "is_installed", never)
    for verb in ("log", "show", "status"):
        assert run([verb]) == 0
    capsys.readouterr()


def other_hook(model: SampleModel) -> None:
    (model.repo.common_dir / "hooks" / "pre-push").write_text("#!/bin/sh\n")


def no_hook(model: SampleModel) -> None:
    (model.repo.common_dir / "hooks" / "pre-push").unlink()


CHANGES: dict[str, Callable[[SampleModel], object]] = {
    "a driver": lambda model: model.git("config", "merge.forge.driver", "/gone/git-forge merge-driver %O %A %B %P"),
    "a filter is gone": lambda model: model.git("config", "--unset", "filter.forge.process"),
    "a remote": lambda model: model.git("remote", "add", "origin", "https://example.org/model"),
    "a hook that may not run": lambda model: (model.repo.common_dir / "hooks" / "pre-push").chmod(0o644),
    "another hook": other_hook,
    "no hook": no_hook,
    "hooks elsewhere": lambda model: model.git("config", "core.hooksPath", "/nowhere"),
    "payloads in git-lfs": lambda model: model.write(".gitattributes", b"*.safetensors filter=lfs\n"),
    "no .gitattributes": lambda model: (model.top / ".gitattributes").unlink(),
    "taken out": lambda model: run(["uninstall"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_it_holds_no_longer(model: SampleModel, change: str) -> None:
    CHANGES[change](model)
    assert not set_up_stamp.holds(model.repo)


def test_what_is_taken_away_is_set_up_again(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    no_hook(model)
    capsys.readouterr()
    assert run(["log"]) == 0
    assert "it was done again" in capsys.readouterr().err
    assert (model.repo.common_dir / "hooks" / "pre-push").exists()
    assert run(["log"]) == 0
    assert set_up_stamp.holds(model.repo)


def test_git_lfs_that_is_there_now(model: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "git-lfs").write_text("#!/bin/sh\n")
    (folder / "git-lfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert not set_up_stamp.holds(model.repo)


def test_another_git_forge(model: SampleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/another/bin/python")
    assert not set_up_stamp.holds(model.repo)


def test_a_set_up_that_is_not_as_we_write_it_is_looked_at_each_time(model: SampleModel) -> None:
    """Such as another tool's hook, which calls ours: what it needs is not known."""
    hook = model.repo.common_dir / "hooks" / "pre-push"
    hook.write_text(hook.read_text() + "true\n")
    assert run(["log"]) == 0
    assert not set_up_stamp.holds(model.repo)


def test_a_note_that_cannot_be_written_or_read_is_none(model: SampleModel) -> None:
    folder = model.repo.common_dir / "forge"
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert run(["log"]) == 0
    assert not set_up_stamp.holds(model.repo)
    folder.unlink()
    (folder / set_up_stamp.FILE).mkdir(parents=True)
    assert run(["log"]) == 0
    assert not set_up_stamp.holds(model.repo)
