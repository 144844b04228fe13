"""git forge gc: what is kept under .git/forge, and what of it goes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from story.hospitals import forge, forge_ok

from forge.git.running import Repository
from forge.repo import locks as lock

DAY = 86400


@pytest.fixture
def kept(repository: Repository) -> Path:
    """Everything that can be under .git/forge: young and old."""
    folder = repository.common_dir / "forge"
    for path, days in (
        ("distilling/young.safetensors", 1),
        ("distilling/old.safetensors", 20),
        ("distilling/held.safetensors", 20),
        ("distilling/young.new", 0),
        ("distilling/held.new", 0),
        ("crash.log", 13),
        ("other/file", 400),
    ):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 1234)
        os.utime(file, (time.time() - days * DAY - 60,) * 2)
    return folder


def files(folder: Path) -> set[str]:
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {path for path in paths if not path.startswith("locks/")}


def test_only_what_is_stale_and_nobody_uses_goes(repository: Repository, kept: Path) -> None:
    everything = files(kept)
    with lock.only_one(lock.unfinished_lock(repository, "held"), "git forge distill held"):
        assert forge_ok(repository.top, "gc", "--dry-run").out.splitlines() == [
            "File                          What                     Bytes       Age  State",
            "crash.log                     last crash               1,234   13 days  kept",
            "distilling/held.new           unfinished distillation  1,234    0 days  in use",
            "distilling/held.safetensors   unfinished distillation  1,234   20 days  in use",
            "distilling/old.safetensors    unfinished distillation  1,234   20 days  stale",
            "distilling/young.new          unfinished distillation  1,234    0 days  stale",
            "distilling/young.safetensors  unfinished distillation  1,234     1 day  kept",
            "other/file                    not git forge's          1,234  400 days  kept",
        ]
        assert files(kept) == everything
        found = json.loads(forge_ok(repository.top, "gc", "--json").out)
    gone = {"distilling/old.safetensors", "distilling/young.new"}
    assert {each["path"] for each in found if each["removed"]} == gone
    assert files(kept) == everything - gone
    assert [each["bytes"] for each in found] == [1234] * 7
    forge_ok(repository.top, "gc", "--prune=now")
    assert files(kept) == {"other/file"}


def test_the_date_is_gits(repository: Repository, kept: Path, run_git: object) -> None:
    assert callable(run_git)
    run_git(repository.top, "config", "forge.gcExpire", "never")
    forge_ok(repository.top, "gc")
    assert "distilling/old.safetensors" in files(kept)
    run_git(repository.top, "config", "forge.gcExpire", "10.days.ago")
    forge_ok(repository.top, "gc")
    assert "crash.log" not in files(kept)
    said = forge(repository.top, "gc", "--prune=some day")
    assert said.code == 128
    assert "hint: give a date as git takes it, such as 2.weeks.ago, now or never" in said.err


def test_nothing(repository: Repository) -> None:
    assert forge_ok(repository.top, "gc").out == "nothing is kept\n"
