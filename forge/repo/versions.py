"""Versions of the model along the history, and what changed from one to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from forge.errors import ForgeError
from forge.git.places import described, resolve
from forge.git.quiet import quiet
from forge.git.running import Repository, git, stream_blobs
from forge.recipe.checks import Coefficient
from forge.recipe.item import ForgeItem, identity
from forge.recipe.item_text import MAX_BYTES, from_json
from forge.recipe.layout import ITEM_FILE
from forge.repo.items import find_item, read_ahead

Kind = Literal["added", "removed", "replaced", "rescaled", "kept"]

_BATCH = 64  # versions whose forge items are asked for in one go
_PLAIN_MODES = ("100644", "100755")
_FORMAT = "%x00%H%x00%aI%x00%an%x00%s"
_SHORT = 10  # digits; fixed, so that the same history prints the same text in every clone


@dataclass(frozen=True)
class Version:
    """One commit that changed the forge item.

    previous: the item of the first parent, None where there is none or it cannot be read. item is None, and
    problem says why, where the commit's own cannot be read.
    """

    commit: str
    date: str  # of the author, ISO 8601
    author: str
    subject: str
    item: ForgeItem | None
    previous: ForgeItem | None
    problem: str | None = None

    @property
    def short(self) -> str:
        return self.commit[:_SHORT]


@dataclass(frozen=True)
class Change:
    """One contribution from one model to another; a coefficient is None where it is not in that model.

    The tasks are those that it has coefficients of their own for, in a task-aware model.
    """

    name: str
    kind: Kind
    before: Coefficient | None
    after: Coefficient | None
    tasks_before: Mapping[str, Coefficient] = field(default_factory=dict)
    tasks_after: Mapping[str, Coefficient] = field(default_factory=dict)


def versions(
    repo: Repository, rev: str = "HEAD", *, count: int | None = None, all_parents: bool = False
) -> Iterator[Version]:
    """The commits up to `rev` that changed the forge item, newest first; at most `count`.

    Along first parents (main as it was), or with all_parents along every branch that was merged. Each is read when it
    is asked for, and let go of: a history may be larger than memory. An unknown revision raises ForgeError at once.
    """
    return _read(repo, islice(_logged(repo, resolve(repo, rev), count, all_parents), count))


def find_version(repo: Repository, rev: str = "HEAD") -> Version:
    """The commit that `rev` names with its model, whether or not it is the one that changed it last.

    Raises ForgeError where it has no forge item, or a damaged one.
    """
    commit = resolve(repo, rev)
    head = git(repo, *quiet("log"), "--no-walk", f"--format={_FORMAT}%x00%P", commit).decode("utf-8", "replace")
    _, _, date, author, subject, parents = head.rstrip("\n").split("\0")
    parent = parents.partition(" ")[0]
    read_ahead(repo, [commit, parent] if parent else [commit])
    item = find_item(repo, commit)
    if item is None:
        raise ForgeError(
            f"no {ITEM_FILE} in {rev}: it is no version of a model",
            hint="see `git forge log` for the versions there are",
        )
    try:
        previous = find_item(repo, parent) if parent else None
    except ForgeError:  # damaged, or in a shallow clone not here
        previous = None
    return Version(commit, date, author, subject, item, previous)


def changes(before: ForgeItem | None, after: ForgeItem | None) -> tuple[Change, ...]:
    """Every contribution of either model, sorted by name, and what became of it."""
    names = {*(before.names if before else ()), *(after.names if after else ())}
    became = []
    for name in sorted(names):
        old = before.entry(name) if before else None
        new = after.entry(name) if after else None
        kind: Kind
        if old is None:
            kind = "added"
        elif new is None:
            kind = "removed"
        elif identity(old) != identity(new):
            kind = "replaced"
        else:
            kind = "kept" if (old.coefficient, old.tasks) == (new.coefficient, new.tasks) else "rescaled"
        became.append(
            Change(
                name,
                kind,
                old.coefficient if old else None,
                new.coefficient if new else None,
                old.tasks if old else {},
                new.tasks if new else {},
            )
        )
    return tuple(became)


def is_same_model(one: ForgeItem | None, other: ForgeItem | None) -> bool:
    """Whether two forge items are one model with the same figures, wherever its files are kept.

    So of a commit that changed nothing in it, or only moved payloads to git-lfs: what an earlier one was made from is
    no "before" of this one.
    """
    if one is None or other is None:
        return False

    def coefficients(item: ForgeItem) -> list[tuple[str, Coefficient, Mapping[str, Coefficient]]]:
        return [(entry.name, entry.coefficient, entry.tasks) for entry in item.contributions]

    return (one.base.fingerprint, one.strategy, coefficients(one), one.scores, one.own_scores) == (
        other.base.fingerprint,
        other.strategy,
        coefficients(other),
        other.scores,
        other.own_scores,
    )


def mean_accuracy(item: ForgeItem) -> tuple[float | None, float | None]:
    """(before, after): accuracy on the distilled images, averaged over tasks; before: those scored then."""
    before = [score.accuracy_before for score in item.scores if score.accuracy_before is not None]
    after = [score.accuracy for score in item.scores]
    return (sum(before) / len(before) if before else None, sum(after) / len(after) if after else None)


@dataclass(frozen=True)
class _Logged:
    """One commit as `git log --raw` has it; the two sides are (mode, blob id), of zeros where absent."""

    fields: tuple[str, str, str, str]
    before: tuple[str, str]
    after: tuple[str, str]


def _logged(repo: Repository, commit: str, count: int | None, all_parents: bool) -> Iterator[_Logged]:
    walk = ["--full-history", "--topo-order", "--diff-merges=first-parent"] if all_parents else ["--first-parent"]
    if count is not None and not all_parents:  # where merges are listed that changed nothing, git counts them, too
        walk.append(f"--max-count={count}")
    output = git(
        repo, *quiet("log"), *walk, "--raw", "--no-abbrev", "--no-renames", f"--format={_FORMAT}", commit, "--",
        f":(top,literal){ITEM_FILE}",
    )  # fmt: skip
    fields: tuple[str, ...] = ()
    for line in output.decode("utf-8", "replace").split("\n"):
        if line.startswith("\0"):
            fields = tuple(line[1:].split("\0"))
        elif line.startswith(":"):
            old_mode, new_mode, old, new, _ = line[1:].split(None, 4)
            commit_id, date, author, subject = fields
            yield _Logged((commit_id, date, author, subject), (old_mode, old), (new_mode, new))


def _read(repo: Repository, logged: Iterator[_Logged]) -> Iterator[Version]:
    """What one version was made from is the next one, as a rule: an item is read once, and kept while it is needed."""
    read: dict[str, ForgeItem | bytes] = {}  # by blob; the text of what cannot be read, whose error names its place
    while batch := list(islice(logged, _BATCH)):
        sides = [side for each in batch for side in (each.after, each.before)]
        needed = Counter(blob for mode, blob in sides if mode in _PLAIN_MODES)
        read = {blob: item for blob, item in read.items() if blob in needed}
        contents = stream_blobs(repo, [blob for blob in needed if blob not in read], MAX_BYTES)
        for each in batch:
            for mode, blob in (each.after, each.before):
                if mode in _PLAIN_MODES and blob not in read:
                    read[blob] = _item_or_text(*next(contents))
            item, problem = _item(read, each.after, described(each.fields[0][:_SHORT], ITEM_FILE))
            previous, _ = _item(read, each.before, ITEM_FILE)
            yield Version(*each.fields, item, previous, problem)
            for mode, blob in (each.after, each.before):
                needed[blob] -= 1
                if mode in _PLAIN_MODES and needed[blob] == 0 and (each is not batch[-1] or blob != each.before[1]):
                    del read[blob]


def _item_or_text(blob: str, content: bytes | ForgeError) -> ForgeItem | bytes:
    if isinstance(content, ForgeError):
        raise content
    try:
        return from_json(content)
    except ForgeError:
        return content


def _item(
    read: Mapping[str, ForgeItem | bytes], side: tuple[str, str], source: str
) -> tuple[ForgeItem | None, str | None]:
    mode, blob = side
    if mode not in _PLAIN_MODES:
        what = "removed" if mode == "000000" else "no plain file"
        return None, f"{source}: {what}"
    content = read[blob]
    if not isinstance(content, bytes):
        return content, None
    try:
        return from_json(content, source), None
    except ForgeError as error:
        return None, error.message
