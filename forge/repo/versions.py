"""Versions of the model along the history, and what changed from one to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from forge.errors import ForgeError
from forge.git.places import described, resolve
from forge.git.quiet import quiet
from forge.git.running import Repository, git, stream_blobs
from forge.recipe.checks import Coefficient
from forge.recipe.item import ForgeItem, identity
from forge.recipe.item_reader import ItemReader
from forge.recipe.item_text import MAX_BYTES, from_json
from forge.recipe.layout import ITEM_FILE
from forge.repo.history import ABSENT, COMMIT_FORMAT, PLAIN_MODES, SHORT, Step, in_batches, steps
from forge.repo.items import find_item, read_ahead

Kind = Literal["added", "removed", "replaced", "rescaled", "kept"]


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
        return self.commit[:SHORT]


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
    return read_steps(repo, in_batches(steps(repo, rev, count=count, all_parents=all_parents)))


def find_version(repo: Repository, rev: str = "HEAD", *, with_previous: bool = True) -> Version:
    """The commit that `rev` names with its model, whether or not it is the one that changed it last.

    with_previous: read the item of its first parent, too; else it is None. Raises ForgeError where the commit has no
    forge item, or a damaged one.
    """
    commit = resolve(repo, rev)
    head = git(repo, *quiet("log"), "--no-walk", f"--format={COMMIT_FORMAT}%x00%P", commit).decode("utf-8", "replace")
    _, _, date, author, subject, parents = head.rstrip("\n").split("\0")
    parent = parents.partition(" ")[0] if with_previous else ""
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
        if old is new:  # of two items that were read one after the other
            kind = "kept"
        elif old is None:
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
    return (
        (one.base.fingerprint, one.strategy) == (other.base.fingerprint, other.strategy)
        and (one.scores, one.own_scores) == (other.scores, other.own_scores)
        and one.names == other.names
        and all(
            old is new or (old.coefficient, old.tasks) == (new.coefficient, new.tasks)
            for old, new in zip(one.contributions, other.contributions, strict=True)
        )
    )


def mean_accuracy(item: ForgeItem) -> tuple[float | None, float | None]:
    """(before, after): accuracy on the distilled images, averaged over tasks; before: those scored then."""
    before = [score.accuracy_before for score in item.scores if score.accuracy_before is not None]
    after = [score.accuracy for score in item.scores]
    return (sum(before) / len(before) if before else None, sum(after) / len(after) if after else None)


def read_steps(repo: Repository, batches: Iterable[Sequence[Step]]) -> Iterator[Version]:
    """The versions of steps. What one was made from is the next one, as a rule: an item is read once, and kept as long.

    A batch is asked for when all versions of the one before it are.
    """
    reader = ItemReader()
    read: dict[str, ForgeItem | bytes] = {}  # by blob; the text of what cannot be read, whose error names its place
    for batch in batches:
        sides = [side for each in batch for side in (each.after, each.before)]
        needed = Counter(blob for mode, blob in sides if mode in PLAIN_MODES)
        read = {blob: item for blob, item in read.items() if blob in needed}
        contents = stream_blobs(repo, [blob for blob in needed if blob not in read], MAX_BYTES)
        for each in batch:
            for mode, blob in (each.after, each.before):
                if mode in PLAIN_MODES and blob not in read:
                    read[blob] = _item_or_text(reader, *next(contents))
            item, problem = _item(read, each.after, described(each.short, ITEM_FILE))
            previous, _ = _item(read, each.before, ITEM_FILE)
            yield Version(each.commit, each.date, each.author, each.subject, item, previous, problem)
            for mode, blob in (each.after, each.before):
                needed[blob] -= 1
                if mode in PLAIN_MODES and needed[blob] == 0 and (each is not batch[-1] or blob != each.before[1]):
                    del read[blob]


def _item_or_text(reader: ItemReader, blob: str, content: bytes | ForgeError) -> ForgeItem | bytes:
    if isinstance(content, ForgeError):
        raise content
    try:
        return reader.read(content)
    except ForgeError:
        return content


def _item(
    read: Mapping[str, ForgeItem | bytes], side: tuple[str, str], source: str
) -> tuple[ForgeItem | None, str | None]:
    mode, blob = side
    if mode not in PLAIN_MODES:
        what = "removed" if mode == ABSENT else "no plain file"
        return None, f"{source}: {what}"
    content = read[blob]
    if not isinstance(content, bytes):
        return content, None
    try:
        return from_json(content, source), None
    except ForgeError as error:
        return None, error.message
