"""The one error type for users, and the exit codes that every command shares."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes, as git itself uses them."""

    OK = 0
    NEGATIVE = 1  # the answer is "no": a conflict, a difference, a failed verification
    FATAL = 128  # the command could not do its work
    USAGE = 129  # the command line makes no sense
    INTERRUPTED = 130


class ForgeError(Exception):
    """Something the user can mend: says what is wrong, naming the file, and what to do next."""

    exit_code: ExitCode = ExitCode.FATAL

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class MissingObject(ForgeError):  # noqa: N818 (what git calls it)
    """An object of git's is not here: erased, not fetched yet, or damaged."""


class MergeConflict(ForgeError):  # noqa: N818 (a conflict is git's word, and not always an error)
    """Two recipes cannot be combined without a decision by a person."""

    exit_code = ExitCode.NEGATIVE
