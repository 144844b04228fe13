"""Whether this process is git forge and nothing else, or another program that uses it (forge.api, the examples)."""

from __future__ import annotations

_alone = False


def runs_alone() -> bool:
    """Whether git forge is the program: nobody else in this process uses the libraries that it loads."""
    return _alone


def is_the_program() -> None:
    """Said once, by forge.cli.main."""
    global _alone
    _alone = True
