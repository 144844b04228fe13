"""`git forge approve`: a signed statement that a commit may be what a protected branch is set to."""

from __future__ import annotations

from dataclasses import dataclass

from forge.git.places import resolve
from forge.git.quiet import quiet
from forge.git.running import Repository, git_text
from forge.operations.trusting import approve_as
from forge.trust.approvals import NOTES_REF


@dataclass(frozen=True)
class Approved:
    """A commit with an approval. title: its id and subject. principal: who it counts for by the keys there, if anybody.

    notes: the ref that holds approvals.
    """

    title: str
    principal: str | None
    notes: str = NOTES_REF


def approve(repo: Repository, rev: str = "HEAD") -> Approved:
    """Sign that a revision may be what a protected branch is set to, and add that to the commit's notes.

    Raises ForgeError where git cannot sign.
    """
    commit = resolve(repo, rev)
    principal = approve_as(repo, commit)
    return Approved(git_text(repo, *quiet("show"), "-s", "--format=%h %s", commit), principal)
