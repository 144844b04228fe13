"""A clone on a machine where git forge is not installed: everything is there, and nothing merges silently."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from story.conftest import Files
from story.hospitals import ITEM, NAMES, Merged, forge, git, git_ok, item
from story.test_histories import assert_clean


@pytest.fixture(scope="module")
def bare_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with git, a shell and no git-forge."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("git", "sh", "env", "sed", "cat"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    assert shutil.which("git-forge", path=str(folder)) is None
    return str(folder)


@pytest.fixture
def clone(hospitals: Path, merged: Merged, tmp_path: Path, bare_path: str) -> Path:
    """A fresh clone whose main holds all three, with the three branches; no setting of git forge in it."""
    top = tmp_path / "clone"
    git_ok(tmp_path, "clone", "--quiet", str(merged(*NAMES)), str(top), PATH=bare_path)
    for name in NAMES:
        git_ok(top, "branch", "--quiet", name, f"origin/{name}", PATH=bare_path)
    assert "forge" not in (top / ".git" / "config").read_text().replace(str(merged(*NAMES)), "")
    assert not [path for path in (top / ".git" / "hooks").iterdir() if path.suffix != ".sample"]
    return top


def test_the_files_are_what_safetensors_and_peft_read(clone: Path, contributions: Files) -> None:
    from peft import PeftConfig
    from peft.utils import load_peft_weights
    from safetensors.numpy import load, load_file

    for name in NAMES:
        folder = clone / "contributions" / name
        for file in ("adapter_model.safetensors", "distilled.safetensors"):
            written = load(contributions[name][file])
            found = load_file(folder / file)
            assert found.keys() == written.keys()
            assert all(np.array_equal(found[key], written[key]) for key in found)
        config = PeftConfig.from_pretrained(str(folder))
        assert (config.peft_type.value, config.r, config.lora_alpha) == ("LORA", 16, 16)
        weights = load_peft_weights(str(folder), device="cpu")
        assert weights.keys() == load(contributions[name]["adapter_model.safetensors"]).keys()


def test_what_git_stores_is_what_lies_in_the_folder(clone: Path, bare_path: str) -> None:
    for line in git_ok(clone, "ls-tree", "-r", "HEAD", PATH=bare_path).splitlines():
        head, path = line.split("\t")
        content = (clone / path).read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        assert head.split()[2] == blob, path
    for name, entry in item(clone)["contributions"].items():
        assert entry["adapter"] == git_ok(clone, "rev-parse", f"HEAD:contributions/{name}/adapter_model.safetensors")
    assert_clean(clone)
    done = git(clone, "fsck", "--full", "--strict", PATH=bare_path)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_text_merge_never_blends_two_models(clone: Path, bare_path: str) -> None:
    git_ok(clone, "switch", "--quiet", "breast", PATH=bare_path)
    done = git(clone, "merge", "--no-edit", "colon", PATH=bare_path)
    assert done.returncode == 1
    assert f"CONFLICT (content): Merge conflict in {ITEM}" in done.stdout
    assert "<<<<<<<" in (clone / ITEM).read_text()

    said = forge(clone, "status")  # the next command of git forge sets the clone up and says so
    assert "This clone was not set up for git forge yet" in said.err
    assert "conflict" in said.out
    again = forge(clone, "status")
    assert "not set up" not in again.err

    git_ok(clone, "merge", "--abort")
    git_ok(clone, "merge", "--no-edit", "colon")  # and now the driver settles it
    assert sorted(item(clone)["contributions"]) == ["breast", "colon"]


def test_a_clone_is_noticed_and_set_up_by_the_first_command(clone: Path) -> None:
    assert os.environ.get("GIT_CONFIG_GLOBAL")
    said = forge(clone, "log")
    assert said.code == 0
    assert said.err == (
        "This clone was not set up for git forge yet; its drivers and hooks are now (git forge install).\n"
    )
    assert git_ok(clone, "config", "merge.forge.driver").endswith("merge-driver %O %A %B %P")
    assert forge(clone, "log").err == ""
    assert_clean(clone)
