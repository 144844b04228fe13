"""Clocks that jump: dates of commits decide nothing, and a file that changed is noticed whatever its date says."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.files import contribution_files, write_contribution
from story.hospitals import ITEM, copy_repository, forge, forge_ok, git_ok, item

from forge.repo.leftovers import MERGE_FILE, tidy

YEARS = ("1980-01-01T00:00:00Z", "2099-12-31T23:59:59Z", "2001-09-09T01:46:40Z", "2038-01-19T03:14:08Z")
TWO = ("lung", "skin")
ADAPTER = "contributions/lung/adapter_model.safetensors"


def two_merges(top: Path, dated: Callable[[int], None]) -> None:
    """Two contributions on branches from main, merged one after the other; `dated` sets the clock before each step."""
    for number, name in enumerate(TWO):
        dated(number)
        git_ok(top, "switch", "--quiet", "-c", f"new-{name}", "main")
        write_contribution(top, name)
        forge_ok(top, "commit")
    git_ok(top, "switch", "--quiet", "main")
    for number, name in enumerate(TWO):
        dated(number + 2)
        git_ok(top, "merge", "--quiet", "--no-edit", "--no-ff", f"new-{name}")


def test_dates_of_commits_decide_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every commit dated decades before or after its parent: the same model, and the versions in their order."""
    usual = copy_repository(model, model.parent / "usual")
    two_merges(usual, lambda number: None)

    def clock(number: int) -> None:
        for who in ("AUTHOR", "COMMITTER"):
            monkeypatch.setenv(f"GIT_{who}_DATE", YEARS[number % len(YEARS)])

    two_merges(model, clock)
    trees = [git_ok(top, "rev-parse", "HEAD^{tree}") for top in (model, usual)]
    assert trees[0] == trees[1]
    forge_ok(model, "verify", "--no-scores")
    logs = [json.loads(forge_ok(top, "log", "--json").out) for top in (model, usual)]
    assert [each["changes"] for each in logs[0]] == [each["changes"] for each in logs[1]]
    assert [each["date"][:4] for each in logs[0]][:2] == ["2038", "2001"]
    everything = json.loads(forge_ok(model, "log", "--all-parents", "--json").out)
    assert len(everything) == len(logs[0]) + len(TWO)


CHANGED = contribution_files("lung", version=2)["adapter_model.safetensors"]  # of the same size


@pytest.mark.parametrize("when", ["the same moment", "the future"])
def test_a_file_that_changed_is_noticed(model: Path, when: str) -> None:
    """Same size, and the date of the file before or one that is to come."""
    git_ok(model, "config", "--unset", "core.checkStat")  # set in these tests so that copies are the same to git
    git_ok(model, "config", "--unset", "core.trustctime")
    write_contribution(model, "lung")
    forge_ok(model, "commit")
    before = item(model)["contributions"]["lung"]
    path = model / ADAPTER
    first = path.stat()
    assert path.read_bytes() != CHANGED and len(CHANGED) == first.st_size
    fresh = path.with_name("fresh")  # as git forge writes files: beside, then moved
    fresh.write_bytes(CHANGED)
    moments = {"the same moment": first.st_mtime_ns, "the future": 4102444799 * 10**9}
    os.utime(fresh, ns=(moments[when], moments[when]))
    fresh.replace(path)
    assert "lung" in forge_ok(model, "status").out
    forge_ok(model, "commit")
    after = item(model)["contributions"]["lung"]
    assert after["adapter"] != before["adapter"]
    assert after["adapter"] == git_ok(model, "rev-parse", f"HEAD:{ADAPTER}")
    forge_ok(model, "verify", "--no-scores")


def test_a_change_right_after_a_commit_is_noticed(model: Path) -> None:
    """Within the same tick of the clock, in place and of the same size: git compares contents (racily clean)."""
    write_contribution(model, "lung")
    forge_ok(model, "commit")
    path = model / ADAPTER
    first = path.read_bytes()
    index = model / ".git" / "index"
    for _ in range(2):
        moment = path.stat().st_mtime_ns
        path.write_bytes(CHANGED if path.read_bytes() == first else first)
        for file in (path, index):
            os.utime(file, ns=(moment, moment))
        forge_ok(model, "commit")
        blob = git_ok(model, "hash-object", f"--path={ADAPTER}", ADAPTER)
        assert item(model)["contributions"]["lung"]["adapter"] == blob == git_ok(model, "rev-parse", f"HEAD:{ADAPTER}")


def test_locks_know_no_time(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set back or forward during work: no lock gets old, no file of a merge is taken for old."""
    from forge.git.running import find_repository

    path = model / f"{MERGE_FILE}x"
    path.write_bytes((model / ITEM).read_bytes())
    repo, now = find_repository(model), time.time()
    monkeypatch.setattr(time, "time", lambda: now - 10**9)  # the file comes from the future
    assert tidy(repo) == [] and path.exists()
    monkeypatch.undo()
    write_contribution(model, "lung")
    stamp = model / ".git" / "forge" / "locks" / "work-tree"
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text("git forge commit (process 1)\n")  # of long ago, by its date; held by nobody
    os.utime(stamp, (0, 0))
    assert forge(model, "commit").code == 0
