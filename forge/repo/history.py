"""The commits that changed the forge item, as git lists them: which blobs they had and made, nothing read of any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from forge.git.places import resolve
from forge.git.quiet import quiet
from forge.git.running import Repository, git
from forge.recipe.layout import ITEM_FILE

COMMIT_FORMAT = "%x00%H%x00%aI%x00%an%x00%s"
PLAIN_MODES = ("100644", "100755")
ABSENT = "000000"
SHORT = 10  # digits; fixed, so that the same history prints the same text in every clone

_BATCH = 64  # versions whose forge items are asked for in one go


class Step(NamedTuple):
    """A commit that changed the forge item, as `git log --raw` has it; a side is (mode, blob), of zeros if absent."""

    commit: str
    date: str  # of the author, ISO 8601
    author: str
    subject: str
    before: tuple[str, str]
    after: tuple[str, str]

    @property
    def short(self) -> str:
        return self.commit[:SHORT]

    @property
    def blobs(self) -> tuple[str, str] | None:
        """The two that alone decide what the commit made of the model; None where a side is no plain file."""
        if self.after[0] not in PLAIN_MODES or self.before[0] not in (*PLAIN_MODES, ABSENT):
            return None
        return self.before[1], self.after[1]


def steps(repo: Repository, rev: str, *, count: int | None = None, all_parents: bool = False) -> Iterator[Step]:
    """As `versions`, of which no forge item is read."""
    return islice(_steps(repo, resolve(repo, rev), count, all_parents), count)


def in_batches(walk: Iterable[Step]) -> Iterator[list[Step]]:
    """As many at a time as their forge items are asked for in one go."""
    left = iter(walk)
    while batch := list(islice(left, _BATCH)):
        yield batch


def _steps(repo: Repository, commit: str, count: int | None, all_parents: bool) -> Iterator[Step]:
    walk = ["--full-history", "--topo-order", "--diff-merges=first-parent"] if all_parents else ["--first-parent"]
    if count is not None and not all_parents:  # where merges are listed that changed nothing, git counts them, too
        walk.append(f"--max-count={count}")
    output = git(
        repo, *quiet("log"), *walk, "--raw", "--no-abbrev", "--no-renames", f"--format={COMMIT_FORMAT}", commit, "--",
        f":(top,literal){ITEM_FILE}",
    )  # fmt: skip
    fields: tuple[str, ...] = ()
    for line in output.decode("utf-8", "replace").split("\n"):
        if line.startswith("\0"):
            fields = tuple(line[1:].split("\0"))
        elif line.startswith(":"):
            old_mode, new_mode, old, new, _ = line[1:].split(None, 4)
            commit_id, date, author, subject = fields
            yield Step(commit_id, date, author, subject, (old_mode, old), (new_mode, new))
