"""The last good tip of a target branch, as this clone remembers it: a server cannot hand out an older one unseen.

A branch goes forwards only. Whoever can rewrite it on a server could take a revocation back, or a withdrawal.
"""

from __future__ import annotations

from forge.errors import ForgeError
from forge.git.running import Repository, git, git_succeeds, git_text
from forge.trust.allowed_signers import FOLDER

PREFIX = "refs/forge/good/"


def full_name(repo: Repository, rev: str) -> str | None:
    """The ref that `rev` names ("main": "refs/heads/main"); None where it names a commit otherwise."""
    name = git_text(
        repo, "rev-parse", "--verify", "--quiet", "--symbolic-full-name", "--end-of-options", rev, check=False
    )
    return name if name.startswith("refs/") else None


def main_name(repo: Repository, rev: str) -> str | None:
    """As full_name, of a branch that only goes forwards: that of a remote's HEAD, or the local one of that name.

    Any other branch may be written anew by whoever works on it.
    """
    name = full_name(repo, rev)
    listed = git_text(repo, "for-each-ref", "--format=%(refname) %(symref)", "refs/remotes")
    pairs = (line.partition(" ") for line in listed.splitlines())
    mains = {target: ref.removesuffix("HEAD") for ref, _, target in pairs if target and ref.endswith("/HEAD")}
    local = {f"refs/heads/{target.removeprefix(folder)}" for target, folder in mains.items()}
    return name if name in mains or name in local else None


def remember(repo: Repository, ref: str, commit: str) -> None:
    """Note that `commit` (a full id) was good as the tip of `ref` (a full name).

    Nothing is noted where it has no .forge/, which asks for no signatures, nor where a later one is noted already.
    Not for a pre-receive hook, in which git lets nobody write refs. Raises ForgeError for no full name.
    """
    if git_succeeds(repo, "cat-file", "-e", f"{commit}:{FOLDER}") and gone_back(repo, ref, commit) is None:
        git(repo, "update-ref", "-m", "git forge: verified", _kept_as(ref), commit)


def gone_back(repo: Repository, ref: str, commit: str) -> str | None:
    """Why `commit` must not be taken as the tip of `ref`: it lacks what was good there. None where all is well."""
    kept = _kept_as(ref)
    good = git_text(repo, "rev-parse", "--verify", "--quiet", f"{kept}^{{commit}}", check=False)
    if not good or git_succeeds(repo, "merge-base", "--is-ancestor", good, commit):
        return None
    return (
        f"{ref} has gone back: {commit[:10]} does not contain {good[:10]}, which was good here before; "
        f"if that is meant: git update-ref -d {kept}"
    )


def _kept_as(ref: str) -> str:
    if not ref.startswith("refs/"):
        raise ForgeError(f"not the full name of a ref: {ref}", hint="such as refs/heads/main")
    return PREFIX + ref.removeprefix("refs/")
