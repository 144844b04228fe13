"""What git stored, held against what was checked. A filter, an attribute, a flag or a hook of somebody else's may stand
between the two, and git would not say so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from forge.clone.hooks import hooks_folder, is_ours
from forge.errors import ForgeError
from forge.git import lfs
from forge.git.files import is_plain_file, read_plain_file
from forge.git.places import INDEX, ListedFile, list_files
from forge.git.running import Repository, git, git_text, hash_object, run_git, stream_blobs
from forge.recipe.layout import ATTRIBUTES_FILE, is_in_model, row_of
from forge.repo.storage import storage_of

# Those of git's hooks that can change what a commit holds.
_CHANGING = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit")
_AS_IT_WAS = "everything is as it was"


def refuse_other_filters(repo: Repository, blobs: Mapping[str, str], limit: int) -> None:
    """Raise ForgeError, before any work is done, for a file that git would store otherwise than it is checked here.

    blobs: of files in the work tree by path, what git says that it would store. What git-lfs makes is read afterwards.
    """
    if storage_of(repo) == "lfs":
        return
    for path, blob in blobs.items():
        content = read_plain_file(repo.top / path, limit, path)
        if content is not None and blob not in (
            hash_object(repo, form, write=False) for form in _forms(content, path, limit)
        ):
            raise _otherwise(repo, path)


def stage(repo: Repository, paths: Iterable[str], limit: int) -> None:
    """`git add` of files that are there or were, and look at what git made of them. Raises ForgeError where that is not
    what lies in the work tree.

    Files are taken whatever an ignore file, a sparse checkout or a flag in the index says: a forge item without its
    payloads is no model.
    """
    unflagged = _without_flags(repo, list(paths))
    git(repo, "add", "--all", "--force", "--sparse", "--", *literal(unflagged))
    read_back(repo, unflagged, limit)


def read_back(repo: Repository, paths: Iterable[str], limit: int) -> None:
    """Raise ForgeError where the index does not hold what lies in the work tree at one of the paths.

    What is no file of the model, such as a picture beside a card, may be stored in whatever way.
    """
    checked = (path for path in paths if row_of(path) is not None)
    there = {path: repo.top / path for path in checked if is_plain_file(repo.top / path)}
    listed = list_files(repo, INDEX, "")
    in_lfs = storage_of(repo) == "lfs"
    stored = stream_blobs(repo, [listed[path].blob or "" for path in there if path in listed], limit)
    for path, file in there.items():
        if path not in listed:
            raise _otherwise(repo, path)
        _, blob_content = next(stored)
        content = read_plain_file(file, limit, path) or b""
        if isinstance(blob_content, ForgeError):
            raise blob_content
        if blob_content in _forms(content, path, limit):
            continue
        pointer = lfs.parse_pointer(blob_content)
        if not (in_lfs and pointer and (pointer.altered or pointer.oid == hashlib.sha256(content).hexdigest())):
            raise _otherwise(repo, path)


def commit(repo: Repository, head: str | None, messages: Sequence[str], paths: Sequence[str], again: str) -> str:
    """`git commit` of what is staged at `paths`, or of the whole index if there are none; the id of the commit.

    head: what it is made on, None for the first of all. again: the command that a person runs again. Raises ForgeError
    where git or a hook refuses it, and where the commit does not hold what was staged: then HEAD is put back; index and
    work tree are the caller's to put back.
    """
    staged = list_files(repo, INDEX, "")
    expected = dict(staged)
    if head is not None and paths:
        expected = list_files(repo, head, "")
        for path in paths:
            expected.pop(path, None)
            if path in staged:
                expected[path] = staged[path]
        if _of_the_model(expected) == _of_the_model(list_files(repo, head, "")):
            raise ForgeError(
                "there is nothing to commit: what lies in the work tree is what HEAD holds",
                hint="what `git rm --cached` took out of the index, git restore --staged puts back; "
                "`git rm -r contributions/NAME` takes a contribution out of the model",
            )
    words = [word for message in messages for word in ("-m", message)]
    only = ["--", *literal(paths)] if paths else ["--allow-empty"]
    try:
        git(repo, "commit", "--quiet", *words, *only)
    except ForgeError as error:  # a hook refused it, or the committer has no name
        raise ForgeError(
            f"git did not commit: {error.message}",
            hint=error.hint or f"{_AS_IT_WAS}: settle that and run {again} again",
        ) from error
    commit_id = git_text(repo, "rev-parse", "HEAD")
    committed = _of_the_model(list_files(repo, commit_id, ""))
    checked = _of_the_model(expected)
    if committed != checked:
        put_back = ("update-ref", "-m", f"{again}: undone") if head else ("update-ref", "-d")
        git(repo, *put_back, "HEAD", *([head] if head else []), commit_id)
        other = min(path for path in {*committed, *checked} if committed.get(path) != checked.get(path))
        raise _by_a_hook(repo, other, again)
    return commit_id


def literal(paths: Iterable[str]) -> list[str]:
    """Paths as git takes them for themselves: a star in a name is a star."""
    return [f":(top,literal){path}" for path in paths]


def _forms(content: bytes, path: str, limit: int) -> list[bytes]:
    """What git may rightly store for a file: the file itself, or the form that our filter and attributes give it."""
    if not path.endswith(lfs.SUFFIX):
        return [content, content.replace(b"\r\n", b"\n")]

    from forge.formats.safetensors import Limits, canonicalise  # with numpy, which a mere look does not need

    try:
        return [content, b"".join(canonicalise(content, path, Limits(file=limit)))]
    except ForgeError:  # a pointer of git-lfs, or what is refused elsewhere
        return [content]


def _of_the_model(listed: Mapping[str, ListedFile]) -> dict[str, tuple[str, str | None]]:
    return {path: (file.mode, file.blob) for path, file in listed.items() if is_in_model(path)}


def _without_flags(repo: Repository, paths: Sequence[str]) -> list[str]:
    """Let git look at files that are there, but that it was told to leave alone (skip-worktree, assume-unchanged).

    The paths without those that git keeps out of the work tree, where nothing is to be staged.
    """
    listing = os.fsdecode(git(repo, "ls-files", "-v", "-z", "--full-name", "--", *literal(paths)))
    flagged = [(record[:1], record[2:]) for record in listing.split("\0") if record[:1] == "S" or record[:1].islower()]
    kept_out = [path for tag, path in flagged if tag in "Ss" and not os.path.lexists(repo.top / path)]
    flagged = [(tag, path) for tag, path in flagged if path not in kept_out]
    for flag, left_alone in (
        ("--no-skip-worktree", [path for tag, path in flagged if tag in "Ss"]),
        ("--no-assume-unchanged", [path for tag, path in flagged if tag.islower()]),
    ):
        if left_alone:
            names = "".join(f"{path}\0" for path in left_alone)
            git(repo, "update-index", flag, "-z", "--stdin", input=os.fsencode(names))
    return [path for path in paths if path not in kept_out]


def _otherwise(repo: Repository, path: str) -> ForgeError:
    answer = os.fsdecode(git(repo, "check-attr", "-z", "--all", "--", path)).split("\0")
    attributes = dict(zip(answer[1::3], answer[2::3], strict=False))
    listed = ", ".join(f"{name}={value}" for name, value in attributes.items()) or "none"
    by = f"the filter {attributes['filter']}" if "filter" in attributes else "its attributes or a flag in the index"
    places = _attribute_files(repo, path)
    return ForgeError(
        f"{path}: git would store something else than what was checked, because of {by}",
        hint=f"{_AS_IT_WAS}. git finds these attributes for it: {listed} (git check-attr --all -- {path}); take out "
        f"the line that says so{', which may stand in ' + ' or '.join(places) if places else ''}",
    )


def _attribute_files(repo: Repository, path: str) -> list[str]:
    """The files beside the model's own .gitattributes that may give attributes to a path, where they are there."""
    asked = run_git(repo, "config", "--type=path", "--get", "core.attributesFile", variables={}, check=False)
    of_user = os.fsdecode(asked.stdout).strip()
    default = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser(), "git", "attributes")
    places = [repo.common_dir / "info" / "attributes", Path(of_user) if of_user else default]
    inside = [parent / ATTRIBUTES_FILE for parent in (repo.top / path).parents if parent.is_relative_to(repo.top)]
    return [str(place) for place in (*places, *inside) if place.is_file()]


def _by_a_hook(repo: Repository, path: str, again: str) -> ForgeError:
    folder = hooks_folder(repo)
    foreign = [
        str(file)
        for name in _CHANGING
        if folder is not None
        for file in (folder / name, folder / f"{name}.before-forge")
        if os.access(file, os.X_OK) and not is_ours(file)
    ]
    by = f"the hook {' or '.join(foreign)}" if foreign else "a hook"
    return ForgeError(
        f"{path}: {by} changed it while git committed, so the commit was not the model that was checked",
        hint=f"{_AS_IT_WAS}. Let the hook leave forge-item.json, contributions/ and consolidation/ alone, "
        f"and run {again} again",
    )
