"""A contribution that was erased before anybody withdrew it: the model goes on without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from story.hospitals import LABELS, Merged, copy_repository, forge, forge_ok, git_ok, item
from story.snapshots import assert_refused
from story.test_bad_places import pictures


@pytest.mark.parametrize("verb", ["commit", "refold"])
def test_a_model_goes_on_without_what_was_erased(merged: Merged, tmp_path: Path, verb: str) -> None:
    top = copy_repository(merged("breast", "lung"), tmp_path / "model")
    if verb == "commit":  # of a merge it says: refold
        git_ok(top, "commit", "--quiet", "--allow-empty", "-m", "Later")
    erase = ("-m", "git_filter_repo", "--force", "--invert-paths", "--path", "contributions/breast/")
    subprocess.run([sys.executable, *erase], cwd=top, check=True, capture_output=True)
    images = pictures(tmp_path / "images", dict.fromkeys(LABELS["lung"], 2))
    for args in (("evaluate", "--data", images), ("export", "HEAD", tmp_path / "out", "--format", "peft")):
        assert_refused(forge(top, *args), "files of this version were erased")
    assert "contributions/breast was erased" in forge(top, "verify").out
    assert "git forge refold" in forge_ok(top, "status").out
    forge_ok(top, verb)
    if verb == "refold":
        git_ok(top, "commit", "--quiet", "-m", "Go on without breast")
    assert list(item(top)["contributions"]) == ["lung"]
    forge_ok(top, "verify")
