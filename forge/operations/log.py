"""`git forge log`: the versions of the model, and what each commit made of the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from forge.errors import ForgeError
from forge.git.running import Repository
from forge.repo.history import Step, in_batches, steps
from forge.repo.version_index import VersionIndex, about

if TYPE_CHECKING:  # what takes forge items apart is loaded where one has to be read
    from forge.repo.versions import Change, Version


class Logged(NamedTuple):
    """A version, what changed in it, and its accuracy on the distilled images, averaged over tasks.

    accuracy_before is None where the commit has made no other model: that would look like its doing.
    """

    version: Version
    changes: tuple[Change, ...]
    accuracy_before: float | None
    accuracy: float | None


class Line(NamedTuple):
    """A version in words: its commit, what that made of the model, and accuracies as Logged has them.

    problem: why its forge item cannot be read, if it cannot.
    """

    step: Step
    model: str
    accuracy_before: float | None
    accuracy: float | None
    problem: str | None = None


def log(
    repo: Repository, rev: str = "HEAD", *, count: int | None = None, all_parents: bool = False
) -> Iterator[Logged]:
    """The commits up to `rev` that changed the forge item, newest first; at most `count`, where that is not negative.

    all_parents: also those of the branches that were merged. Each is read when it is asked for.
    """
    from forge.repo.versions import versions

    return map(_logged, versions(repo, rev, count=_limit(count), all_parents=all_parents))


def log_lines(
    repo: Repository, rev: str = "HEAD", *, count: int | None = None, all_parents: bool = False
) -> Iterator[Line]:
    """As `log`, in words; the forge items of a version that was shown before are not read again."""
    return _lines(repo, in_batches(steps(repo, rev, count=_limit(count), all_parents=all_parents)))


def no_version(rev: str) -> ForgeError:
    """What to say of a history that no model is in."""
    return ForgeError(f"no version of a model in {rev}", hint="make the first one with `git forge init`")


def _limit(count: int | None) -> int | None:
    return None if count is None or count < 0 else count


def _logged(version: Version) -> Logged:
    from forge.repo.versions import changes, is_same_model, mean_accuracy

    before, after = (None, None) if version.item is None else mean_accuracy(version.item)
    if version.item is not None and is_same_model(version.previous, version.item):
        before = None
    return Logged(version, changes(version.previous, version.item), before, after)


def _lines(repo: Repository, batches: Iterator[list[Step]]) -> Iterator[Line]:
    unknown: deque[Sequence[Step]] = deque()
    read = _read(repo, unknown)
    index = VersionIndex(repo)
    try:
        for batch in batches:
            keys = [about("line", *step.blobs) if step.blobs else None for step in batch]
            known = index.find(key for key in keys if key is not None)
            unknown.append([step for step, key in zip(batch, keys, strict=True) if key not in known])
            for step, key in zip(batch, keys, strict=True):
                if key is not None and key in known:
                    yield _line(step, known[key])
                    continue
                logged = _logged(next(read))
                row = [" ".join(map(_word, logged.changes)), logged.accuracy_before, logged.accuracy]
                problem = logged.version.problem
                if key is not None and problem is None:
                    index.keep(key, row)
                yield _line(step, row, problem)
    finally:
        index.close()


def _read(repo: Repository, batches: deque[Sequence[Step]]) -> Iterator[Version]:
    """The versions of the steps that are put into `batches`, each batch before its first version is asked for."""
    from forge.repo.versions import read_steps

    yield from read_steps(repo, iter(batches.popleft, None))


def _line(step: Step, row: Any, problem: str | None = None) -> Line:
    model, before, after = row
    return Line(step, model, before, after, problem)


def _word(change: Change) -> str:
    """`+lung 0.500` for a contribution that came in; `-lung` for one that went."""
    if change.after is None:
        return f"-{change.name}"
    from forge.recipe.wording import short_coefficient

    mark = {"added": "+", "replaced": "*"}.get(change.kind, "")
    return f"{mark}{change.name} {short_coefficient(change.after)}"
