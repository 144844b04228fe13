"""Whether a branch may bring what it brings: the keys and rights of the target, held against its commits.

Both files are read from the target, which the branch has no say in. Without them nothing is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from forge.errors import ForgeError
from forge.git.places import described, list_files, resolve
from forge.git.running import Repository, git_text, read_blobs
from forge.recipe.layout import CONTRIBUTIONS, path_of
from forge.recipe.toml_text import MAX_BYTES
from forge.trust.allowed_signers import FOLDER, SIGNERS_FILE, Key, read_signers
from forge.trust.approvals import approvals, approve
from forge.trust.rights import SITES_FILE, Rights, contribution_of, read_rights, rights
from forge.trust.signatures import signatures, tag_signers
from forge.trust.signed_history import signed_history

_PLAIN_MODES = ("100644", "100755")
_SHORT = 10


@dataclass(frozen=True)
class Trust:
    """What the target's rights say of a branch.

    required: whether the target has rights at all. signers: by commit of the range, the principal whose signature is
    good; unsigned commits are not in it. problems: what had no right to be done, one line each. approved_by: the
    maintainers that stand behind the tip, its signer among them; threshold: how many it takes on a protected branch.
    """

    required: bool
    signers: Mapping[str, str] = field(default_factory=dict, hash=False)
    problems: tuple[str, ...] = ()
    approved_by: tuple[str, ...] = ()
    threshold: int = 0


@dataclass(frozen=True)
class TrustFiles:
    """.forge/ of one commit: what its two files say, and the keys as ssh-keygen reads them."""

    rights: Rights
    keys: tuple[Key, ...]
    allowed: bytes


def trust(repo: Repository, target: str, head: str) -> Trust:
    """Judge the commits that `head` has and `target` has not, by the rights of `target`.

    Raises ForgeError where the target's files cannot be read, only one of them is there, or the history is not.
    """
    ours, theirs = resolve(repo, target), resolve(repo, head)
    files = read_trust_files(repo, ours)
    unreadable = _unreadable(repo, theirs)
    if files is None:
        return Trust(False, problems=unreadable)
    facts = signed_history(repo, ours, theirs, files.allowed)
    standing = {name for path in list_files(repo, ours, CONTRIBUTIONS) if (name := contribution_of(path))}
    return Trust(
        required=True,
        signers={each.id: each.signer for each in facts if each.signer is not None},
        problems=(*rights(files.rights, facts, standing), *unreadable),
        approved_by=_standing_behind(repo, files, theirs),
        threshold=files.rights.threshold,
    )


def approval_problems(repo: Repository, target: str, commit: str) -> tuple[str, ...]:
    """Why a protected branch, at `target` now, must not be set to `commit`; empty if enough maintainers stand behind.

    Those are the one who signed the commit and those who approve of it, by the rights of `target`.
    """
    theirs = resolve(repo, commit)
    files = read_trust_files(repo, resolve(repo, target))
    if files is None or files.rights.threshold == 0:
        return ()
    behind = _standing_behind(repo, files, theirs)
    if len(behind) >= files.rights.threshold:
        return ()
    names = f": {', '.join(behind)}" if behind else ""
    return (
        f"{theirs[:_SHORT]} has {len(behind)} of {files.rights.threshold} maintainers behind it{names}; "
        f"each signs it or runs: git forge approve {theirs[:_SHORT]}",
    )


def approve_as(repo: Repository, commit: str) -> str | None:
    """Sign an approval of a commit (a full id), and the principal that it counts for by the keys of that commit.

    None where it has no such key. Raises ForgeError where git cannot sign.
    """
    files = read_trust_files(repo, commit)
    text = approve(repo, commit)
    return tag_signers(repo, [text], files.allowed)[0] if files else None


def contribution_signers(repo: Repository, rev: str, names: Iterable[str]) -> dict[str, str | None]:
    """Who signed the last change of each contribution up to `rev`, by the keys of `rev` itself; None for nobody."""
    commit = resolve(repo, rev)
    asked = list(names)
    files = read_trust_files(repo, commit)
    if files is None:
        return dict.fromkeys(asked)
    last = {name: _last_change(repo, commit, name) for name in asked}
    signed = signatures(repo, filter(None, last.values()), files.allowed)
    return {name: signed[change].signer if change else None for name, change in last.items()}


def read_trust_files(repo: Repository, commit: str) -> TrustFiles | None:
    """.forge/ of a commit (a full id); None where it has neither file.

    Raises ForgeError where only one is there, or one is a link or cannot be read: then nothing may be believed.
    """
    listed = list_files(repo, commit, FOLDER)
    if FOLDER in listed:
        raise ForgeError(f"{described(commit[:_SHORT], FOLDER)} is not a folder", hint=_mend())
    for path in (SITES_FILE, SIGNERS_FILE):
        if any(other.startswith(f"{path}/") for other in listed):
            raise ForgeError(f"{described(commit[:_SHORT], path)} is a folder", hint=_mend())
    files = {path: listed[path] for path in (SITES_FILE, SIGNERS_FILE) if path in listed}
    if not files:
        return None
    for path in (SITES_FILE, SIGNERS_FILE):
        where = described(commit[:_SHORT], path)
        if path not in files:
            raise ForgeError(f"{where} is missing, and the other file of {FOLDER}/ is there", hint=_mend())
        if files[path].mode not in _PLAIN_MODES:
            raise ForgeError(f"{where} is not a plain file", hint=_mend())
    sites, signers = str(files[SITES_FILE].blob), str(files[SIGNERS_FILE].blob)
    contents = read_blobs(repo, (sites, signers), MAX_BYTES)
    allowed = contents[signers]
    return TrustFiles(
        rights=read_rights(contents[sites], described(commit[:_SHORT], SITES_FILE)),
        keys=read_signers(allowed, described(commit[:_SHORT], SIGNERS_FILE)),
        allowed=allowed,
    )


def _unreadable(repo: Repository, commit: str) -> tuple[str, ...]:
    """Whether a branch brings rights that could not be read once they are the target's: nobody could mend them then."""
    try:
        read_trust_files(repo, commit)
    except ForgeError as error:
        return (error.message,)
    return ()


def _standing_behind(repo: Repository, files: TrustFiles, commit: str) -> tuple[str, ...]:
    principals = {*approvals(repo, commit, files.allowed), signatures(repo, [commit], files.allowed)[commit].signer}
    return tuple(name for name in files.rights.maintainers if name in principals)


def _last_change(repo: Repository, commit: str, name: str) -> str | None:
    path = f":(top,literal){path_of(name)}"
    return git_text(repo, "rev-list", "--max-count=1", commit, "--", path) or None


def _mend() -> str:
    return f"a maintainer commits both, {SITES_FILE} and {SIGNERS_FILE}, as plain files"
