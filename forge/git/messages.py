"""What git and its hooks say when something goes wrong, as an error of ours: whole, with git's hints as hints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from forge.errors import ForgeError

# Of a damaged object git says first what its decompressor said, and then which object it is.
_DEEP = ("error: inflate:", "error: garbage at end of loose object")
# git's words for a lock that another git holds, or one that was killed has left behind.
_HELD = re.compile(r"Unable to create '(.+\.lock)': File exists|could not lock config file (.+): File exists")
_NOT_OURS = re.compile(r"detected dubious ownership in repository at '(.+)'")


def failure(args: Sequence[str], code: int, stderr: bytes, stdout: bytes = b"") -> ForgeError:
    """The error of a `git ARGS` that ended with `code`. stdout: where it says why, if it says nothing else."""
    message, hint = what_git_said(stderr)
    if not message:
        message, hint = what_git_said(stdout)
    return ForgeError(message or f"git {verb_of(args)} ended with {code} and said nothing", hint=hint)


def verb_of(args: Sequence[str]) -> str:
    """What git was asked to do: its first argument after the settings."""
    words = list(args)
    while words[:1] == ["-c"]:
        del words[:2]
    return next(iter(words), "")


def what_git_said(output: bytes) -> tuple[str, str | None]:
    """All that git and its hooks said, without the prefix of the first line, and the hints that came with it.

    Warnings and what is only the cause of a cause come last; else the lines stay as they came.
    """
    lines = [line.rstrip() for line in output.decode("utf-8", "replace").splitlines()]
    hints = [line.removeprefix("hint:").strip() for line in lines if line.startswith("hint:")]
    words = sorted((line for line in lines if not line.startswith("hint:")), key=_comes_last)
    message = "\n".join(words).strip("\n")
    message = message.removeprefix("fatal:").removeprefix("error:").strip()
    if held := _HELD.search(message):
        hints = [_stale_lock(held[1] or f"{held[2]}.lock")]
    if stranger := _NOT_OURS.search(message):
        message = stranger[0]
        place = shlex.quote(stranger[1])
        hints = [f"it belongs to another user; if you trust it: git config --global --add safe.directory {place}"]
    return message, "\n".join(hints) or None


def _comes_last(line: str) -> bool:
    return line.startswith(("warning:", *_DEEP))


def _stale_lock(file: str) -> str:
    return f"if a git is at work here, wait for it; if none is, one that was killed has left this file: rm '{file}'"
