"""The three places where a model is found: a revision, the index, the work tree; read alike.

A place is written as git writes it: a revision such as "main~2", ":" for the index, and None for the work
tree. Paths are from the top folder, with "/".
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from forge.errors import ForgeError
from forge.git import running as git_side
from forge.git.files import read_plain_file
from forge.git.quiet import quiet
from forge.git.running import Repository
from forge.text import printable

T = TypeVar("T")

INDEX = ":"
WORK_TREE = None
Place = str | None
UNMERGED = "unmerged"
ATTRIBUTES_FILE = ".gitattributes"  # git's own name, which the table of a model's files has, too
# The id of an empty file, of either length.
_EMPTY = (
    "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
)


_FILE, _LINK, _OTHER = "100644", "120000", "000000"
_FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class ListedFile:
    """A file in a place: its mode as git has it ("100644"), and the id of its blob.

    In the work tree the id is None for a file that differs from the index or is not in it.
    sparse: git keeps it out of the work tree (a sparse checkout); it belongs there as it is in the index.
    unseen: git was told to take it for unchanged, and does not look.
    """

    mode: str
    blob: str | None
    sparse: bool = False
    unseen: bool = False


def described(place: Place, path: str) -> str:
    """How a message names a path in a place: as git would take it, in one line."""
    shown = printable(path)
    if place is None:
        return shown
    return f":{shown}" if place == INDEX else f"{place}:{shown}"


@contextmanager
def as_at_first_sight(repo: Repository) -> Iterator[None]:
    """In the block a revision, and what the index lists, stay what they were when they were looked at first.

    For a verb that only looks, at the same places for several reasons: all that it says is then of one moment, too.
    """
    is_outermost = repo not in _seen
    _seen.setdefault(repo, {})
    try:
        yield
    finally:
        if is_outermost:
            del _seen[repo]


_seen: dict[Repository, dict[str, Any]] = {}


def _at_first_sight(repo: Repository, what: str, look: Callable[[], T]) -> T:
    """What look() gives, or gave in the same block of as_at_first_sight."""
    seen = _seen.get(repo)
    if seen is None:
        return look()
    if what not in seen:
        seen[what] = look()
    kept: T = seen[what]
    return kept


def resolve(repo: Repository, rev: str) -> str:
    """The full id of the commit that `rev` names. Raises ForgeError where there is none."""
    if _FULL_ID.fullmatch(rev):
        commit = _commit_of(repo, rev)
    else:
        commit = _at_first_sight(repo, f"commit {rev}", lambda: _asked_of_git(repo, rev))
    if commit:
        return commit
    if rev == "HEAD":
        raise ForgeError("there is no commit yet", hint="make the first one, with `git forge init` or `git commit`")
    raise ForgeError(f"unknown revision: {rev}", hint="list what there is: git log --oneline --all")


@lru_cache(maxsize=1024)
def _commit_of(repo: Repository, full_id: str) -> str:
    """What an id names stays what it is; a name may move."""
    return _asked_of_git(repo, full_id)


def _asked_of_git(repo: Repository, rev: str) -> str:
    quiet = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    return git_side.git_text(repo, *quiet, f"{rev}^{{commit}}", check=False)


def pushed_commits(repo: Repository, refs: Iterable[str]) -> list[tuple[str, str]]:
    """(local ref, commit) of what a push sends: not of what it deletes, nor of a tag of a tree or blob.

    refs: what git tells a pre-push hook, lines "LOCAL-REF LOCAL-ID REMOTE-REF REMOTE-ID".
    """
    pushed = (line.split()[:2] for line in refs if len(line.split()) == 4)
    return [(ref, tip) for ref, tip in pushed if tip.strip("0") and _commit_of(repo, tip)]


def list_files(repo: Repository, place: Place, folder: str) -> dict[str, ListedFile]:
    """The files below `folder`, by path; of the whole tree, though not of the work tree, where it is "".

    Symbolic links and submodules are listed with their mode (120000, 160000), not followed; an unmerged
    file, in the index or the work tree, with the mode UNMERGED and no id.
    """
    if place is None:
        return _list_work_tree(repo, folder)
    if place == INDEX:
        return {**_list_index(repo, folder)}
    tree = f"{resolve(repo, place)}^{{tree}}"
    output = git_side.git(repo, "ls-tree", "-r", "-z", "--full-tree", tree, *(["--", folder] if folder else []))
    listed = {}
    for line in os.fsdecode(output).split("\0"):
        head, _, path = line.partition("\t")
        if path:
            mode, _, blob = head.split(" ")
            listed[path] = ListedFile(mode, blob)
    return listed


def read_file(repo: Repository, place: Place, path: str, limit: int = git_side.BLOB_LIMIT) -> bytes | None:
    """The content of a file, None where there is none; at most `limit` bytes, no symbolic link."""
    if place is not None:
        rev = place if place == INDEX else resolve(repo, place)
        return git_side.read_path(repo, rev, path, limit)
    content = read_plain_file(repo.top / path, limit, path)
    if content is None:
        kept_out = _list_index(repo, path).get(path)
        return git_side.read_path(repo, INDEX, path, limit) if kept_out and kept_out.sparse else None
    return content


def _list_index(repo: Repository, folder: str) -> Mapping[str, ListedFile]:
    return _at_first_sight(repo, f"index {folder}", lambda: _index_listed(repo, folder))


def _index_listed(repo: Repository, folder: str) -> dict[str, ListedFile]:
    pathspec = f":(top,literal){folder}" if folder else ":/"
    output = git_side.git(repo, "ls-files", "--stage", "-v", "-z", "--full-name", "--", pathspec)
    listed: dict[str, ListedFile] = {}
    for line in os.fsdecode(output).split("\0"):
        head, _, path = line.partition("\t")
        if path:
            tag, mode, blob, stage = head.split(" ")
            whole = ListedFile(mode, blob, tag in "Ss", tag.islower())
            listed[path] = whole if stage == "0" else ListedFile(UNMERGED, None)
    if any(file.blob in _EMPTY for file in listed.values()):
        # `git add --intent-to-add`: in the index git has no content for it, and so it is not there yet.
        unmade = ("--name-only", "--diff-filter=A", "-z", "--", pathspec)
        for path in os.fsdecode(git_side.git(repo, *quiet("diff-files"), *unmade)).split("\0"):
            listed.pop(path, None)
    return listed


def _list_work_tree(repo: Repository, folder: str) -> dict[str, ListedFile]:
    """The files on disk; git is asked which of them are as in the index, so that none needs hashing twice."""
    in_index = _list_index(repo, folder)
    pathspec = f":(top,literal){folder}"
    changed = {*os.fsdecode(git_side.git(repo, *quiet("diff-files"), "--name-only", "-z", "--", pathspec)).split("\0")}
    listed = {path: file for path, file in in_index.items() if file.sparse or file.mode in ("160000", UNMERGED)}
    for path, mode in _walk(repo.top, folder):
        if path in listed and not listed[path].sparse:
            continue
        known = in_index.get(path)
        # git does not look at a file that it means to keep out of the work tree, and that is there all the same.
        seen = known is not None and not known.sparse and not known.unseen and path not in changed
        unchanged = seen and known is not None and known.mode[:3] == mode[:3]
        listed[path] = ListedFile(mode, known.blob if known is not None and unchanged else None)
    return listed


def _walk(top: Path, folder: str) -> list[tuple[str, str]]:
    """(path from the top folder, mode) of everything below `folder` that is no folder, sorted."""
    start = top / folder
    # A link above the folder leads elsewhere just as one in its place does: list it as if it were the link.
    if start.is_file() or any((top / part).is_symlink() for part in (folder, *_parents(folder))):
        return [(folder, _mode(start))]
    listed, waiting = [], [folder]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(f"{top}/{inside}") as entries:  # a Path for each folder would take longer than its listing
                for entry in entries:
                    path = f"{inside}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif entry.is_symlink():
                        listed.append((path, _LINK))
                    else:
                        listed.append((path, _FILE if entry.is_file(follow_symlinks=False) else _OTHER))
        except OSError:  # none that is there, or that may be looked into
            continue
    return sorted(listed)


def _parents(folder: str) -> list[str]:
    return [parent.as_posix() for parent in PurePosixPath(folder).parents][:-1]


def _mode(file: Path) -> str:
    """The mode of a file on disk, as git would store it; what git cannot store gets no such mode."""
    mode = file.lstat().st_mode
    if stat.S_ISLNK(mode):
        return _LINK
    return _FILE if stat.S_ISREG(mode) else _OTHER
