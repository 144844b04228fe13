"""The two sides of what is to be settled: their recipes, the trees that these lie in, and all files of a contribution.

A contribution that both sides changed is one side's as a whole: its adapter with its own distilled images and its
own card, whichever of these files git could merge by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from forge.errors import ForgeError, MergeConflict
from forge.repo.contribution import ENTRY_PARTS, FOLDER, disagreements, find_all, path_of
from forge.repo.git import Repository, git_text, read_blob
from forge.repo.in_progress import OURS, THEIRS, Operation
from forge.repo.places import INDEX, UNMERGED, ListedFile, list_files, read_item
from forge.repo.recipe import FILE_NAME as ITEM_FILE
from forge.repo.recipe import ForgeItem, empty
from forge.repo.recipe_text import from_json
from forge.repo.settings import Settings
from forge.repo.three_way import put_together
from forge.repo.versions import versions

STAGES = {"ours": OURS, "theirs": THEIRS}

# What the index is to hold at a path; None: nothing.
Changes = dict[str, ListedFile | None]
# The files in conflict by path, and of each the versions that there are by stage.
Unmerged = Mapping[str, Mapping[int, ListedFile]]

_QUIETLY = ("rev-parse", "--verify", "--quiet")


@dataclass(frozen=True)
class Sides:
    """The recipes that coefficients are known from, and the trees that they lie in, by stage (None: not known)."""

    ours: ForgeItem
    others: Sequence[ForgeItem]
    trees: Mapping[int, str | None] = field(default_factory=dict)


def find_sides(repo: Repository, operation: Operation | None, unmerged: Unmerged) -> Sides:
    """The recipes of the two sides: from the stages of the unmerged forge item, else from the commits at work."""
    heads = operation.heads if operation else ()
    stages = unmerged.get(ITEM_FILE)
    if stages is None:
        ours = read_item(repo, "HEAD")
        trees = {OURS: "HEAD", THEIRS: heads[0] if heads else None}
        return Sides(ours, [_whole(repo, f"{head}:{ITEM_FILE}", head[:10]) for head in heads], trees)
    blobs = {stage: file.blob for stage, file in stages.items() if file.blob}
    trees = {
        stage: next(
            (tree for tree in candidates if git_text(repo, *_QUIETLY, f"{tree}:{ITEM_FILE}", check=False) == blob),
            None,
        )
        for stage, candidates in ((OURS, ["HEAD"]), (THEIRS, [*heads, "refs/stash"]))
        if (blob := blobs.get(stage))
    }
    theirs = [_whole(repo, blobs[THEIRS], "theirs")] if THEIRS in blobs else []
    if OURS in blobs:
        return Sides(_whole(repo, blobs[OURS], "ours"), theirs, trees)
    return (
        Sides(empty(theirs[0].base, theirs[0].strategy), theirs, trees)
        if theirs
        else Sides(read_item(repo, "HEAD"), theirs, trees)
    )


def _whole(repo: Repository, name: str, whose: str) -> ForgeItem:
    """The forge item of an object's name."""
    blob = git_text(repo, *_QUIETLY, name, check=False)
    if not blob:
        raise ForgeError(f"there is no {ITEM_FILE} in {whose}", hint="that side is no version of a model")
    try:
        return from_json(read_blob(repo, blob), f"{ITEM_FILE} of {whose}")
    except ForgeError as error:
        raise ForgeError(
            error.message,
            hint="go back to before the merge, mend it on that branch with `git forge refold` and `git commit`, "
            "and merge again",
        ) from None


def sides_of_history(repo: Repository, head: str, settings: Settings) -> Sides:
    """What a damaged HEAD was made from: the last whole recipe of its first parents, and its other parents'."""
    last = next(
        (each.item for each in versions(repo, head) if each.item is not None and not disagreements(repo, each.commit)),
        empty(settings.base, settings.strategy),
    )
    others = []
    for commit in [*git_text(repo, "rev-parse", f"{head}^@").split()[1:], head]:
        try:
            others.append(read_item(repo, commit))
        except ForgeError:
            continue  # damaged too: what only it knows is new again
    return Sides(last, others)


def settled_contributions(repo: Repository, unmerged: Unmerged, side: str | None, sides: Sides) -> Changes:
    """What the index is to hold of the contributions that both sides changed, all of it from one side."""
    listed = list_files(repo, INDEX, FOLDER)
    clean = {path: file for path, file in listed.items() if file.mode != UNMERGED}
    disputed = {path.split("/")[1] for path in unmerged if path.startswith(f"{FOLDER}/") and path.count("/") > 1}
    theirs = sides.others[0] if sides.others else None
    if theirs is not None:
        for name, files in find_all(repo, INDEX, clean)[0].items():
            if not files.missing and put_together(name, files.entry(1.0), sides.ours, theirs):
                disputed.add(name)
    if not disputed:
        return {}
    if side is None:
        names = sorted(disputed)
        folders = " ".join(path_of(name) for name in names)
        raise MergeConflict(
            f"{', '.join(path_of(name) for name in names)}: both sides changed this contribution"
            if len(names) == 1
            else f"{', '.join(path_of(name) for name in names)}: both sides changed these contributions",
            hint="take one side's with `git forge resolve --ours` or `git forge resolve --theirs`; "
            f"or put the files right, `git add {folders}`, then `git forge resolve`",
        )
    changes: Changes = {}
    item = sides.ours if side == "ours" else theirs
    for name in sorted(disputed):
        inside = f"{path_of(name)}/"
        chosen = _files_of_side(repo, name, STAGES[side], sides.trees.get(STAGES[side]), item, unmerged, clean)
        changes |= {path: None for path in (*listed, *unmerged) if path.startswith(inside) and path not in chosen}
        changes |= {path: file for path, file in chosen.items() if clean.get(path) != file}
    return changes


def _files_of_side(
    repo: Repository,
    name: str,
    stage: int,
    tree: str | None,
    item: ForgeItem | None,
    unmerged: Unmerged,
    clean: Mapping[str, ListedFile],
) -> dict[str, ListedFile]:
    """All files of a contribution on one side; where its tree is not known, those that its forge item names."""
    if tree is not None:
        return list_files(repo, tree, path_of(name))
    entry = item.entry(name) if item else None
    if entry is None:
        return {}
    inside = f"{path_of(name)}/"
    found = {path: file for path, file in clean.items() if path.startswith(inside)}
    found |= {path: file[stage] for path, file in unmerged.items() if path.startswith(inside) and stage in file}
    return found | {
        path_of(name, file): ListedFile("100644", getattr(entry, part)) for part, file in ENTRY_PARTS.items()
    }
