"""What every history is looked at for: by git's own listings and plain JSON, and by `git forge verify`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from histories.oracle import Recipe, merge_problems, tree_problems
from story.hospitals import ITEM, forge, forge_ok, git, git_ok, item

Done = subprocess.CompletedProcess[str]


def recipe(top: Path, rev: str) -> Recipe | None:
    """The forge item of a revision, None where there is none: read without git forge."""
    done = git(top, "show", f"{rev}:{ITEM}")
    return Recipe(done.stdout.encode()) if done.returncode == 0 else None


def names(top: Path, rev: str = "HEAD") -> list[str]:
    """The contributions that the forge item of a revision names, sorted."""
    return sorted(item(top, rev)["contributions"])


def assert_whole(top: Path, rev: str = "HEAD", *, scores: bool = False) -> None:
    """The version is what it says: digest, tree, files, and with `scores` the recorded scores once more."""
    lines = git_ok(top, "ls-tree", "-r", "-z", "--full-tree", rev).split("\0")
    blobs = {line.partition("\t")[2]: line.split("\t")[0].split(" ")[2] for line in lines if line}
    found = recipe(top, rev)
    settings = git_ok(top, "show", f"{rev}:forge.toml").encode()
    assert tree_problems(found.text if found else None, settings, blobs) == []
    forge_ok(top, "verify", rev, "--scores" if scores else "--no-scores")


def assert_merge(top: Path, ancestor: str, ours: str, theirs: str, result: str = "HEAD") -> None:
    """The forge item of `result` is what the rules make of the three: contributions, and coefficients to the digit."""
    mine, other, after = recipe(top, ours), recipe(top, theirs), recipe(top, result)
    assert mine and other and after
    assert merge_problems(recipe(top, ancestor), mine, other, after) == []
    assert_whole(top, result)


def assert_stopped(done: Done, *words: str) -> None:
    """git stopped and said these words; no traceback."""
    said = done.stdout + done.stderr
    assert done.returncode not in (0, None), said
    for word in words:
        assert word in said, said
    for never in ("Traceback", "this is a bug"):
        assert never not in said, said


def assert_given_up(top: Path, head: str, *how: str) -> None:
    """After `git HOW` the branch, the index and every file are those of `head` again."""
    git_ok(top, *how)
    assert git_ok(top, "rev-parse", "HEAD") == head
    assert git_ok(top, "write-tree") == git_ok(top, "rev-parse", f"{head}^{{tree}}")
    assert git_ok(top, "status", "--porcelain", "--untracked-files=all") == ""


def head(top: Path, rev: str = "HEAD") -> str:
    return git_ok(top, "rev-parse", rev)


def problems(top: Path, rev: str = "HEAD") -> str:
    """What `git forge verify` finds wrong; it must find something."""
    said = forge(top, "verify", rev, "--no-scores")
    assert said.code == 1, said
    return said.out
