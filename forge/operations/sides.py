"""The two sides of what is to be settled: their recipes, the trees that these lie in, and all files of a contribution.

A contribution that both sides changed is one side's as a whole: its adapter with its own distilled images and its
own card, whichever of these files git could merge by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from forge.errors import ForgeError, MergeConflict
from forge.git.in_progress import ANCESTOR, OURS, THEIRS, Operation
from forge.git.places import INDEX, UNMERGED, ListedFile, list_files
from forge.git.running import Repository, git_text, read_blob
from forge.recipe.item import Entry, ForgeItem, empty
from forge.recipe.item_text import from_json
from forge.recipe.layout import CONTRIBUTIONS, ITEM_FILE, entry_parts, path_of
from forge.recipe.settings import Settings
from forge.recipe.three_way import put_together, same_contribution
from forge.repo.contributions import disagreements, find_all
from forge.repo.items import read_item
from forge.repo.storage import with_ids_of_tree
from forge.repo.unsettled import of_the_model
from forge.repo.versions import versions

STAGES = {"ours": OURS, "theirs": THEIRS}

# What the index is to hold at a path; None: nothing.
Changes = dict[str, ListedFile | None]
# The files in conflict by path, and of each the versions that there are by stage.
Unmerged = Mapping[str, Mapping[int, ListedFile]]

_QUIETLY = ("rev-parse", "--verify", "--quiet")


@dataclass(frozen=True)
class Sides:
    """The recipes that coefficients are known from.

    ancestor: theirs and ours' own, None where there is none. merged: what the merge driver has made of them, None
    where the forge item is in conflict. trees: in which commits they lie, by stage; None where that is not known.
    """

    ours: ForgeItem
    others: Sequence[ForgeItem]
    ancestor: ForgeItem | None = None
    merged: ForgeItem | None = None
    trees: Mapping[int, str | None] = field(default_factory=dict)

    def with_ids_of_tree(self, repo: Repository, tree: Sequence[Entry]) -> Sides:
        """The same, where a tree keeps some of the same files otherwise: where a file is kept is no part of a model."""
        return replace(
            self,
            ours=with_ids_of_tree(repo, self.ours, tree),
            others=[with_ids_of_tree(repo, each, tree) for each in self.others],
        )


def find_sides(repo: Repository, operation: Operation | None, unmerged: Unmerged) -> Sides:
    """The recipes of the two sides: from the stages of the unmerged forge item, else from the commits at work."""
    heads = operation.heads if operation else ()
    stages = unmerged.get(ITEM_FILE)
    trees = {
        OURS: _tree_of(repo, unmerged, OURS, ["HEAD"]) or "HEAD",
        THEIRS: _tree_of(repo, unmerged, THEIRS, [*heads, "refs/stash"]),
    }
    if stages is None:
        others = [_whole(repo, f"{head}:{ITEM_FILE}", head[:10]) for head in heads]
        return Sides(read_item(repo, "HEAD"), others, merged=_readable(repo, INDEX), trees=trees)
    blobs = {stage: file.blob for stage, file in stages.items() if file.blob}
    theirs = [_whole(repo, blobs[THEIRS], "theirs")] if THEIRS in blobs else []
    if OURS in blobs:
        ours = _whole(repo, blobs[OURS], "ours")
    else:
        ours = empty(theirs[0].base, theirs[0].strategy) if theirs else read_item(repo, "HEAD")
    try:
        ancestor = _whole(repo, blobs[ANCESTOR], "the ancestor") if ANCESTOR in blobs else None
    except ForgeError:  # of a criss-cross, where git made one up without the driver: it holds conflict markers
        ancestor = None
    return Sides(ours, theirs, ancestor, trees=trees)


def _tree_of(repo: Repository, unmerged: Unmerged, stage: int, candidates: Sequence[str]) -> str | None:
    """The candidate in which the files in conflict are those of a stage: its forge item, or else one of the others."""
    there = {path: stages[stage].blob for path, stages in unmerged.items() if stage in stages}
    paths = [ITEM_FILE] if ITEM_FILE in there else of_the_model(there)
    for tree in candidates:
        if any(git_text(repo, *_QUIETLY, f"{tree}:{path}", check=False) == there[path] for path in paths):
            return tree
    return None


def _readable(repo: Repository, place: str) -> ForgeItem | None:
    try:
        return read_item(repo, place)
    except ForgeError:
        return None


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
        item = _readable(repo, commit)
        if item is not None:  # of one that is damaged too, what only it knows is new again
            others.append(item)
    return Sides(last, others)


def settled_contributions(repo: Repository, unmerged: Unmerged, side: str | None, sides: Sides) -> Changes:
    """What the index is to hold of the contributions in conflict, each as one side has it.

    side: for those that both sides changed. Where one side alone did, and git saw more in it (a rename that is
    none, or two of them), that side's is taken.
    """
    listed = list_files(repo, INDEX, CONTRIBUTIONS)
    clean = _clean(listed)
    chosen_side = _chosen_sides(repo, unmerged, sides, clean)
    names = sorted(name for name, chosen in chosen_side.items() if chosen is None)
    if names and side is None:
        folders = " ".join(path_of(name) for name in names)
        these = "this contribution" if len(names) == 1 else "these contributions"
        done = "; ".join(f"{path_of(name)}: {describe_sides(repo, name, sides)}" for name in names)
        raise MergeConflict(
            f"{', '.join(path_of(name) for name in names)}: both sides changed {these} ({done})",
            hint="take one side's with `git forge resolve --ours` or `git forge resolve --theirs`; "
            f"or put the files right, `git add {folders}`, then `git forge resolve`",
        )
    changes: Changes = {}
    for name, chosen in sorted(chosen_side.items()):
        inside = f"{path_of(name)}/"
        files = _files_of_side(repo, name, STAGES[chosen or side or ""], sides, unmerged, clean)
        changes |= {path: None for path in (*listed, *unmerged) if path.startswith(inside) and path not in files}
        changes |= {path: file for path, file in files.items() if clean.get(path) != file}
    return changes


def undecided_contributions(repo: Repository, unmerged: Unmerged, sides: Sides) -> list[str]:
    """The names of the contributions of which a person has to say whose is taken, sorted."""
    chosen = _chosen_sides(repo, unmerged, sides, _clean(list_files(repo, INDEX, CONTRIBUTIONS)))
    return sorted(name for name, side in chosen.items() if side is None)


def describe_sides(repo: Repository, name: str, sides: Sides) -> str:
    """What each side did to a contribution that both changed."""
    before = sides.ancestor.entry(name) if sides.ancestor else None
    descriptions = []
    for side, stage in STAGES.items():
        done = "changed" if before is not None or sides.ancestor is None else "added"
        descriptions.append(f"{side} {done if _has(repo, name, sides, stage) else 'removed'} it")
    return ", ".join(descriptions)


def _clean(listed: Mapping[str, ListedFile]) -> dict[str, ListedFile]:
    return {path: file for path, file in listed.items() if file.mode != UNMERGED}


def _chosen_sides(
    repo: Repository, unmerged: Unmerged, sides: Sides, clean: Mapping[str, ListedFile]
) -> dict[str, str | None]:
    """Of every contribution in conflict the side whose version a merge takes, None where a person has to say."""
    in_conflict = {
        path.split("/")[1] for path in unmerged if path.startswith(f"{CONTRIBUTIONS}/") and path.count("/") > 1
    }
    chosen = {name: _side_that_changed(repo, name, unmerged, sides) for name in in_conflict}
    entries = [files.entry(1.0) for files in find_all(repo, INDEX, dict(clean))[0].values() if not files.missing]
    alike = sides.with_ids_of_tree(repo, entries)
    if alike.others:
        halves = {each.name for each in entries if put_together(each, alike.ours, alike.others[0])}
        chosen |= dict.fromkeys(halves - in_conflict)
    return chosen


def _side_that_changed(repo: Repository, name: str, unmerged: Unmerged, sides: Sides) -> str | None:
    """The side whose version of a contribution a merge takes, None where a person has to say."""
    ours, theirs = sides.ours.entry(name), sides.others[0].entry(name) if sides.others else None
    before = sides.ancestor.entry(name) if sides.ancestor else None
    inside = [stages for path, stages in unmerged.items() if path.startswith(f"{path_of(name)}/")]
    # What a side has not may stand there all the same: another contribution of that side, which git takes for this one
    # under a new name because their files look alike.
    both = all(_has(repo, name, sides, stage) for stage in (OURS, THEIRS))
    if both and any(OURS in stages and THEIRS in stages for stages in inside):
        return None  # both hold something else there, if only another card
    if ours is None and theirs is None:
        return "ours"  # removed by both
    if sides.merged is not None:  # the merge driver has decided
        taken = sides.merged.entry(name)
        return "ours" if same_contribution(taken, ours) else "theirs" if same_contribution(taken, theirs) else None
    if before is not None or (ours is not None and theirs is not None):
        return None  # removed by one side, and changed by the other
    return "theirs" if ours is None else "ours"  # added by one side


def _has(repo: Repository, name: str, sides: Sides, stage: int) -> bool:
    """Whether a side has files of a contribution, folded or not; True as well where its tree is not known."""
    tree = sides.trees.get(stage)
    return tree is None or bool(list_files(repo, tree, path_of(name)))


def _files_of_side(
    repo: Repository,
    name: str,
    stage: int,
    sides: Sides,
    unmerged: Unmerged,
    clean: Mapping[str, ListedFile],
) -> dict[str, ListedFile]:
    """All files of a contribution on one side; where its tree is not known, those that its forge item names."""
    tree = sides.trees.get(stage)
    if tree is not None:
        return list_files(repo, tree, path_of(name))
    item = sides.ours if stage == OURS else sides.others[0] if sides.others else None
    entry = item.entry(name) if item else None
    if entry is None:
        return {}
    inside = f"{path_of(name)}/"
    files = {path: file for path, file in clean.items() if path.startswith(inside)}
    files |= {path: file[stage] for path, file in unmerged.items() if path.startswith(inside) and stage in file}
    return files | {
        path_of(name, file): ListedFile("100644", getattr(entry, part)) for part, file in entry_parts().items()
    }
