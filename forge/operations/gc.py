"""`git forge gc`: what git forge keeps in a clone, and away with what nobody needs."""

from __future__ import annotations

from dataclasses import dataclass

from forge.clone.kept_files import KeptFile, collect, find_kept
from forge.git.running import Repository


@dataclass(frozen=True)
class Kept:
    """A file under .git/forge, and whether it was removed just now."""

    file: KeptFile
    removed: bool


def gc(repo: Repository, *, expire: str | None = None, dry_run: bool = False) -> list[Kept]:
    """List what is kept, and remove what is stale of it, but for a `dry_run`.

    expire: a date as git takes it; what is older is stale. Never removes what a running git forge works with.
    """
    files = find_kept(repo, expire)
    gone = {file.path for file in ([] if dry_run else collect(repo, files))}
    return [Kept(file, file.path in gone) for file in files]
