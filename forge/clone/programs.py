"""The programs that a clone's settings and hooks name: whether git could start them.

A file that may be executed is not enough: its interpreter, or what it imports, may be gone since it was recorded.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PATIENCE = 60.0  # seconds; a disk that has to wake up is no reason to take a program for dead


def can_start(words: Sequence[str]) -> bool:
    """Whether a recorded git forge, a program and its first arguments, lives; one that is not this is started once."""
    if not words or not os.access(words[0], os.X_OK):
        return False
    # This very program runs, or the Python of this very program.
    return Path(words[0]).parent == Path(sys.executable).parent or _starts(tuple(words))


@functools.cache
def _starts(words: tuple[str, ...]) -> bool:
    # Where it lies, not in the work tree, which a branch has filled.
    try:
        done = subprocess.run(
            [*words, "--version"],
            cwd=Path(words[0]).parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
