"""`git forge show`: one version of the model, with what its contributions say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forge.git.running import Repository
from forge.recipe.item import ForgeItem
from forge.repo.contribution_details import Details, find_details
from forge.repo.erased import explained_disagreements
from forge.repo.versions import Version, find_version, is_same_model


@dataclass(frozen=True)
class Shown:
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
    version = find_version(repo, rev)
    assert version.item is not None
    details = find_details(repo, version.commit, version.item.names)
    problems = tuple(explained_disagreements(repo, version.commit))
    return Shown(version, version.item, details, problems, is_same_model(version.previous, version.item))
