"""`git forge show`: one version of the model, with what its contributions say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from forge.git.places import as_at_first_sight, resolve
from forge.git.running import Repository
from forge.recipe.item import ForgeItem
from forge.repo.contribution_details import Details, find_details
from forge.repo.erased import explained_disagreements
from forge.repo.version_index import VersionIndex, about
from forge.repo.versions import Version, find_version, is_same_model


class Shown(NamedTuple):
    """A version, its contributions' details by name, and where its forge item and its tree disagree.

    unchanged: the commit made nothing of its own of this model; what an earlier one was made from is no matter.
    """

    version: Version
    item: ForgeItem
    details: Mapping[str, Details]
    disagreements: tuple[str, ...]
    unchanged: bool


def show(repo: Repository, rev: str = "HEAD") -> Shown:
    """Look at the version of a revision. Raises ForgeError where it has no forge item, or a damaged one."""
    with as_at_first_sight(repo):
        commit = resolve(repo, rev)
        index = VersionIndex(repo)
        key = about("details", commit)
        # Who changed what last takes a walk through all of history, and what cards say, reading all of them.
        known: Any = index.find([key]).get(key) if not _is_shallow(repo) else None
        version = find_version(repo, rev, with_previous=known is None)
        assert version.item is not None
        if known is None:
            details = find_details(repo, commit, version.item.names)
            unchanged = is_same_model(version.previous, version.item)
            if version.previous is not None and all(map(_is_known, details.values())) and not _is_shallow(repo):
                index.keep(key, [unchanged, [[name, *each] for name, each in details.items()]])
        else:
            unchanged = known[0]
            details = {name: Details(task, tuple(labels), *more) for name, task, labels, *more in known[1]}
        index.close()
        problems = tuple(explained_disagreements(repo, commit))
        return Shown(version, version.item, details, problems, unchanged)


def _is_shallow(repo: Repository) -> bool:
    """Whether commits may come that the same commit then has as ancestors."""
    return (repo.common_dir / "shallow").exists()


def _is_known(details: Details) -> bool:
    return None not in details
