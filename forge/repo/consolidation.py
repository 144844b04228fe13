"""A consolidation in the tree: one residual adapter beside the contributions that it was made of.

A merge drops it from the forge item, because it belongs to one set of contributions; git may leave its files in the
tree. Files that no forge item names are no part of the model, and the next `git forge commit` removes them.
"""

from __future__ import annotations

from forge.git.places import described, list_files
from forge.git.running import Repository
from forge.recipe.item import ForgeItem
from forge.recipe.layout import CONSOLIDATION, consolidation_paths

_PLAIN_MODES = ("100644", "100755")


def consolidation_problems(repo: Repository, rev: str, item: ForgeItem) -> list[str]:
    """Where the files of a revision are not those that its forge item names as its consolidation, one line each."""
    if item.consolidation is None:
        return []
    listed = list_files(repo, rev, CONSOLIDATION)
    problems = []
    for part, path in consolidation_paths().items():
        recorded, file = getattr(item.consolidation, part), listed.get(path)
        if file is None:
            problems.append(f"{described(rev, path)} is missing")
        elif file.mode not in _PLAIN_MODES or file.blob is None:
            problems.append(f"{described(rev, path)} is not a plain file")
        elif file.blob != recorded:
            problems.append(f"{path} is {file.blob[:10]}, but the forge item names {recorded[:10]}")
    return problems
