"""What a branch would do to the model of another: merged where nobody sees it, checked and compared.

The merge is git's own, in a work tree that is thrown away, so it is the one that `git merge` will do. Branch,
index and work tree of the repository stay as they are; nothing that the branch brings is run.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from forge.errors import ForgeError
from forge.operations.verifying import problems_of
from forge.repo import clone_setup, gate, lfs
from forge.repo.checks import Coefficient
from forge.repo.contribution import FOLDER, check_contribution, path_of
from forge.repo.git import Repository, find_repository, git, git_succeeds, git_text, read_blobs, run_git
from forge.repo.places import find_item, read_file, read_settings_of, resolve
from forge.repo.recipe import FILE_NAME as ITEM_FILE
from forge.repo.recipe import ForgeItem, Search
from forge.repo.versions import changes, versions

How = Literal["up to date", "fast-forward", "merge", "conflict"]

# The merge is nobody's commit: the same branches always give the same one.
_NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "git forge review"), ("EMAIL", "review@git-forge.invalid"), ("DATE", "@0 +0000"))
}
# No hook runs, whatever folder of the branch core.hooksPath names; no recorded resolution hides a conflict.
_ALONE = ("-c", "core.hooksPath=/dev/null", "-c", "rerere.enabled=false", "-c", "merge.verifySignatures=false")


@dataclass(frozen=True)
class ReviewedContribution:
    """One contribution before and after the merge. size in bytes; images of its distilled dataset, if it changed."""

    name: str
    change: str
    before: Coefficient | None
    after: Coefficient | None
    size: int | None
    images: int | None
    authors: tuple[str, ...]


@dataclass(frozen=True)
class ReviewedScore:
    """One task on its distilled images, before and after the merge, as the forge items record it."""

    task: str
    images: int | None
    accuracy_before: float | None
    accuracy: float | None
    cross_entropy_before: float | None
    cross_entropy: float | None


@dataclass(frozen=True)
class Review:
    """What merging `head` into `base` (commits) does. merged: the commit that it would make, None for a conflict.

    accepted: tasks whose loss a person has accepted.
    problems: why it should not be merged as it is, one a line; advice: what git forge says about those.
    """

    base: str
    head: str
    how: How
    merged: str | None = None
    strategy_before: str | None = None
    strategy: str | None = None
    search: Search | None = None
    accepted: tuple[str, ...] = ()
    contributions: tuple[ReviewedContribution, ...] = ()
    scores: tuple[ReviewedScore, ...] = ()
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class _Merged:
    commit: str | None
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def review(repo: Repository, base: str, head: str, *, scores: bool) -> Review:
    """Verify `head`, merge it into `base`, and verify that; scores: also compute those of `head` again.

    Raises ForgeError for a revision that is not there.
    """
    ours, theirs = resolve(repo, base), resolve(repo, head)
    if git_succeeds(repo, "merge-base", "--is-ancestor", theirs, ours):
        return Review(ours, theirs, "up to date", ours)
    forwards = git_succeeds(repo, "merge-base", "--is-ancestor", ours, theirs)
    how: How = "fast-forward" if forwards else "merge"
    before, problems = _item_before(repo, ours, base)
    problems += [f"{head}: {problem}" for problem in _problems(repo, theirs, scores=False)]
    if problems:
        return Review(ours, theirs, how, problems=tuple(problems))
    made = _Merged(theirs) if forwards else _merge(repo, ours, theirs)
    if made.commit is None:
        return Review(ours, theirs, "conflict", problems=made.problems, advice=made.advice)
    problems = [] if forwards else [f"merged: {problem}" for problem in _problems(repo, made.commit, scores=False)]
    if problems:
        return Review(ours, theirs, how, made.commit, problems=tuple(problems))
    if scores:
        problems = [f"{head}: {problem}" for problem in _problems(repo, theirs, scores=True)]
    after = find_item(repo, made.commit)
    assert after is not None  # it verified
    figures = _scores(repo, before, after, made.commit, forwards)
    return Review(
        base=ours,
        head=theirs,
        how=how,
        merged=made.commit,
        strategy_before=before.strategy if before else None,
        strategy=after.strategy,
        search=None if forwards else after.search,
        accepted=after.accepted,
        contributions=_contributions(repo, before, after, ours, theirs, made.commit),
        scores=figures,
        problems=(*problems, *_gate_problems(repo, figures, after, made.commit)),
    )


def _item_before(repo: Repository, base: str, name: str) -> tuple[ForgeItem | None, list[str]]:
    """The forge item of the branch that is merged into; none where the other one starts the model."""
    if read_file(repo, base, ITEM_FILE) is None:
        return None, []
    try:
        return find_item(repo, base), [f"{name}: {problem}" for problem in _problems(repo, base, scores=False)]
    except ForgeError as error:
        return None, [f"{name}: {error.message}"]


def _problems(repo: Repository, commit: str, *, scores: bool) -> list[str]:
    try:
        return problems_of(repo, commit, scores=scores)
    except ForgeError as error:
        return [error.message]


def _merge(repo: Repository, ours: str, theirs: str) -> _Merged:
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
        made = run_git(work, *commit, "-p", ours, "-p", theirs, tree, variables=variables)
        return _Merged(made.stdout.decode().strip())


def _conflict(work: Repository, output: bytes, errors: bytes) -> _Merged:
    """What git and the merge driver said of a merge that stopped."""
    unmerged = os.fsdecode(git(work, "diff", "--name-only", "--diff-filter=U", "-z")).split("\0")
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
    return _Merged(None, tuple(problems or ["git could not merge: " + os.fsdecode(output)[:300]]), tuple(advice))


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


def _contributions(
    repo: Repository, before: ForgeItem | None, after: ForgeItem, ours: str, theirs: str, merged: str
) -> tuple[ReviewedContribution, ...]:
    sizes = _sizes(repo, merged)
    rows = []
    for change in changes(before, after):
        images = None
        if change.kind in ("added", "replaced"):
            images = check_contribution(repo, change.name, merged, base=after.base).distilled.images
        authors = _authors(repo, f"{ours}..{theirs}", change.name) or _authors(repo, merged, change.name)
        rows.append(
            ReviewedContribution(
                change.name, change.kind, change.before, change.after, sizes.get(change.name), images, authors
            )
        )
    return tuple(rows)


def _authors(repo: Repository, commits: str, name: str) -> tuple[str, ...]:
    """Who changed a contribution in some commits, the first one first."""
    found = git(
        repo, "-c", "log.showSignature=false", "log", "--reverse", "--format=%aN", commits, "--",
        f":(top,literal){path_of(name)}",
    )  # fmt: skip
    return tuple(dict.fromkeys(found.decode("utf-8", "replace").splitlines()))


def _sizes(repo: Repository, commit: str) -> dict[str, int]:
    """The bytes of every contribution's files; of those in git-lfs what their pointers say."""
    listed = os.fsdecode(git(repo, "ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", FOLDER)).split("\0")
    found: dict[str, list[tuple[str, int]]] = {}
    for line in listed:
        head, _, path = line.partition("\t")
        words = head.split()
        if len(words) == 4 and words[3].isdigit() and path.count("/") > 1:
            found.setdefault(path.split("/")[1], []).append((words[2], int(words[3])))
    small = [blob for blobs in found.values() for blob, size in blobs if size <= lfs.MOST]
    pointers = {blob: lfs.parse_pointer(content) for blob, content in read_blobs(repo, small).items()}

    def size_of(blob: str, size: int) -> int:
        pointer = pointers.get(blob)
        return pointer.size if pointer else size

    return {name: sum(size_of(*each) for each in blobs) for name, blobs in found.items()}


def _scores(
    repo: Repository, before: ForgeItem | None, after: ForgeItem, merged: str, forwards: bool
) -> tuple[ReviewedScore, ...]:
    """Every task of either model.

    A merge has just computed what the model before it makes of the tasks that are new to it. A branch that is
    ahead by more than one version has not.
    """
    comparable = not forwards or versions(repo, merged, count=1)[0].previous == before
    rows = []
    for task in sorted({score.task for item in (before, after) if item for score in item.scores}):
        old, new = before.score(task) if before else None, after.score(task)
        accuracy, loss = (old.accuracy, old.cross_entropy) if old else (None, None)
        if comparable and new and new.accuracy_before is not None:
            accuracy, loss = new.accuracy_before, new.cross_entropy_before
        rows.append(
            ReviewedScore(
                task,
                new.images if new else None,
                accuracy,
                new.accuracy if new else None,
                loss,
                new.cross_entropy if new else None,
            )
        )
    return tuple(rows)


def _gate_problems(repo: Repository, scores: tuple[ReviewedScore, ...], after: ForgeItem, merged: str) -> Iterator[str]:
    """The tasks that lose more than the gate allows from branch to branch, though no single merge or commit did.

    A merge by the driver has passed the gate already, or is a conflict.
    """
    allowed = read_settings_of(repo, merged).gate
    refused = {loss.name for loss in gate.losses(after, allowed)}
    for score in scores:
        if score.accuracy is None or score.accuracy_before is None or score.task in after.accepted:
            continue
        if score.task in refused or round(score.accuracy_before - score.accuracy, 6) > allowed:
            yield (
                f"{score.task}: accuracy on distilled images {score.accuracy_before:.3f} -> {score.accuracy:.3f}, "
                f"more than the gate of forge.toml allows ({allowed:g})"
            )
