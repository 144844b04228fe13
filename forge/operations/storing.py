"""Where a model's payloads are kept: what is so, and how to change it in one commit that leaves the model as it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from forge.errors import ForgeError
from forge.operations.restoring import restored_on_failure, write_whole
from forge.repo import lfs
from forge.repo.consolidation import PATHS as CONSOLIDATION_PATHS
from forge.repo.contribution import ENTRY_PARTS, FOLDER, check_contribution, disagreements, path_of
from forge.repo.git import Repository, git, git_succeeds, git_text, hash_object, read_blobs
from forge.repo.in_progress import find_operation
from forge.repo.leftovers import alone_in_work_tree
from forge.repo.places import list_files, read_item, read_settings_of, resolve
from forge.repo.recipe import FILE_NAME as ITEM_FILE
from forge.repo.recipe import ForgeItem
from forge.repo.recipe_text import to_json
from forge.repo.storage import (
    ATTRIBUTES_FILE,
    Storage,
    filter_name,
    filters_of,
    read_attributes,
    storage_of,
    with_ids,
    with_storage,
)

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
class Payload:
    """A payload of HEAD: its mode and blob, and its content, whatever it is kept in."""

    mode: str
    blob: str
    content: bytes = field(repr=False)


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
    operation = find_operation(repo)
    if operation is not None:
        raise ForgeError(
            f"a {operation.verb} is in progress", hint=f"finish it with {operation.go_on}, or {operation.give_up}"
        )
    with alone_in_work_tree(repo, f"git forge storage {storage}"):
        head = resolve(repo, "HEAD")
        item = read_item(repo, head)
        problems = disagreements(repo, head)
        if problems:
            raise ForgeError(f"HEAD does not verify: {problems[0]}", hint="see git forge verify")
        if not git_succeeds(repo, "diff", "--cached", "--quiet", head, "--"):
            raise ForgeError(
                "there are staged changes", hint="commit them first, or unstage them with git restore --staged ."
            )
        listed = _payload_blobs(repo, item, head)
        if storage == "lfs":
            lfs.require(repo, "the payloads are to be kept in it")
        if lfs.pointers_among(repo, [blob for _, blob in listed.values()]):
            lfs.fetch(repo)
        payloads = _read(repo, item, head, listed)
        _refuse_changes(repo, payloads)
        return _convert(repo, head, item, payloads, storage)


def _convert(repo: Repository, head: str, item: ForgeItem, payloads: Mapping[str, Payload], storage: Storage) -> int:
    before = read_attributes(repo)
    attributes = with_storage(before, storage)
    most = read_settings_of(repo, head).limits.file_bytes
    contents = {path: _canonical(payload.content, path, most, storage) for path, payload in payloads.items()}
    # Pointers that git-lfs has not replaced by the files yet, which our filter would refuse; and files that are not
    # in the form in which our filter stored them, which git-lfs would store as they are.
    unlike = [
        path for path in payloads if (repo.top / path).is_file() and (repo.top / path).read_bytes() != contents[path]
    ]
    with restored_on_failure(repo, head, [ATTRIBUTES_FILE, ITEM_FILE, *unlike]):
        if attributes != before:
            write_whole(repo.top / ATTRIBUTES_FILE, os.fsencode(attributes))
        for path, name in filters_of(repo, payloads).items():
            if name != filter_name(storage):
                raise ForgeError(
                    f"{path} would not be kept in {_WORDS[storage]}: the filter that git finds for it is {name}",
                    hint=f"see git check-attr --all -- {path}; take out the line of {ATTRIBUTES_FILE} (or of "
                    ".git/info/attributes) that says so",
                )
        told = lfs.ensure_set_up(repo) if storage == "lfs" else None
        if told and told.startswith("warning: "):
            raise ForgeError(told.removeprefix("warning: "))
        moved = {}
        for path, payload in payloads.items():
            stored = lfs.store(repo, contents[path]) if storage == "lfs" else contents[path]
            blob = hash_object(repo, stored, write=True)
            if blob != payload.blob:
                moved[path] = blob
        if not moved and attributes == before:
            return 0
        changed = _with_blobs(item, moved)
        if changed != item:
            write_whole(repo.top / ITEM_FILE, to_json(changed).encode())
        for path in unlike:
            write_whole(repo.top / path, contents[path])
        entries = "".join(f"{payloads[path].mode} {blob}\t{path}\0" for path, blob in moved.items())
        git(repo, "update-index", "-z", "--index-info", input=os.fsencode(entries))
        git(repo, "add", "--force", "--", ATTRIBUTES_FILE, ITEM_FILE)
        subject = f"Keep payloads in {_WORDS[storage]}"
        try:
            git(repo, "commit", "--quiet", "--allow-empty", "-m", subject, "-m", "The model stays what it is.")
        except ForgeError as error:  # a hook refused it, or the committer has no name
            raise ForgeError(
                f"git did not commit: {error.message}",
                hint=error.hint or f"everything is as it was: settle that and run git forge storage {storage} again",
            ) from error
    git(repo, "update-index", "-q", "--refresh", check=False)  # the files on disk are what the new filter makes of them
    if git_text(repo, "config", "--bool", "core.sparseCheckout", check=False) == "true":
        git(repo, "sparse-checkout", "reapply", check=False)
    return len(moved)


def _payload_blobs(repo: Repository, item: ForgeItem, rev: str) -> dict[str, tuple[str, str]]:
    """(mode, blob) of the safetensors files that a recipe names, by path, as they are in the tree of `rev`."""
    listed = {**list_files(repo, rev, FOLDER), **list_files(repo, rev, "consolidation")}
    paths = [path_of(name, file) for name in item.names for file in ENTRY_PARTS.values() if file.endswith(lfs.SUFFIX)]
    if item.consolidation is not None:
        paths.append(CONSOLIDATION_PATHS["adapter"])
    return {path: (listed[path].mode, listed[path].blob or "") for path in paths if path in listed}


def _read(repo: Repository, item: ForgeItem, head: str, listed: Mapping[str, tuple[str, str]]) -> dict[str, Payload]:
    """The payloads of HEAD, each whole and what it must be: in git-lfs no filter of ours looks at them."""
    limits = read_settings_of(repo, head).limits
    for name in item.names:
        check_contribution(repo, name, head, base=item.base, limits=limits)
    blobs = read_blobs(repo, [blob for _, blob in listed.values()], limits.file_bytes)
    return {
        path: Payload(mode, blob, lfs.follow(repo, blobs[blob], path, limits.file_bytes))
        for path, (mode, blob) in listed.items()
    }


def _refuse_changes(repo: Repository, payloads: Mapping[str, Payload]) -> None:
    """Raise ForgeError where a file that is to be committed is not as in HEAD, but for the way it is kept."""
    question = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--")
    listing = os.fsdecode(git(repo, *question, ATTRIBUTES_FILE, ITEM_FILE, *payloads))
    for path in (record[3:] for record in listing.split("\0") if record):
        file = repo.top / path
        # A payload of the other storage looks changed to git until it is moved: what counts is the content.
        if path in payloads and file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            if content == payloads[path].content or hash_object(repo, content, write=False) == payloads[path].blob:
                continue
        raise ForgeError(f"{path} has changes that are not committed", hint="commit them first: git forge commit")


def _canonical(content: bytes, path: str, most: int, storage: Storage) -> bytes:
    """A payload as the storage holds it: git in the canonical form, git-lfs as it is."""
    if storage == "lfs":
        return content

    from forge.repo.safetensors_format import Limits, canonicalise  # with numpy, which a mere look does not need

    return b"".join(canonicalise(content, path, Limits(file=most)))


def _with_blobs(item: ForgeItem, moved: Mapping[str, str]) -> ForgeItem:
    """`item` with the ids of what has moved."""
    ids: dict[str, dict[str, str]] = {}
    for name in item.names:
        for part, file in ENTRY_PARTS.items():
            if path_of(name, file) in moved:
                ids.setdefault(name, {})[part] = moved[path_of(name, file)]
    consolidation = {part: moved[path] for part, path in CONSOLIDATION_PATHS.items() if path in moved}
    return with_ids(item, ids, consolidation)
