"""How payloads are kept: by git itself or by git-lfs; what .gitattributes says, and which blobs are the same file.

The choice is in .gitattributes, under version control like everything else: each commit says for itself. So
a history may hold both, and a merge may bring together branches that chose differently.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal, get_args

from forge.errors import ForgeError
from forge.git import lfs
from forge.git.files import read_plain_file, write_whole
from forge.git.running import Repository, fetch_promised, git, read_blob, read_blobs
from forge.recipe.item import Entry, ForgeItem
from forge.recipe.layout import (
    ATTRIBUTES_FILE,
    CONTRIBUTIONS,
    FOLDERS,
    ModelFile,
    entry_parts,
    limit_of,
    payload_rows,
    rows_in,
)

Storage = Literal["git", "lfs"]
STORAGES: tuple[Storage, ...] = get_args(Storage)
MAX_ATTRIBUTES = limit_of(ATTRIBUTES_FILE)

_FILTERS: dict[Storage, str] = {"git": "forge", "lfs": "lfs"}


def attribute_lines(storage: Storage = "git") -> tuple[str, ...]:
    """Which files of a model repository are what, as .gitattributes has it: payloads first in each folder."""
    rows = [row for folder in ("", *FOLDERS) for row in sorted(rows_in(folder), key=lambda row: not row.is_payload)]
    return tuple(_line(row, storage) for row in rows if row.attributes)


def with_missing_rows(text: str, storage: Storage) -> str:
    """The text of a .gitattributes with a line for every file of a model that no line in it names.

    Such a file came with a later git forge. A line that names it and says something else is somebody's own.
    """
    named = {line.split()[0] for line in text.splitlines() if line.split()}
    missing = [line for line in attribute_lines(storage) if line.split()[0] not in named]
    end = "\n" if missing and text and not text.endswith(("\n", "\r")) else ""
    return text + end + "".join(f"{line}\n" for line in missing)


def with_storage(text: str, storage: Storage) -> str:
    """The text of a .gitattributes with our lines for `storage`: changed where they stand, or added at the end.

    Lines that git forge did not write stay as they are. There and back gives the same text.
    """
    expected = attribute_lines(storage)
    ours = {_line(row, other): _line(row, storage) for row in payload_rows() for other in STORAGES}
    lines = []
    for line in text.splitlines(keepends=True):
        bare = " ".join(line.split())
        changed = ours.get(bare, bare)
        end = line[len(line.rstrip("\r\n")) :]
        lines.append(line if changed == bare else changed + end)
    present = {" ".join(line.split()) for line in lines}
    missing = [line for line in expected if line not in present]
    if missing and lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += "\n"
    return "".join(lines) + "".join(f"{line}\n" for line in missing)


def read_attributes(repo: Repository) -> str:
    """The text of .gitattributes in the work tree, line ends and all; empty where there is none."""
    return os.fsdecode(_attributes(repo) or b"")


def write_attributes(repo: Repository, text: str) -> None:
    """Write .gitattributes in the work tree."""
    write_whole(repo.top / ATTRIBUTES_FILE, os.fsencode(text))


def storage_of(repo: Repository) -> Storage:
    """Where `git add` puts payloads in this work tree."""
    try:  # nearly always the answer, and no process need be started for it
        text = _attributes(repo)
    except ForgeError:  # a link, which git does not read either
        return "git"
    if text is None or b"filter=lfs" not in text:  # whatever this clone alone says: its pointers would be nobody's
        return "git"
    filters = set(filters_of(repo, [row.path.replace("*", "any") for row in payload_rows()]).values())
    return "lfs" if filters == {_FILTERS["lfs"]} else "git"


def filters_of(repo: Repository, paths: Iterable[str]) -> dict[str, str]:
    """The filter that git applies to each path in this work tree, by name; "unspecified" for none."""
    question = "".join(f"{path}\0" for path in paths)
    answer = os.fsdecode(git(repo, "check-attr", "-z", "--stdin", "filter", input=os.fsencode(question)))
    fields = answer.split("\0")
    return dict(zip(fields[0::3], fields[2::3], strict=False))


def filter_name(storage: Storage) -> str:
    """The filter that payloads have in a storage."""
    return _FILTERS[storage]


def same_file(repo: Repository, one: str, other: str) -> bool:
    """Whether two blobs stand for one file: the same blob, or one is the git-lfs pointer to the other's content.

    False as well where one of them is not here.
    """
    if one == other:
        return True
    try:
        contents = read_blobs(repo, (one, other))
    except ForgeError:
        return False
    return _stands_for(contents[one], contents[other]) or _stands_for(contents[other], contents[one])


def is_blob_of(repo: Repository, blob: str, content: bytes) -> bool:
    """Whether a blob is `content`, or the git-lfs pointer to it, or where `content` is a pointer, what that says."""
    try:
        kept = read_blob(repo, blob)
    except ForgeError:
        return False
    return kept == content or _stands_for(kept, content) or _stands_for(content, kept)


def is_in_both_storages(repo: Repository, item: ForgeItem) -> bool:
    """Whether some payloads of a recipe's contributions are pointers of git-lfs and others are not."""
    parts = [row.part for row in rows_in(CONTRIBUTIONS) if row.is_payload and row.part]
    blobs = {getattr(entry, part) for entry in item.contributions for part in parts}
    return 0 < len(lfs.pointers_among(repo, blobs)) < len(blobs)


def with_ids_in_common(
    repo: Repository, ancestor: ForgeItem | None, ours: ForgeItem, theirs: ForgeItem
) -> tuple[ForgeItem | None, ForgeItem, ForgeItem]:
    """Three recipes in which a contribution that a side only stored in another way counts as unchanged.

    Where all three hold the same file under two ids, all get the one that git's own merge of the file takes.
    So the storage of a file is no part of the model, and no merge searches because of it.
    """
    if ancestor is None:
        return ancestor, ours, theirs
    ids = {
        (entry.name, part): tuple(getattr(each, part) for each in (entry, our_entry, their_entry))
        for entry in ancestor.contributions
        if (our_entry := ours.entry(entry.name)) is not None and (their_entry := theirs.entry(entry.name)) is not None
        for part in entry_parts()
    }
    changed = {place: each for place, each in ids.items() if len(set(each)) > 1}
    fetch_promised(repo, {blob for each in changed.values() for blob in each})
    chosen: dict[str, dict[str, str]] = {}
    for (name, part), (before, here, there) in changed.items():
        taken = there if here == before else here
        if all(same_file(repo, taken, each) for each in {before, here, there}):
            chosen.setdefault(name, {})[part] = taken
    if not chosen:
        return ancestor, ours, theirs
    return with_ids(ancestor, chosen), with_ids(ours, chosen), with_ids(theirs, chosen)


def with_ids_of_tree(repo: Repository, item: ForgeItem, tree: Iterable[Entry]) -> ForgeItem:
    """`item` with the ids that the contributions of a `tree` have, where they are the same files stored otherwise."""
    ids: dict[str, dict[str, str]] = {}
    for entry in tree:
        known = item.entry(entry.name)
        for part in entry_parts() if known else ():
            there = getattr(entry, part)
            if there != getattr(known, part) and same_file(repo, getattr(known, part), there):
                ids.setdefault(entry.name, {})[part] = there
    return with_ids(item, ids) if ids else item


def with_ids(
    item: ForgeItem, ids: Mapping[str, Mapping[str, str]], consolidation: Mapping[str, str] | None = None
) -> ForgeItem:
    """`item` with other ids for some files: by the contribution's name, then by the part of its entry."""
    entries = tuple(replace(entry, **ids.get(entry.name, {})) for entry in item.contributions)  # type: ignore[arg-type]
    moved = item.consolidation
    if moved is not None and consolidation:
        moved = replace(moved, **consolidation)  # type: ignore[arg-type]
    return replace(item, contributions=entries, consolidation=moved)


def _attributes(repo: Repository) -> bytes | None:
    return read_plain_file(repo.top / ATTRIBUTES_FILE, MAX_ATTRIBUTES, ATTRIBUTES_FILE)


def _stands_for(text: bytes, content: bytes) -> bool:
    pointer = lfs.parse_pointer(text)
    return pointer is not None and pointer.size == len(content) and hashlib.sha256(content).hexdigest() == pointer.oid


def _line(row: ModelFile, storage: Storage) -> str:
    """What .gitattributes says of a file, a payload's filter included."""
    return (
        f"{row.path} filter={_FILTERS[storage]} {row.attributes}" if row.is_payload else f"{row.path} {row.attributes}"
    )
