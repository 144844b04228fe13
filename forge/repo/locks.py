"""Who is at work in a clone: locks that end with the process that holds them, however it ends.

The locks are the operating system's (flock), on small files below the clone's own git folder. The files
themselves stay: one that is removed while another process waits for it would lock nobody out.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forge.console import say
from forge.errors import ForgeError
from forge.git.files import share_as
from forge.git.running import Repository
from forge.processes import is_main
from forge.recipe.checks import check_name

FOLDER = "locks"

# What a file system says that knows no locks: there, nothing keeps two processes apart, as in git of old.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_MOST_SHOWN = 200  # bytes of what a lock file says of its holder


def work_tree_lock(repo: Repository) -> Path:
    """The lock of those who write the forge item, the index or contributions of this work tree."""
    return _folder(repo.git_dir) / "work-tree"


def contribution_lock(repo: Repository, name: str) -> Path:
    """The lock of those who make contributions/NAME in this work tree."""
    return _folder(repo.git_dir) / f"contribution-{check_name(name).lower()}"


def unfinished_lock(repo: Repository, name: str) -> Path:
    """The lock on what is kept of an interrupted distillation, which all work trees of a clone share."""
    return _folder(repo.common_dir) / f"distilling-{check_name(name).lower()}"


def driver_lock(repo: Repository) -> Path:
    """Shared by the merge drivers that are at work in this work tree."""
    return _folder(repo.git_dir) / "merge-drivers"


@contextmanager
def only_one(file: Path, doing: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock `file` during the block.

    doing: what others are told, such as "git forge commit". Where another process holds it, raises ForgeError
    naming that process, or with `wait` says so and waits. Of several processes that share the work, the main one
    holds it.
    """
    if not is_main():
        yield
        return
    descriptor = _open(file)
    try:
        if not _try(descriptor, shared=False):
            holder = _holder(descriptor)
            if not wait:
                raise ForgeError(
                    f"{holder} is at work here already",
                    hint="wait until it has ended; nothing was changed (a process that dies leaves no lock behind)",
                )
            say(f"waiting for {holder} to end", err=True)
            _lock(descriptor)
        _sign(descriptor, doing)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def sharing(file: Path) -> Iterator[None]:
    """Hold the lock `file` during the block together with any others that share it; never fails, never waits."""
    try:
        descriptor = _open(file)
    except ForgeError:  # a clone that may only be read
        yield
        return
    try:
        _try(descriptor, shared=True)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def if_nobody(file: Path) -> Iterator[bool]:
    """Whether nobody holds the lock `file`, in which case nobody can take it during the block; never waits."""
    try:
        descriptor = _open(file)
    except ForgeError:
        yield False
        return
    try:
        yield _try(descriptor, shared=False)
    finally:
        os.close(descriptor)


def _folder(git_folder: Path) -> Path:
    return git_folder / "forge" / FOLDER


def _open(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        share_as(file.parents[2], file.parents[1], file.parents[0], file)
        return descriptor
    except OSError as error:
        raise ForgeError(f"cannot write {file}: {error.strerror}", hint="check its permissions") from error


def _try(descriptor: int, *, shared: bool) -> bool:
    """Take the lock if it is free; True as well where the file system has no locks."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _lock(descriptor: int) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _sign(descriptor: int, doing: str) -> None:
    """Write who holds the lock, for the message of the next one; a full disk costs only that."""
    if sys.platform == "win32":
        return
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{doing} (process {os.getpid()})\n".encode(), 0)
    except OSError:
        return


def _holder(descriptor: int) -> str:
    holder = os.read(descriptor, _MOST_SHOWN).decode("utf-8", "replace").strip()
    return holder if holder.isprintable() and holder else "another git forge"
