"""`git forge sites`: who may change what in a model, and by which keys they are known."""

from __future__ import annotations

from dataclasses import dataclass

from forge.git.places import resolve
from forge.git.running import Repository
from forge.operations.trusting import TrustFiles, read_trust_files


@dataclass(frozen=True)
class Sites:
    """.forge/ of a commit; files is None where there is none. without_key: who has rights, and no key to show them."""

    commit: str
    files: TrustFiles | None
    without_key: tuple[str, ...] = ()


def sites(repo: Repository, rev: str = "HEAD") -> Sites:
    """What .forge/sites.toml and .forge/allowed_signers of a revision say. Raises ForgeError where that is unclear."""
    commit = resolve(repo, rev)
    files = read_trust_files(repo, commit)
    if files is None or any(key.authority for key in files.keys):  # an authority signs keys that are not listed
        return Sites(commit, files)
    known = {principal for key in files.keys for principal in key.principals}
    owners = {owner for site in files.rights.sites.values() for owner in site}
    return Sites(commit, files, tuple(sorted({*files.rights.maintainers, *owners} - known)))
