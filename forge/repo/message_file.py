"""The file with the message of a commit that is being made, and our trailers out of it again.

git waits for this at every commit, so next to nothing is imported: what a forge item is, trailers.py knows.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from forge.git.quiet import quiet
from forge.git.running import Repository, git_succeeds
from forge.recipe.layout import ITEM_FILE

TRAILER = re.compile(r"Forge-(Strategy|Contribution|Removed|Score|Accepted):", re.IGNORECASE)

# `git commit -v` and --cleanup=scissors: what follows is not part of the message.
_SCISSORS = re.compile(r"^\S+ -{24} >8 -{24}$")


def made_on(source: str | None) -> str:
    """The commit that a commit is compared with, by the second argument of prepare-commit-msg: "commit" amends."""
    return "HEAD^" if source == "commit" else "HEAD"


def changes_item(repo: Repository, source: str | None) -> bool:
    """Whether the forge item in the index is another one than in the commit before, or cannot be compared."""
    same = ("--cached", "--quiet", made_on(source), "--", f":(top,literal){ITEM_FILE}")
    return not git_succeeds(repo, *quiet("diff-index"), *same)


def take_trailers_out(message_file: Path) -> None:
    """Take our trailers out of the message of a commit that makes no version, or of a patch.

    A patch lands on another model than the one that its message speaks of.
    """
    text = os.fsdecode(message_file.read_bytes())
    stripped = without_trailers(text)
    if stripped != text:
        message_file.write_bytes(os.fsencode(stripped))


def without_trailers(text: str) -> str:
    """A message without trailers of ours, wherever they stand."""
    lines = text.split("\n")
    end = next((number for number, line in enumerate(lines) if _SCISSORS.match(line)), len(lines))
    kept: list[str] = []
    dropped = False
    for line in lines[:end]:
        if TRAILER.match(line):
            dropped = True
        elif dropped and not line and kept and not kept[-1]:
            pass  # empty lines before and after trailers that are gone: one is enough
        else:
            dropped = dropped and not line
            kept.append(line)
    return "\n".join([*kept, *lines[end:]])
