"""git's own merge of two commits where nobody sees it: in a work tree that is thrown away, so it is the one to come."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forge.clone import setup as clone_setup
from forge.git.quiet import quiet
from forge.git.running import Repository, find_repository, git, git_text, run_git

# The merge is nobody's commit: the same branches always give the same one.
_NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "git forge review"), ("EMAIL", "review@git-forge.invalid"), ("DATE", "@0 +0000"))
}
# No hook runs, whatever folder of the branch core.hooksPath names; no recorded resolution hides a conflict. Whether git
# merges what is not signed (merge.verifySignatures) is the user's to say, here as in the merge to come.
_ALONE = ("-c", "core.hooksPath=/dev/null", "-c", "rerere.enabled=false")


@dataclass(frozen=True)
class Merged:
    """commit: what the merge made, None where it stopped; then problems and advice are what was said, a line each."""

    commit: str | None
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def merge_unseen(repo: Repository, ours: str, theirs: str) -> Merged:
    """The commit that `git merge` makes of both, in the object store and on no branch."""
    with _throw_away_work_tree(repo, ours) as work:
        # The drivers of this program, installed or not.
        settings = [word for key, value in clone_setup.expected().items() for word in ("-c", f"{key}={value}")]
        # What a branch has in git-lfs is no matter to the merge of trees, and need not come from anywhere.
        variables = _NOBODY | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8", "GIT_LFS_SKIP_SMUDGE": "1"}
        # The search shows its progress on standard error only where that is a terminal; here it is read.
        command = (*_ALONE, *settings, "merge", "--no-commit", "--no-ff", "--no-edit", theirs)
        done = run_git(work, *command, variables=variables, check=False)
        if done.returncode:
            return _conflict(work, done.stdout, done.stderr)
        tree = git_text(work, "write-tree")
        commit = ("-c", "commit.gpgSign=false", "commit-tree", "-m", "Merge, for a review")
        merged = run_git(work, *commit, "-p", ours, "-p", theirs, tree, variables=variables)
        return Merged(merged.stdout.decode().strip())


def _conflict(work: Repository, output: bytes, errors: bytes) -> Merged:
    """What git and the merge driver said of a merge that stopped."""
    unmerged = os.fsdecode(git(work, *quiet("diff"), "--name-only", "--diff-filter=U", "-z")).split("\0")
    problems = [f"merge conflict in {path}" for path in unmerged if path]
    advice: list[str] = []
    into = None
    for line in errors.decode("utf-8", "replace").splitlines():
        if line.startswith(("error: ", "fatal: ")):
            into = problems
        elif line.startswith("hint: "):
            into = advice
        elif not line.startswith(" "):
            into = None
        if into is not None:
            into.append(line.removeprefix("error: ").removeprefix("fatal: ").removeprefix("hint: "))
    return Merged(None, tuple(problems or ["git could not merge: " + os.fsdecode(output)[:300]]), tuple(advice))


@contextmanager
def _throw_away_work_tree(repo: Repository, commit: str) -> Iterator[Repository]:
    with tempfile.TemporaryDirectory(prefix="git-forge-review-") as folder:
        place = Path(folder) / "work-tree"
        try:
            git(repo, *_ALONE, "worktree", "add", "--quiet", "--detach", str(place), commit)
            yield find_repository(place)
        finally:
            git(repo, "worktree", "remove", "--force", "--force", str(place), check=False)
            git(repo, "worktree", "prune", check=False)
