"""Processes forked from the tests, which have torch in memory already."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from forge import cli

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
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    try:
        yield child
    finally:
        kill_group(child)


def exit_code(child: int) -> int:
    """Wait for the end of a child; as subprocess has it, a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


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
