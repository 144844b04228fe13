"""`git forge log`: the versions of the model, and what each commit made of the one before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forge.errors import ForgeError
from forge.git.running import Repository
from forge.repo.versions import Change, Version, changes, is_same_model, mean_accuracy, versions


@dataclass(frozen=True)
class Logged:
    """A version, what changed in it, and its accuracy on the distilled images, averaged over tasks.

    accuracy_before is None where the commit has made no other model: that would look like its doing.
    """

    version: Version
    changes: tuple[Change, ...]
    accuracy_before: float | None
    accuracy: float | None


def log(
    repo: Repository, rev: str = "HEAD", *, count: int | None = None, all_parents: bool = False
) -> Iterator[Logged]:
    """The commits up to `rev` that changed the forge item, newest first; at most `count`, where that is not negative.

    all_parents: also those of the branches that were merged. Each is read when it is asked for.
    """
    unlimited = count is None or count < 0
    return map(_logged, versions(repo, rev, count=None if unlimited else count, all_parents=all_parents))


def no_version(rev: str) -> ForgeError:
    """What to say of a history that no model is in."""
    return ForgeError(f"no version of a model in {rev}", hint="make the first one with `git forge init`")


def _logged(version: Version) -> Logged:
    before, after = (None, None) if version.item is None else mean_accuracy(version.item)
    if version.item is not None and is_same_model(version.previous, version.item):
        before = None
    return Logged(version, changes(version.previous, version.item), before, after)
