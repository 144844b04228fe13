"""The tables of a review: what became of every contribution, and of every task."""

from __future__ import annotations

import os
from dataclasses import dataclass

from forge.git import lfs
from forge.git.quiet import quiet
from forge.git.running import Repository, git, read_blobs
from forge.operations.review_figures import Figures
from forge.operations.trusting import Trust
from forge.recipe.checks import Coefficient
from forge.recipe.item import ForgeItem
from forge.recipe.layout import CONTRIBUTIONS
from forge.repo.contributions import check_contribution
from forge.repo.tree_changes import TreeChanges
from forge.repo.versions import changes


@dataclass(frozen=True)
class ReviewedContribution:
    """One contribution before and after the merge. parts: which of its files are others. size in bytes.

    images: of its distilled dataset, if it changed. by: who has changed it on the branch, as its commits name them, or
    by their good signatures.
    """

    name: str
    change: str
    parts: tuple[str, ...]
    before: Coefficient | None
    after: Coefficient | None
    size: int | None
    images: int | None
    by: tuple[str, ...]


@dataclass(frozen=True)
class ReviewedScore:
    """One task on its distilled images, before and after the merge."""

    task: str
    images: int | None
    accuracy_before: float | None
    accuracy: float | None
    cross_entropy_before: float | None
    cross_entropy: float | None


def contribution_rows(
    repo: Repository,
    ours: str,
    theirs: str,
    judged: Trust,
    before: ForgeItem | None,
    after: ForgeItem,
    merged: str,
    changed: TreeChanges,
) -> tuple[ReviewedContribution, ...]:
    sizes, by = _sizes(repo, merged), _changers(repo, ours, theirs, judged)
    rows = []
    for change in changes(before, after):
        images = None
        if change.kind in ("added", "replaced"):
            images = check_contribution(repo, change.name, merged, base=after.base).distilled.images
        rows.append(
            ReviewedContribution(
                change.name,
                change.kind,
                changed.parts.get(change.name, ()),
                change.before,
                change.after,
                sizes.get(change.name),
                images,
                by.get(change.name, ()),
            )
        )
    return tuple(rows)


def _changers(repo: Repository, ours: str, theirs: str, judged: Trust) -> dict[str, tuple[str, ...]]:
    """Who has changed each contribution on the branch, the first one first: by signature, or as the commit says."""
    listing = git(
        repo, *quiet("log"), "--reverse", "--format=%x01%H%x02%an", "--name-only", "-z", f"{ours}..{theirs}",
        "--", f":(top,literal){CONTRIBUTIONS}",
    )  # fmt: skip
    changers: dict[str, dict[str, None]] = {}
    who = ""
    for field in listing.decode("utf-8", "replace").split("\0"):
        if field.startswith("\x01"):
            commit, _, author = field[1:].partition("\x02")
            who = judged.signers.get(commit, author.strip())
            continue
        name, inside, _ = field.lstrip("\n").removeprefix(f"{CONTRIBUTIONS}/").partition("/")
        if inside:
            changers.setdefault(name, {})[who] = None
    return {name: tuple(people) for name, people in changers.items()}


def _sizes(repo: Repository, commit: str) -> dict[str, int]:
    """The bytes of every contribution's files; of those in git-lfs what their pointers say."""
    listed = os.fsdecode(git(repo, "ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", CONTRIBUTIONS)).split("\0")
    blobs_by_name: dict[str, list[tuple[str, int]]] = {}
    for line in listed:
        head, _, path = line.partition("\t")
        words = head.split()
        if len(words) == 4 and words[3].isdigit() and path.count("/") > 1:
            blobs_by_name.setdefault(path.split("/")[1], []).append((words[2], int(words[3])))
    small = [blob for blobs in blobs_by_name.values() for blob, size in blobs if size <= lfs.MOST]
    pointers = {blob: lfs.parse_pointer(content) for blob, content in read_blobs(repo, small).items()}

    def size_of(blob: str, size: int) -> int:
        pointer = pointers.get(blob)
        return pointer.size if pointer else size

    return {name: sum(size_of(*each) for each in blobs) for name, blobs in blobs_by_name.items()}


def score_rows(before: ForgeItem | None, after: ForgeItem, figures: Figures | None) -> tuple[ReviewedScore, ...]:
    """Every task of either model; without figures as the two forge items record themselves, each for its own model."""
    computed = {score.task: score for score in figures.scores} if figures else {}
    rows = []
    for task in sorted({score.task for item in (before, after) if item for score in item.scores}):
        old, new = before.score(task) if before else None, after.score(task)
        accuracy, loss = (old.accuracy, old.cross_entropy) if old else (None, None)
        if task in computed:
            new = computed[task]
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
