"""A disk that is full, and a repository that may only be read: a message, nothing lost, and later it works."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.files import write_contribution
from faults.processes import exit_code, forge_in, forked, remove_locks
from story.hospitals import copy_repository, forge_ok, git, git_ok
from story.snapshots import snapshot

from forge.errors import ForgeError
from forge.git.running import find_repository
from forge.operations.verify import problems_of

NOBODY = 65534
SMALL = 8 << 20  # bytes of the disk that fills up


@pytest.fixture
def ready(model: Path) -> Path:
    """main with breast, colon on a branch, lung in the work tree."""
    write_contribution(model, "lung")
    return model


@pytest.fixture
def unbroken(ready: Path) -> str:
    """The tree of the next commit."""
    twin = copy_repository(ready, ready.parent / "twin")
    forge_ok(twin, "commit")
    return git_ok(twin, "rev-parse", "HEAD^{tree}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of SMALL bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("only root may mount a file system to fill up")
    yield folder
    os.chdir(tmp_path)
    subprocess.run(["umount", str(folder)], check=True)


def assert_in_words(said: str) -> None:
    assert said.startswith("error: ") or "\nerror: " in said, said
    for never in ("Traceback", "this is a bug"):
        assert never not in said, said


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill(folder: Path, left: int) -> Path:
    """A file that leaves so many bytes on its disk."""
    filler = folder / "filler"
    filler.write_bytes(b"\0" * max(0, free(folder) - left))
    return filler


@pytest.mark.parametrize("left", [0, 8, 16, 32, 64, 128])
def test_commit_on_a_full_disk(ready: Path, unbroken: str, small_disk: Path, tmp_path: Path, left: int) -> None:
    """With so many KiB left: all of the commit, or nothing of it."""
    top = copy_repository(ready, small_disk / "model")
    before = snapshot(top, objects=False)
    filler = fill(small_disk, left << 10)
    said = tmp_path / "said"
    with forked(forge_in(top, "commit"), said) as child:
        code = exit_code(child)
    filler.unlink()
    if code != 0:
        assert code == 128
        assert_in_words(said.read_text())
        assert snapshot(top, objects=False) == before
        forge_ok(top, "commit")
    assert git_ok(top, "rev-parse", "HEAD^{tree}") == unbroken
    assert git_ok(top, "status", "--porcelain") == ""
    assert git(top, "fsck", "--strict").returncode == 0
    assert problems_of(find_repository(top), "HEAD", scores=False) == []


def limited(does: Callable[[], int], size: int) -> Callable[[], int]:
    """What a child does in which no file can grow beyond `size` bytes: Python sees an error, git gets a signal."""

    def run() -> int:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return does()

    return run


@pytest.mark.parametrize("size", [0, 200, 600])
def test_commit_where_files_cannot_grow(ready: Path, unbroken: str, tmp_path: Path, size: int) -> None:
    before = snapshot(ready, objects=False)
    with forked(limited(forge_in(ready, "commit"), size), Path(os.devnull)) as child:
        assert exit_code(child) == 128
    remove_locks(ready / ".git")  # git dies of it: a signal that Python gives back to what it starts
    assert snapshot(ready, objects=False) == before
    forge_ok(ready, "commit")
    assert git_ok(ready, "rev-parse", "HEAD^{tree}") == unbroken


def test_merge_on_a_full_disk(ready: Path, small_disk: Path) -> None:
    """git, the driver or the hook: whoever finds the disk full, git merge --abort or nothing brings main back."""
    top = copy_repository(ready, small_disk / "model")
    before = snapshot(top, objects=False)
    for left in (0, 8, 24, 40):
        filler = fill(small_disk, left << 10)
        done = git(top, "merge", "--no-edit", "colon")
        filler.unlink()
        assert done.returncode != 0 or left
        assert "Traceback" not in done.stderr and "this is a bug" not in done.stderr
        if done.returncode == 0:
            git_ok(top, "reset", "--quiet", "--hard", "HEAD~1")
        elif (top / ".git" / "MERGE_HEAD").exists():
            git_ok(top, "merge", "--abort")
        else:
            git_ok(top, "reset", "--quiet", "--hard")
            git_ok(top, "clean", "--quiet", "--force", "-d", "contributions/colon", ".merge_file_*")
        found = snapshot(top, objects=False)
        assert (found.files, found.status, found.refs) == (before.files, before.status, before.refs), done.stderr
    git_ok(top, "merge", "--no-edit", "colon")
    assert problems_of(find_repository(top), "HEAD", scores=False) == []


def test_a_file_that_cannot_be_finished(tmp_path: Path) -> None:
    """/dev/full: what was there stays, and what was begun does not."""
    from forge.operations.contributing import write_files

    folder = tmp_path / "contributions" / "x"
    write_files(folder, {"card.toml": b"old"})

    def write() -> int:
        try:
            write_files(folder, {"card.toml": b"new" * 10_000})
        except OSError:
            return 7
        return 0

    with forked(limited(write, 100)) as child:
        assert exit_code(child) == 7
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"card.toml": b"old"}


# -- a repository that may only be read -------------------------------------------------------------------


@pytest.fixture
def read_only(ready: Path) -> Iterator[Path]:
    """`ready` on a file system that may only be read; where that cannot be mounted, without the rights to write."""
    mounted = ready.parent / "read-only"
    mounted.mkdir()
    bound = subprocess.run(["mount", "--bind", str(ready), str(mounted)], capture_output=True)
    if bound.returncode == 0:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mounted)], check=True)
        yield mounted
        os.chdir(ready.parent)
        subprocess.run(["umount", str(mounted)], check=True)
        return
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    modes = {path: path.stat().st_mode for path in (ready, *ready.rglob("*")) if not path.is_symlink()}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    yield ready
    for path, mode in sorted(modes.items()):
        path.chmod(mode)


READING = [
    ("status",), ("log",), ("show",), ("show", "--json"), ("diff", "HEAD", "colon"), ("verify", "--no-scores"),
]  # fmt: skip
WRITING = [
    ("commit",), ("init",), ("uninstall",), ("resolve",), ("refold",), ("storage", "lfs"), ("storage", "git"),
]  # fmt: skip


def test_what_reads_works_in_a_repository_that_may_only_be_read(read_only: Path, tmp_path: Path) -> None:
    for number, command in enumerate(READING):
        said = tmp_path / f"said-{number}"
        with forked(forge_in(read_only, *command), said) as child:
            assert exit_code(child) == 0, (command, said.read_text())
        assert "Traceback" not in said.read_text()


def test_what_writes_says_that_it_cannot(read_only: Path, tmp_path: Path) -> None:
    before = snapshot(read_only)
    for number, command in enumerate(WRITING):
        said = tmp_path / f"said-{number}"
        with forked(forge_in(read_only, *command), said) as child:
            code = exit_code(child)
        assert code == 128, (command, said.read_text())
        assert_in_words(said.read_text())
    assert git(read_only, "merge", "--no-edit", "colon").returncode != 0
    assert snapshot(read_only) == before


def test_a_lock_that_cannot_be_made_is_said(read_only: Path) -> None:
    from forge.repo import locks as lock

    repo = find_repository(read_only)
    with pytest.raises(ForgeError, match="cannot write"), lock.only_one(lock.work_tree_lock(repo), "x"):
        raise AssertionError
