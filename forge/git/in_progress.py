"""What git is in the middle of: a merge, a rebase, a revert..."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from forge.errors import ForgeError
from forge.git.places import ListedFile
from forge.git.quiet import quiet
from forge.git.running import Repository, git, git_succeeds, git_text

ANCESTOR, OURS, THEIRS = 1, 2, 3  # stages of an unmerged file in the index


@dataclass(frozen=True)
class Operation:
    """A git command that stands still until somebody lets it go on.

    verb: as git calls it ("merge", "rebase", "cherry-pick", "revert", "am"). heads: the commits that come in, as far
    as git says; of a revert, the parents of the commit that is undone.
    """

    verb: str
    heads: tuple[str, ...]

    @property
    def go_on(self) -> str:
        return f"git {self.verb} --continue"

    @property
    def give_up(self) -> str:
        return f"git {self.verb} --abort"

    @property
    def is_octopus(self) -> bool:
        return self.verb == "merge" and len(self.heads) > 1


def find_operation(repo: Repository) -> Operation | None:
    """What is in progress in this work tree; None also for those that leave no trace, such as `git stash pop`."""
    folder = repo.git_dir
    merging = _commits(folder / "MERGE_HEAD")
    # While a rebase stands still, the heads of what it does at the moment (a pick, a merge) are there as well.
    if (folder / "rebase-merge").is_dir():
        return Operation("rebase", (*merging, *_commits(folder / "REBASE_HEAD")))
    if (folder / "rebase-apply" / "applying").exists():
        return Operation("am", ())
    if (folder / "rebase-apply").is_dir():
        return Operation("rebase", _commits(folder / "REBASE_HEAD"))
    if merging:
        return Operation("merge", merging)
    if picked := _commits(folder / "CHERRY_PICK_HEAD"):
        return Operation("cherry-pick", picked)
    if undone := _commits(folder / "REVERT_HEAD"):
        parents = git_text(repo, "rev-parse", "--verify", "--quiet", f"{undone[0]}^@", check=False)
        return Operation("revert", tuple(parents.split()))
    return None


def go_on(repo: Repository, operation: Operation) -> str:
    """The command that lets an operation go on from the index as it is: --continue refuses one that changes nothing."""
    empty = operation.verb in ("cherry-pick", "revert", "am") and git_succeeds(
        repo, *quiet("diff"), "--cached", "--quiet", "HEAD", "--"
    )
    return f"git {operation.verb} --skip" if empty else operation.go_on


def unmerged_files(repo: Repository) -> dict[str, dict[int, ListedFile]]:
    """The unmerged files of the index by path, and of each the versions that there are by stage."""
    files: dict[str, dict[int, ListedFile]] = {}
    for line in os.fsdecode(git(repo, "ls-files", "--unmerged", "-z", "--full-name", "--", ":/")).split("\0"):
        head, _, path = line.partition("\t")
        if path:
            mode, blob, stage = head.split(" ")
            files.setdefault(path, {})[int(stage)] = ListedFile(mode, blob)
    return files


def octopus_steps(repo: Repository, operation: Operation) -> list[str]:
    """The commands that merge the heads of an octopus one after the other, which runs the merge driver."""
    return [operation.give_up, *(f"git merge {_branch_of(repo, head)}" for head in operation.heads)]


def octopus_error(repo: Repository, operation: Operation) -> ForgeError:
    """Why a merge of several branches at once cannot be settled, and what works instead."""
    return ForgeError(
        f"this merges {len(operation.heads)} branches at once (an octopus), for which git runs no merge driver",
        hint="merge one after the other:\n" + "\n".join(octopus_steps(repo, operation)),
    )


def _branch_of(repo: Repository, commit: str) -> str:
    """A branch that points at the commit, or else its short id."""
    refs = ("for-each-ref", "--count=1", "--format=%(refname:short)", f"--points-at={commit}")
    return git_text(repo, *refs, "refs/heads", "refs/remotes", "refs/tags", check=False) or commit[:10]


def _commits(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(line.strip() for line in lines if line.strip())
