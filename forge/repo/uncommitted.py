"""What of the contributions in the work tree no commit holds."""

from __future__ import annotations

from forge.repo.contribution import find_all
from forge.repo.git import Repository
from forge.repo.places import WORK_TREE


def uncommitted_contributions(repo: Repository, commit: str) -> list[str]:
    """The names of contributions that are not in the work tree as they are in `commit`, sorted; removed ones too."""
    committed, unreadable = find_all(repo, commit)
    here, unreadable_here = find_all(repo, WORK_TREE)
    return sorted(
        name
        for name in {*committed, *here, *unreadable, *unreadable_here}
        if name in unreadable_here
        or name not in here
        or name not in committed
        or here[name].blobs != committed[name].blobs
    )
