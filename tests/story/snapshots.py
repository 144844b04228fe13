"""All of a repository that a failed command must leave as it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from story.hospitals import Said, git_ok


@dataclass(frozen=True)
class Snapshot:
    files: dict[str, bytes]
    index: str
    status: str
    refs: str
    objects: str
    git_folder: frozenset[str]


def snapshot(top: Path, *, objects: bool = True) -> Snapshot:
    """Work tree, index, refs, objects (unless git itself stores some) and what lies in .git."""
    git_folder = top / ".git"
    return Snapshot(
        files={
            path.relative_to(top).as_posix(): b"link" if path.is_symlink() else path.read_bytes()
            for path in top.rglob("*")
            if git_folder not in path.parents and (path.is_file() or path.is_symlink())
        },
        status=git_ok(top, "status", "--porcelain", "--untracked-files=all"),
        index=git_ok(top, "ls-files", "--stage"),
        refs=git_ok(top, "for-each-ref") + (git_folder / "HEAD").read_text() + git_ok(top, "rev-parse", "HEAD"),
        objects=git_ok(top, "cat-file", "--batch-all-objects", "--batch-check") if objects else "",
        # Files of git's own that come and go are left out: its log of the refs, and the last message.
        git_folder=frozenset(
            path.name
            for path in git_folder.iterdir()
            if path.name not in ("logs", "COMMIT_EDITMSG", "ORIG_HEAD", "AUTO_MERGE", "forge")
        ),
    )


def assert_refused(said: Said, *words: str, code: int = 128, hint: bool = True) -> None:
    """One clear message with what is wrong and the next step; no traceback, nothing on standard output."""
    assert said.code == code, said
    assert said.out == "", said
    lines = said.err.splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1, said.err
    assert lines[0].startswith("error: "), said.err
    assert not hint or [line for line in lines if line.startswith("hint: ")], said.err
    for word in (*words,):
        assert word in said.err, said.err
    for never in ("Traceback", "this is a bug", "Error:", "crash.log"):
        assert never not in said.err, said.err
