"""`git forge storage`: where payloads are kept, and how to change it in one commit that leaves the model as it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forge.clone.stored import commit, stage
from forge.errors import ForgeError
from forge.git import lfs
from forge.git.files import read_plain_file, write_whole
from forge.git.places import list_files, resolve
from forge.git.quiet import quiet
from forge.git.running import Repository, git, git_succeeds, git_text, hash_object, read_blob
from forge.operations.restoring import restored_on_failure
from forge.recipe.item import ForgeItem
from forge.recipe.item_text import to_json
from forge.recipe.layout import (
    ATTRIBUTES_FILE,
    CONSOLIDATION,
    CONTRIBUTIONS,
    ITEM_FILE,
    consolidation_paths,
    entry_parts,
    path_of,
    payload_rows,
)
from forge.repo.contributions import check_contribution, disagreements
from forge.repo.items import read_item, read_settings_of
from forge.repo.leftovers import alone_in_work_tree
from forge.repo.storage import (
    MAX_ATTRIBUTES,
    Storage,
    filter_name,
    filters_of,
    read_attributes,
    storage_of,
    with_ids,
    with_storage,
)
from forge.repo.unsettled import refuse_unfinished

_WORDS: dict[Storage, str] = {"git": "git itself", "lfs": "git-lfs"}


@dataclass(frozen=True)
class Stored:
    """How the payloads of HEAD are kept.

    storage: where .gitattributes sends them. otherwise: those that HEAD has in the other place all the same, as
    after a merge of branches that chose differently. absent: those whose content is not in this clone.
    """

    storage: Storage
    files: int
    otherwise: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Move:
    """A payload of HEAD on its way: its mode, its blob, and the blob that it will be.

    rewritten: the file in the work tree holds something else than the new storage has: a pointer that git-lfs has not
    replaced yet, or the same tensors in a form that our filter would have changed.
    """

    mode: str
    before: str
    after: str
    rewritten: bool


def find_stored(repo: Repository) -> Stored:
    """How HEAD's payloads are kept; nothing is downloaded."""
    storage, item = storage_of(repo), read_item(repo, "HEAD")
    listed = _payload_blobs(repo, item, "HEAD")
    pointers = lfs.pointers_among(repo, [blob for _, blob in listed.values()])
    here = lfs.objects_here(repo, pointers.values())
    absent = [path for path, (_, blob) in listed.items() if blob in pointers and pointers[blob].oid not in here]
    return Stored(storage, len(listed), kept_otherwise(repo, item, "HEAD", storage), tuple(absent))


def kept_otherwise(repo: Repository, item: ForgeItem, rev: str, storage: Storage) -> tuple[str, ...]:
    """The payloads of a recipe in the tree of `rev` that are not in `storage`, by path; no large blob is read."""
    listed = _payload_blobs(repo, item, rev)
    pointers = lfs.pointers_among(repo, [blob for _, blob in listed.values()])
    return tuple(path for path, (_, blob) in listed.items() if (blob in pointers) != (storage == "lfs"))


def convert(repo: Repository, storage: Storage) -> int:
    """Keep all payloads of HEAD in `storage`, in one commit; how many were moved. 0: nothing was to be done.

    The forge item keeps its coefficients and scores and names the new blobs; older commits stay as they are.
    Raises ForgeError, with everything as it was, for an operation in progress, staged changes, changed payloads,
    a payload that is not whole or cannot be had, and where something else than git forge decides on the filter.
    """
    refuse_unfinished(repo, in_a_rebase=False)
    with alone_in_work_tree(repo, f"git forge storage {storage}"):
        head = resolve(repo, "HEAD")
        item = read_item(repo, head)
        problems = disagreements(repo, head)
        if problems:
            raise ForgeError(f"HEAD does not verify: {problems[0]}", hint="see git forge verify")
        if not git_succeeds(repo, *quiet("diff"), "--cached", "--quiet", head, "--"):
            raise ForgeError(
                "there are staged changes", hint="commit them first, or unstage them with git restore --staged ."
            )
        listed = _payload_blobs(repo, item, head)
        if storage == "lfs":
            lfs.require(repo, "the payloads are to be kept in it")
        if lfs.pointers_among(repo, [blob for _, blob in listed.values()]):
            lfs.fetch(repo)
        return _commit(repo, head, item, _prepare(repo, item, head, listed, storage), storage)


def _prepare(
    repo: Repository, item: ForgeItem, head: str, listed: Mapping[str, tuple[str, str]], storage: Storage
) -> dict[str, Move]:
    """Check HEAD's payloads (in git-lfs no filter of ours does) and put them into `storage`, one after the other."""
    limits = read_settings_of(repo, head).limits
    changed = _changed_paths(repo, [ATTRIBUTES_FILE, ITEM_FILE, *listed])
    for path in sorted(changed - set(listed)):
        raise _uncommitted(path)
    for name in item.names:
        check_contribution(repo, name, head, base=item.base, limits=limits)
    moves = {}
    for path, (mode, blob) in listed.items():
        kept = read_blob(repo, blob, limits.file_bytes)
        content = lfs.follow(repo, kept, path, limits.file_bytes)
        here = read_plain_file(repo.top / path, limits.file_bytes, path)
        # A payload of the other storage looks changed to git until it is moved: what counts is the content.
        if path in changed and here not in (kept, content):
            raise _uncommitted(path)
        payload = _canonical(content, path, limits.file_bytes, storage)
        stored = lfs.store(repo, payload) if storage == "lfs" else payload
        after = hash_object(repo, stored, write=True)
        moves[path] = Move(mode, blob, after, here is not None and here != payload)
    return moves


def _commit(repo: Repository, head: str, item: ForgeItem, moves: Mapping[str, Move], storage: Storage) -> int:
    before = read_attributes(repo)
    attributes = with_storage(before, storage)
    moved = {path: move.after for path, move in moves.items() if move.after != move.before}
    rewritten = [path for path, move in moves.items() if move.rewritten]
    with restored_on_failure(repo, head, [ATTRIBUTES_FILE, ITEM_FILE, *rewritten]):
        if attributes != before:
            write_whole(repo.top / ATTRIBUTES_FILE, os.fsencode(attributes))
        _check_filters(repo, moves, storage)
        if not moved and attributes == before:
            return 0
        for path in rewritten:
            write_whole(repo.top / path, lfs.read_payloads(repo, [moves[path].after])[moves[path].after])
        changed = _with_blobs(item, moved)
        if changed != item:
            write_whole(repo.top / ITEM_FILE, to_json(changed).encode())
        entries = "".join(f"{moves[path].mode} {blob}\t{path}\0" for path, blob in moved.items())
        git(repo, "update-index", "-z", "--index-info", input=os.fsencode(entries))
        stage(repo, [ATTRIBUTES_FILE, ITEM_FILE], MAX_ATTRIBUTES)
        subject = f"Keep payloads in {_WORDS[storage]}"
        commit(repo, head, [subject, "The model stays what it is."], [], f"git forge storage {storage}")
    git(repo, "update-index", "-q", "--refresh", check=False)  # the files on disk are what the new filter makes of them
    if git_text(repo, "config", "--bool", "core.sparseCheckout", check=False) == "true":
        git(repo, "sparse-checkout", "reapply", check=False)
    return len(moved)


def _check_filters(repo: Repository, paths: Iterable[str], storage: Storage) -> None:
    """Raise ForgeError where what .gitattributes says now is not what git does, or git-lfs cannot be set up."""
    for path, name in filters_of(repo, paths).items():
        if name != filter_name(storage):
            raise ForgeError(
                f"{path} would not be kept in {_WORDS[storage]}: the filter that git finds for it is {name}",
                hint=f"see git check-attr --all -- {path}; take out the line of {ATTRIBUTES_FILE} (or of "
                ".git/info/attributes) that says so",
            )
    if storage == "lfs":
        lfs.set_up(repo)


def _changed_paths(repo: Repository, paths: Iterable[str]) -> set[str]:
    """Those of the paths whose files are not what git has in HEAD."""
    question = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *paths)
    return {record[3:] for record in os.fsdecode(git(repo, *question)).split("\0") if record}


def _uncommitted(path: str) -> ForgeError:
    return ForgeError(f"{path} has changes that are not committed", hint="commit them first: git forge commit")


def _payload_blobs(repo: Repository, item: ForgeItem, rev: str) -> dict[str, tuple[str, str]]:
    """(mode, blob) of the safetensors files that a recipe names, by path, as they are in the tree of `rev`."""
    listed = {**list_files(repo, rev, CONTRIBUTIONS), **list_files(repo, rev, CONSOLIDATION)}
    payloads = [row for row in payload_rows() if row.part]
    paths = [path_of(name, row.name) for name in item.names for row in payloads if row.folder == CONTRIBUTIONS]
    if item.consolidation is not None:
        paths += [row.path for row in payloads if row.folder == CONSOLIDATION]
    return {path: (listed[path].mode, listed[path].blob or "") for path in paths if path in listed}


def _canonical(content: bytes, path: str, most: int, storage: Storage) -> bytes:
    """A payload as the storage holds it: git in the canonical form, git-lfs as it is."""
    if storage == "lfs":
        return content

    from forge.formats.safetensors import Limits, canonicalise  # with numpy, which a mere look does not need

    return b"".join(canonicalise(content, path, Limits(file=most)))


def _with_blobs(item: ForgeItem, moved: Mapping[str, str]) -> ForgeItem:
    """`item` with the ids of what has moved."""
    ids: dict[str, dict[str, str]] = {}
    for name in item.names:
        for part, file in entry_parts().items():
            if path_of(name, file) in moved:
                ids.setdefault(name, {})[part] = moved[path_of(name, file)]
    consolidation = {part: moved[path] for part, path in consolidation_paths().items() if path in moved}
    return with_ids(item, ids, consolidation)
