"""git-lfs, for models whose payloads have outgrown git: its pointers followed, its filter set up, its pushes made sure.

git-lfs does all the storing and transferring itself. A pointer (its docs/spec.md) is a small text that stands
for a file in a tree: the SHA-256 of the content and its size.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from forge.errors import ForgeError
from forge.repo.files import is_plain_file
from forge.repo.git import BLOB_LIMIT, Repository, environment, git, git_succeeds, git_text, read_blobs, read_path
from forge.repo.places import pushed_commits

START = b"version https://git-lfs."
MOST = 1024  # bytes: what is larger is no pointer, says the specification
INSTALL = "install git-lfs (https://git-lfs.com), then run: git lfs install"

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?P<extensions>(?:ext-[0-9]-[!-~]+ sha256:[0-9a-f]{64}\n)*)"
    rb"oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>[0-9]{1,18})\n"
)
_FOLDERS = ("contributions", "consolidation")
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Pointer:
    """What a pointer says. altered: the object is not the file itself but what an extension made of it."""

    oid: str
    size: int
    altered: bool = False


def parse_pointer(content: bytes) -> Pointer | None:
    """The pointer that `content` is, if it is one."""
    found = _POINTER.fullmatch(content) if len(content) <= MOST else None
    return Pointer(found["oid"].decode(), int(found["size"]), bool(found["extensions"])) if found else None


def is_available(repo: Repository) -> bool:
    """Whether git finds git-lfs on this machine."""
    return git_succeeds(repo, "lfs", "version")


def require(repo: Repository, why: str) -> None:
    """Raise ForgeError unless git-lfs is on this machine."""
    if not is_available(repo):
        raise ForgeError(f"git-lfs is not on this machine, and {why}", hint=INSTALL)


def ensure_set_up(repo: Repository) -> str | None:
    """See that the settings of git-lfs's filter are in effect; what to tell the user if they were not."""
    found = git_text(repo, "config", "--get-regexp", r"^filter\.lfs\.", check=False).split()
    if {"filter.lfs.clean", "filter.lfs.required"} <= set(found):
        return None if is_available(repo) else f"warning: git-lfs is not on this machine: {INSTALL}"
    if not is_available(repo):
        return f"warning: this model keeps its payloads in git-lfs, which is not on this machine: {INSTALL}"
    try:
        git(repo, "lfs", "install", "--local", "--skip-repo")  # the settings alone; hooks are chained by ours
    except ForgeError as error:
        return f"warning: git-lfs could not be set up in this clone: {error.message}"
    return "git-lfs was not set up in this clone yet; it is now. Get the files with: git lfs pull"


def read_payloads(repo: Repository, blobs: Iterable[str], limit: int = BLOB_LIMIT) -> dict[str, bytes]:
    """The contents of blobs by id, as read_blobs; where a blob is a pointer, the content that it stands for."""
    found = read_blobs(repo, blobs, limit)
    for blob, content in found.items():
        if content.startswith(START):
            found[blob] = follow(repo, content, partial(_path_of, repo, blob), limit)
    return found


def follow(repo: Repository, content: bytes, source: str | Callable[[], str], limit: int = BLOB_LIMIT) -> bytes:
    """`content` itself, or the file that it is a pointer to, which git-lfs downloads if it is not here.

    source: what a message names, or how to find that out. Raises ForgeError where the object cannot be had, is
    larger than `limit`, or is not what the pointer says.
    """
    pointer = parse_pointer(content)
    if pointer is None:
        return content
    if pointer.size > limit:
        raise ForgeError(
            f"{_named(source)}: the file in git-lfs has {pointer.size:,} bytes, more than the limit of {limit:,}",
            hint="raise limits.file_mebibytes in forge.toml if you trust where it comes from",
        )
    found, said = _smudge(repo, content, pointer.size)
    if len(found) == pointer.size and (pointer.altered or hashlib.sha256(found).hexdigest() == pointer.oid):
        return found
    if found != content:
        said = "what is stored under its name is another file (see git lfs fsck)"
    raise ForgeError(
        f"{_named(source)}: the content is in git-lfs, and object {pointer.oid[:10]} cannot be had: {said}"[:600],
        hint="get it with: git lfs pull (of other branches: git lfs fetch --all)" if is_available(repo) else INSTALL,
    )


def pointers_among(repo: Repository, blobs: Iterable[str]) -> dict[str, Pointer]:
    """Those of the blobs that are pointers, by id; no large blob is read."""
    names = "".join(f"{blob}\n" for blob in dict.fromkeys(blobs))
    if not names:
        return {}
    answers = git_text(repo, "cat-file", "--batch-check=%(objectname) %(objectsize)", input=names.encode())
    sizes = (line.rsplit(" ", 1) for line in answers.splitlines())
    small = [name for name, size in sizes if size.isdigit() and int(size) <= MOST]
    found = {blob: parse_pointer(content) for blob, content in read_blobs(repo, small).items()}
    return {blob: pointer for blob, pointer in found.items() if pointer is not None}


def objects_here(repo: Repository, pointers: Iterable[Pointer]) -> set[str]:
    """The ids of those objects that git-lfs has in this clone."""
    wanted = {pointer.oid for pointer in pointers}
    if not wanted:
        return set()
    folder = _store_folder(repo)
    return {oid for oid in wanted if (folder / oid[:2] / oid[2:4] / oid).is_file()}


def is_pointer_file(path: Path) -> bool:
    """Whether a file on disk is a pointer where the content should be."""
    if not is_plain_file(path):
        return False
    with path.open("rb") as stream:
        return stream.read(len(START)) == START


def store(repo: Repository, content: bytes) -> bytes:
    """Put content into git-lfs's store of this clone; the pointer to it."""
    pointer = git(repo, "lfs", "clean", input=content)
    found = parse_pointer(pointer)
    if found is None or not (found.altered or found.oid == hashlib.sha256(content).hexdigest()):
        raise ForgeError("git-lfs did not store a file as it should", hint="see: git lfs env")
    return pointer


def fetch(repo: Repository) -> None:
    """Download what HEAD needs, in one go. No error where that fails: reading says what is missing."""
    git(repo, *_EVERYTHING, "lfs", "fetch", check=False)


def push_objects(repo: Repository, remote: str, url: str, refs: Sequence[str]) -> None:
    """For the pre-push hook: bring what the pushed commits keep in git-lfs to its server, or refuse the push.

    refs: git's lines "LOCAL-REF LOCAL-ID REMOTE-REF REMOTE-ID". Raises ForgeError where an object is neither
    here nor there, whatever the user's settings allow.
    """
    tips = [tip for _, tip in pushed_commits(repo, refs)]
    needed = pointers_among(repo, [blob for tip in tips for blob in _payloads_of(repo, tip)]).values()
    if not needed and not pointers_among(repo, _new_payloads(repo, remote, tips)):
        return
    require(repo, "what is pushed keeps files in it")
    # git-lfs's own hook may have done this already: then it finds nothing to do.
    _push(repo, ("pre-push", remote, url), "".join(f"{line.strip()}\n" for line in refs))
    here = sorted(objects_here(repo, needed))
    if here and remote in git_text(repo, "remote").split("\n"):  # git-lfs takes no path in place of a name here
        # Among them is what an earlier push without hooks has left behind.
        _push(repo, ("push", "--object-id", remote, *here))


# The user's settings may exclude paths from being fetched; what a model is made of is needed all the same.
_EVERYTHING = ("-c", "lfs.fetchinclude=", "-c", "lfs.fetchexclude=")


def _smudge(repo: Repository, pointer: bytes, size: int) -> tuple[bytes, str]:
    """What git-lfs makes of a pointer, at most one byte more than `size`, and what it said where it failed."""
    variables = environment(repo) | {"GIT_TERMINAL_PROMPT": "0"}  # a merge driver never prompts
    variables.pop("GIT_LFS_SKIP_SMUDGE", None)
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            ["git", *_EVERYTHING, "lfs", "smudge"], cwd=repo.top, env=variables, stdin=pipe, stdout=pipe, stderr=errors
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(pointer)  # far less than a pipe holds
            process.stdin.close()
        found = process.stdout.read(size + 1)
        process.stdout.close()
        process.wait()
        errors.seek(0)
        said = [line.strip() for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    wrong = [line for line in said if "rror" in line or "not a git command" in line]
    return found, (wrong or said or ["git-lfs gave no content"])[0].rpartition("): ")[2]


def _push(repo: Repository, args: tuple[str, ...], lines: str = "") -> None:
    # It speaks to the terminal itself: progress, questions for a password. Standard output is not ours to fill.
    command = ["git", "-c", "lfs.allowincompletepush=false", "lfs", *args]
    done = subprocess.run(command, cwd=repo.top, env=environment(repo), input=lines.encode(), stdout=2, check=False)
    if done.returncode:
        raise ForgeError(
            "the push was refused: git-lfs could not bring all files to its server (see what it said above)",
            hint="get what is missing here from a clone that has it: git lfs fetch --all",
        )


def _payloads_of(repo: Repository, tip: str) -> list[str]:
    """The blobs of a tip's payloads, where its .gitattributes sends some to git-lfs."""
    if b"filter=lfs" not in (read_path(repo, tip, ".gitattributes") or b""):
        return []
    listed = os.fsdecode(git(repo, "ls-tree", "-r", "-z", "--full-tree", tip, "--", *_FOLDERS)).split("\0")
    heads = (line.partition("\t")[0].split() for line in listed if line.endswith(SUFFIX))
    return [blob for mode, kind, blob in heads if kind == "blob" and mode.startswith("100")]


def _new_payloads(repo: Repository, remote: str, tips: Sequence[str]) -> list[str]:
    """The blobs of payloads in commits that the remote is not known to have."""
    if not tips:
        return []
    listed = git(repo, "rev-list", "--objects", *tips, "--not", f"--remotes={remote}", "--", *_FOLDERS)
    return [line.partition(" ")[0] for line in os.fsdecode(listed).splitlines() if line.endswith(SUFFIX)]


def _store_folder(repo: Repository) -> Path:
    """Where git-lfs keeps this clone's objects; lfs.storage may say."""
    lines = git_text(repo, "lfs", "env", check=False).splitlines()  # nothing where there is no git-lfs
    place = next((line.partition("=")[2] for line in lines if line.startswith("LocalMediaDir=")), "")
    return Path(place or repo.common_dir / "lfs" / "objects")


def _path_of(repo: Repository, blob: str) -> str:
    """The path that a blob has, or had, in some branch; looked for only where a message needs it."""
    known = git_text(repo, "log", "--all", "-1", "--format=", "--name-only", f"--find-object={blob}", check=False)
    return known.splitlines()[0] if known else f"blob {blob[:10]}"


def _named(source: str | Callable[[], str]) -> str:
    return source if isinstance(source, str) else source()
