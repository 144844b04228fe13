"""Processes forked from the tests, which have torch in memory already."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from forge import cli

TRACES = frozenset(
    {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.move", "subprocess.Popen"}
)
WRITING = os.O_WRONLY | os.O_RDWR
BROKEN = 99  # exit code of a child that raised: a bug of the test


@contextmanager
def forked(does: Callable[[], int], said: Path | None = None) -> Iterator[int]:
    """A child, in a process group of its own, that does something and exits with the code that this returns.

    said: a file for what it writes on standard output and standard error. What is left of the group when the block
    ends is killed.
    """
    child = os.fork()
    if child == 0:
        code = BROKEN
        try:
            os.setpgid(0, 0)
            if said is not None:
                target = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(target, 1)
                os.dup2(target, 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            code = does()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            with suppress(Exception):  # it may have nowhere to write
                traceback.print_exc()
                sys.stderr.flush()
        finally:
            os._exit(code)  # whatever happens: two processes must not go on with the tests
    try:
        yield child
    finally:
        kill_group(child)


def exit_code(child: int) -> int:
    """Wait for the end of a child; as subprocess has it, a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_event(number: int, does: Callable[[], int], count_to: Path) -> Callable[[], int]:
    """What a child does to run `does` and be killed, with all that it started, just before its `number`-th event.

    An event is one that can leave a trace on the disk: a file opened for writing, moved, removed, a program started.
    Where it lives to the end, how many events there were is written to `count_to`.
    """
    seen, over = 0, False

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if over or event not in TRACES or (event == "open" and not arguments[2] & WRITING):  # type: ignore[operator]
            return
        seen += 1
        if seen == number:
            os.killpg(0, signal.SIGKILL)

    def run() -> int:
        sys.addaudithook(watch)  # for the rest of this process, which is a child
        nonlocal over
        code = does()
        over = True
        count_to.write_text(str(seen))
        return code

    return run


def kill_group(child: int) -> None:
    """SIGKILL for a child and all that it started, if anything of it is left."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        return


def forge_in(top: Path, *args: str | Path) -> Callable[[], int]:
    """What a child does to be `git forge ARGS` in a folder."""

    def run() -> int:
        os.chdir(top)
        return cli.run([str(arg) for arg in args])

    return run


def remove_locks(git_folder: Path) -> None:
    """What git tells people to do once they have seen that the git which held these locks has died."""
    for lock in git_folder.rglob("*.lock"):
        if "forge" not in lock.relative_to(git_folder).parts:
            lock.unlink()
