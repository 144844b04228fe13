"""What was erased from a repository, told from what is only not here: docs/erasure.md takes files out of every commit.

The forge items of the commits that had them stay as they were and name files that no commit holds any more. Such files
cannot be fetched from anywhere, unlike those of a partial clone, whose commits list them.
"""

from __future__ import annotations

from collections.abc import Iterable

from forge.errors import ForgeError
from forge.git.places import Place
from forge.git.quiet import quiet
from forge.git.running import Repository, git, git_text
from forge.recipe.layout import CONSOLIDATION, CONTRIBUTIONS
from forge.repo.contributions import disagreements, find_all
from forge.repo.items import find_item


def erased_blobs(repo: Repository, blobs: Iterable[str]) -> list[str]:
    """Those of the blobs that are not here and that no commit has, in their order; walks through all of the history.

    None in a shallow clone, whose commits are not all of them.
    """
    ids = dict.fromkeys(blobs)
    if not ids or _is_shallow(repo):
        return []
    # Asked about one by one, a partial clone would fetch them.
    here = git_text(repo, "cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname)").split("\n")
    lost = ids.keys() - {*here}
    lost -= _blobs_of_history(repo) if lost else set()
    return [blob for blob in ids if blob in lost]


def erased_contributions(repo: Repository, place: Place) -> list[str]:
    """The contributions that the forge item of a place names and that were erased, sorted."""
    item, (readable, unreadable) = find_item(repo, place), find_all(repo, place)
    gone = [entry for entry in item.contributions if entry.name not in {*readable, *unreadable}] if item else []
    if not gone or _is_shallow(repo):
        return []
    known = _blobs_of_history(repo)
    return [entry.name for entry in gone if entry.adapter not in known]


def explained_disagreements(repo: Repository, place: Place) -> list[str]:
    """As `disagreements`, for who reads them: what was erased is called that. Walks through history where need be."""
    problems = disagreements(repo, place)
    try:
        erased = erased_contributions(repo, place) if problems else []
    except ForgeError:
        return problems  # which say so
    return disagreements(repo, place, erased=erased) if erased else problems


def _is_shallow(repo: Repository) -> bool:
    return git_text(repo, "rev-parse", "--is-shallow-repository") == "true"


def _blobs_of_history(repo: Repository) -> set[str]:
    """Every blob that a commit of any branch or tag has ever put below contributions/ or consolidation/."""
    raw = ("--all", "-m", "--raw", "--no-abbrev", "--no-renames", "--format=")
    lines = git(repo, *quiet("log"), *raw, "--", CONTRIBUTIONS, CONSOLIDATION).split(b"\n")
    return {line.split(b" ", 4)[3].decode() for line in lines if line.startswith(b":")}
