"""`git forge resolve`, `git forge refold` and the gate with real searches: the model is the one that a merge makes.

All that they say and leave alone is tested in tests/operations, where nothing is searched.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from story.hospitals import (
    ITEM,
    Merged,
    change_settings,
    coefficients,
    copy_repository,
    forge,
    forge_ok,
    git,
    git_ok,
    item,
)
from story.snapshots import assert_refused, snapshot
from story.test_histories import assert_clean


@pytest.fixture
def breast(merged: Merged, tmp_path: Path) -> Path:
    """main with breast in it; colon and lung are still to come."""
    return copy_repository(merged("breast"), tmp_path / "model")


def tree(top: Path, rev: str = "HEAD") -> str:
    return git_ok(top, "rev-parse", f"{rev}^{{tree}}")


def stop(top: Path, *args: str) -> None:
    """A git command that stops with the forge item in conflict: the merge driver is gone from PATH."""
    done = git(top, "-c", "merge.forge.driver=gone-from-path %O %A %B", *args)
    assert done.returncode != 0, done.stdout
    assert git_ok(top, "ls-files", "--unmerged", ITEM)


def assert_whole(top: Path) -> None:
    assert_clean(top)
    said = forge(top, "verify")
    assert said.code == 0, said


def test_resolve_makes_the_merge_that_the_driver_makes(breast: Path, merged: Merged) -> None:
    stop(breast, "merge", "--no-edit", "lung")
    forge_ok(breast, "resolve")
    git_ok(breast, "merge", "--continue")
    done = merged("breast", "lung")
    assert tree(breast) == tree(done)
    assert git_ok(breast, "log", "-1", "--format=%(trailers)") == git_ok(done, "log", "-1", "--format=%(trailers)")
    assert_whole(breast)


def test_resolve_makes_the_revert_that_the_driver_makes(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast", "colon", "lung"), tmp_path / "model")
    stop(top, "revert", "-m", "1", "--no-edit", "HEAD^")
    forge_ok(top, "resolve", "--accept")
    git_ok(top, "revert", "--continue")
    found = tree(top)
    git_ok(top, "reset", "--quiet", "--hard", "HEAD^")
    done = git(top, "revert", "-m", "1", "--no-edit", "HEAD^")
    assert done.returncode == 0 and tree(top) == found, done.stderr
    assert_whole(top)


def test_refold_makes_the_merge_that_the_driver_makes(breast: Path, merged: Merged, tmp_path: Path) -> None:
    """A clone without git forge, and somebody commits the markers. A push of that is refused and says what to do."""
    forge_ok(breast, "uninstall")
    assert git(breast, "merge", "lung").returncode == 1
    git_ok(breast, "commit", "--quiet", "-am", "With markers")
    forge_ok(breast, "install")
    git_ok(tmp_path, "init", "--quiet", "--bare", "origin")
    pushed = git(breast, "push", str(tmp_path / "origin"), "main")
    assert pushed.returncode != 0 and "git forge refold" in pushed.stderr
    forge_ok(breast, "refold")
    git_ok(breast, "commit", "--quiet", "-m", "Forge it")
    assert tree(breast) == tree(merged("breast", "lung"))
    trailers = git_ok(breast, "log", "-1", "--format=%(trailers:key=Forge-Contribution,valueonly)")
    assert trailers.split("\n") == [f"{name} {value:.6f}" for name, value in coefficients(item(breast)).items()]
    assert_whole(breast)
    git_ok(breast, "push", "--quiet", str(tmp_path / "origin"), "main")


def test_the_gate_stops_a_merge_that_wrecks_a_task(breast: Path) -> None:
    """Coefficients may only be next to nothing, so the merged model is the base again."""
    change_settings(breast, "gate = 1.0", "gate = 0.2")
    change_settings(breast, "start = 0.5", "start = 0.0")
    change_settings(breast, "bounds = 1.5", "bounds = 0.000001")
    change_settings(breast, 'method = "shiwa"', 'method = "joint"')  # has no "keep ours" to fall back on
    git_ok(breast, "commit", "--quiet", "-am", "Search next to nothing")
    before = snapshot(breast, objects=False)
    done = git(breast, "merge", "--no-edit", "lung")
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "loses more than the gate of forge.toml allows (0.2" in said
    assert "\n  breast: accuracy 1.000 -> 0." in said and "hint: `git forge resolve --accept`" in said
    assert_refused(forge(breast, "resolve"), "breast: accuracy 1.000 -> 0.", "--accept", code=1)
    git_ok(breast, "merge", "--abort")
    assert snapshot(breast, objects=False) == before
    stop(breast, "merge", "--no-edit", "lung")
    assert "Forge-Accepted: breast" in forge_ok(breast, "resolve", "--accept").out
    git_ok(breast, "merge", "--continue")
    assert item(breast)["accepted"] == ["breast"]
    assert "Forge-Accepted: breast" in git_ok(breast, "log", "-1", "--format=%(trailers)")
    assert_whole(breast)
    change_settings(breast, "gate = 0.2", "gate = 1.0")
    git_ok(breast, "commit", "--quiet", "-am", "No gate")
    git_ok(breast, "merge", "--no-edit", "colon")
    assert "accepted" not in item(breast)
