"""git-lfs, for models whose payloads have outgrown git: its pointers followed, its filter set up, its pushes made sure.

git-lfs does all the storing and transferring itself. A pointer (its docs/spec.md) is a small text that stands
for a file in a tree: the SHA-256 of the content and its size.

The clone decides where a pointer may lead, never the branch that holds it. What git-lfs has in this clone is read.
What it has not is asked for only where git-lfs is set up in this clone's own settings, and only at the endpoint that
is set there (lfs_endpoint.py). So a clone of a model kept in git refuses pointers, and no .lfsconfig moves anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from forge.errors import ForgeError
from forge.git.lfs_endpoint import NOWHERE, Endpoint, default_remote, find_endpoint, find_push_url, list_settings
from forge.git.places import ATTRIBUTES_FILE, pushed_commits
from forge.git.quiet import quiet
from forge.git.running import (
    BLOB_LIMIT,
    Repository,
    environment,
    git,
    git_succeeds,
    git_text,
    quiet_environment,
    read_blobs,
    read_path,
    run_git,
)

START = b"version https://git-lfs."
MOST = 1024  # bytes: what is larger is no pointer, says the specification
INSTALL = "install git-lfs (https://git-lfs.com), then run: git lfs install"

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?P<extensions>(?:ext-[0-9]-[!-~]+ sha256:[0-9a-f]{64}\n)*)"
    rb"oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>[0-9]{1,18})\n"
)
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Pointer:
    """What a pointer says. altered: the object is not the file itself but what an extension made of it."""

    oid: str
    size: int
    altered: bool = False


def parse_pointer(content: bytes) -> Pointer | None:
    """The pointer that `content` is, if it is one."""
    match = _POINTER.fullmatch(content) if len(content) <= MOST else None
    return Pointer(match["oid"].decode(), int(match["size"]), bool(match["extensions"])) if match else None


def is_available(repo: Repository) -> bool:
    """Whether git finds git-lfs on this machine."""
    return git_succeeds(repo, "lfs", "version")


def how_to_get(repo: Repository) -> str:
    """What puts files into the work tree in the place of pointers, in this clone."""
    if not is_available(repo):
        return INSTALL
    endpoint = find_endpoint(repo)
    if not endpoint.used:
        return "this clone does not use git-lfs; if it is to: git lfs install --local"
    return "run `git lfs pull`" if endpoint.asked else "git remote add origin URL, then run `git lfs pull`"


def require(repo: Repository, why: str) -> None:
    """Raise ForgeError unless git-lfs is on this machine."""
    if not is_available(repo):
        raise ForgeError(f"git-lfs is not on this machine, and {why}", hint=INSTALL)


def require_filter(repo: Repository, why: str) -> None:
    """Raise ForgeError unless git would run git-lfs's filter in this clone: without it a file is no pointer."""
    require(repo, why)
    if not list_settings(repo, r"^filter\.lfs\.(clean|process)$"):
        raise ForgeError(f"git-lfs is not set up in this clone, and {why}", hint="git lfs install --local")


def ensure_set_up(repo: Repository) -> str | None:
    """See that git-lfs is set up in this clone, where it is to be; what to tell the user if it was not.

    A branch alone does not decide that: the remote's own main branch, as it was fetched, must keep payloads there too.
    """
    if not _is_set_up(repo) and not _main_branch_uses_it(repo):
        return (
            "warning: this branch keeps its payloads in git-lfs, which this clone does not use, nor does the main "
            "branch of its remote; if it is to: git lfs install --local"
        )
    try:
        done = set_up(repo)
    except ForgeError as error:
        return f"warning: {error.message}"
    return "git-lfs was not set up in this clone yet; it is now. Get the files with: git lfs pull" if done else None


def set_up(repo: Repository) -> bool:
    """Set git-lfs up in this clone's own settings; whether that was to be done. Raises ForgeError where it fails."""
    if _is_set_up(repo):
        if not is_available(repo):
            raise ForgeError(f"git-lfs is not on this machine: {INSTALL}")
        return False
    if not is_available(repo):
        raise ForgeError(f"this model keeps its payloads in git-lfs, which is not on this machine: {INSTALL}")
    try:
        git(repo, "lfs", "install", "--local", "--skip-repo")  # the settings alone; hooks are chained by ours
    except ForgeError as error:
        raise ForgeError(f"git-lfs could not be set up in this clone: {error.message}") from error
    return True


def read_payloads(repo: Repository, blobs: Iterable[str], limit: int = BLOB_LIMIT) -> dict[str, bytes]:
    """The contents of blobs by id, as read_blobs; where a blob is a pointer, the content that it stands for."""
    contents = read_blobs(repo, blobs, limit)
    pointers = {blob: content for blob, content in contents.items() if content.startswith(START)}
    if pointers:
        endpoint = find_endpoint(repo)
        _fetch_at_once(repo, pointers, limit, endpoint)
        for blob, content in pointers.items():
            contents[blob] = _follow(repo, content, partial(_path_of, repo, blob), limit, endpoint)
    return contents


def fetch_missing(repo: Repository, blobs: Iterable[str], limit: int = BLOB_LIMIT) -> None:
    """Get at once what `follow` would get one by one: the objects of those blobs that are pointers.

    No error where that fails: following them says why.
    """
    endpoint = find_endpoint(repo)
    if endpoint.asked:
        pointers = pointers_among(repo, blobs)
        _fetch_at_once(repo, read_blobs(repo, pointers), limit, endpoint)


def follow(repo: Repository, content: bytes, source: str, limit: int = BLOB_LIMIT) -> bytes:
    """`content` itself, or the file that it is a pointer to, which git-lfs gets if it is not here and it may be asked.

    source: what a message names. Raises ForgeError where the object cannot be had, is larger than `limit`, or is not
    what the pointer says.
    """
    if parse_pointer(content) is None:
        return content
    return _follow(repo, content, lambda: source, limit, find_endpoint(repo))


def pointers_among(repo: Repository, blobs: Iterable[str]) -> dict[str, Pointer]:
    """Those of the blobs that are pointers, by id; no large blob is read."""
    names = "".join(f"{blob}\n" for blob in dict.fromkeys(blobs))
    if not names:
        return {}
    answers = git_text(repo, "cat-file", "--batch-check=%(objectname) %(objectsize)", input=names.encode())
    sizes = (line.rsplit(" ", 1) for line in answers.splitlines())
    small = [name for name, size in sizes if size.isdigit() and int(size) <= MOST]
    pointers = {blob: parse_pointer(content) for blob, content in read_blobs(repo, small).items()}
    return {blob: pointer for blob, pointer in pointers.items() if pointer is not None}


def objects_here(repo: Repository, pointers: Iterable[Pointer]) -> set[str]:
    """The ids of those objects that git-lfs has in this clone."""
    oids = {pointer.oid for pointer in pointers}
    if not oids:
        return set()
    folder = _store_folder(repo)
    return {oid for oid in oids if (folder / oid[:2] / oid[2:4] / oid).is_file()}


def is_pointer_file(path: Path | str) -> bool:
    """Whether a file on disk is a pointer where the content should be."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    # Thousands are looked at, and a pointer is short: what is longer need not be opened.
    if not stat.S_ISREG(status.st_mode) or not len(START) <= status.st_size <= MOST:
        return False
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return os.read(descriptor, len(START)) == START
    finally:
        os.close(descriptor)


def store(repo: Repository, content: bytes) -> bytes:
    """Put content into git-lfs's store of this clone; the pointer to it."""
    text = git(repo, "lfs", "clean", input=content)
    pointer = parse_pointer(text)
    if pointer is None or not (pointer.altered or pointer.oid == hashlib.sha256(content).hexdigest()):
        raise ForgeError("git-lfs did not store a file as it should", hint="see: git lfs env")
    return text


def fetch(repo: Repository) -> None:
    """Download what HEAD needs, in one go. No error where that fails: reading says what is missing."""
    endpoint = find_endpoint(repo)
    if endpoint.asked:
        git(repo, *_only(endpoint.url), *_EVERYTHING, "lfs", "fetch", check=False)


def push_objects(repo: Repository, remote: str, url: str, refs: Sequence[str], folders: Sequence[str]) -> None:
    """For the pre-push hook: bring what the pushed commits keep in git-lfs to its server, or refuse the push.

    refs: git's lines "LOCAL-REF LOCAL-ID REMOTE-REF REMOTE-ID". folders: those that payloads lie in. Raises
    ForgeError where an object is neither here nor there, whatever the user's settings allow.
    """
    tips = [tip for _, tip in pushed_commits(repo, refs)]
    needed = pointers_among(repo, [blob for tip in tips for blob in _payloads_of(repo, tip, folders)]).values()
    if not needed and not pointers_among(repo, _new_payloads(repo, remote, tips, folders)):
        return
    require(repo, "what is pushed keeps files in it")
    only = _only(find_push_url(repo, remote, url))
    # git-lfs's own hook may have done this already: then it finds nothing to do.
    _push(repo, (*only, "lfs", "pre-push", remote, url), "".join(f"{line.strip()}\n" for line in refs))
    here = sorted(objects_here(repo, needed))
    if here and remote in git_text(repo, "remote").split("\n"):  # git-lfs takes no path in place of a name here
        # Among them is what an earlier push without hooks has left behind.
        _push(repo, (*only, "lfs", "push", "--object-id", remote, *here))


# The user's settings may exclude paths from being fetched; what a model is made of is needed all the same.
_EVERYTHING = ("-c", "lfs.fetchinclude=", "-c", "lfs.fetchexclude=")


def _only(url: str | None) -> tuple[str, ...]:
    """Options of git that leave git-lfs one endpoint, in both directions; None: no place but this clone."""
    if url is None:  # as a path it is left to git-lfs's own agent for paths, which finds no repository there
        return (*_only(NOWHERE), "-c", "lfs.standalonetransferagent=lfs-standalone-file")
    return ("-c", f"lfs.url={url}", "-c", f"lfs.pushurl={url}")


def _is_set_up(repo: Repository) -> bool:
    """Whether git-lfs's filter is in this clone's own settings; those of a user speak of other clones too."""
    keys = {each.key for each in list_settings(repo, r"^filter\.lfs\.", "local")}
    return {"filter.lfs.clean", "filter.lfs.required"} <= keys


def _main_branch_uses_it(repo: Repository) -> bool:
    """Whether the main branch of the remote keeps payloads in git-lfs; True as well where no such branch is known."""
    main = f"refs/remotes/{default_remote(repo)}/HEAD"
    if not git_succeeds(repo, "rev-parse", "--verify", "--quiet", f"{main}^{{commit}}"):
        return True
    return b"filter=lfs" in (read_path(repo, main, ATTRIBUTES_FILE) or b"")


def _follow(repo: Repository, content: bytes, source: Callable[[], str], limit: int, endpoint: Endpoint) -> bytes:
    pointer = parse_pointer(content)
    if pointer is None:
        return content
    if pointer.size > limit:
        raise ForgeError(
            f"{source()}: the file in git-lfs has {pointer.size:,} bytes, more than the limit of {limit:,}",
            hint="raise limits.file_mebibytes in forge.toml if you trust where it comes from",
        )
    payload, reason = _smudge(repo, content, pointer.size, endpoint)
    if len(payload) == pointer.size and (pointer.altered or hashlib.sha256(payload).hexdigest() == pointer.oid):
        return payload
    if payload != content:
        reason = "what is stored under its name is another file (see git lfs fsck)"
    elif not endpoint.asked:
        raise _not_asked(source(), pointer, endpoint)
    raise ForgeError(
        f"{source()}: the content is in git-lfs, and object {pointer.oid[:10]} cannot be had: {reason}"[:600],
        hint="get it with: git lfs pull (of other branches: git lfs fetch --all)" if is_available(repo) else INSTALL,
    )


def _not_asked(source: str, pointer: Pointer, endpoint: Endpoint) -> ForgeError:
    here = f"{source}: this is a pointer of git-lfs, and object {pointer.oid[:10]} is not in this clone"
    if not endpoint.used:
        return ForgeError(
            f"{here}, which does not use git-lfs: no server was asked for it",
            hint="let who made the branch run git forge storage git; if this clone is to use git-lfs after all: "
            "git lfs install --local",
        )
    return ForgeError(
        f"{here}, whose settings name no server for it", hint="git remote add origin URL, or git config lfs.url URL"
    )


def _fetch_at_once(repo: Repository, pointers: Mapping[str, bytes], limit: int, endpoint: Endpoint) -> None:
    """Let git-lfs get the objects of pointers (by the ids of their blobs) that are not here, in one conversation.

    It would else start, and ask its server, for each as it is read. Only what would be asked for then is asked for now:
    at the clone's endpoint alone, and nothing over the limit. git-lfs fetches what a tree has pointers to, so it is
    given a tree of these, which is kept beside the repository and not in it. Where that fails they are read one by one.
    """
    parsed = {blob: pointer for blob, content in pointers.items() if (pointer := parse_pointer(content)) is not None}
    sized = {blob: pointer for blob, pointer in parsed.items() if pointer.size <= limit}
    if len(sized) < 2 or not endpoint.asked or "GIT_OBJECT_DIRECTORY" in environment(repo):
        return
    here = objects_here(repo, sized.values())
    missing = [blob for blob, pointer in sized.items() if pointer.oid not in here]
    if len(missing) < 2:
        return
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="git-forge-") as folder:
        variables = {
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(repo.common_dir / "objects"),
            "GIT_TERMINAL_PROMPT": "0",  # as in _smudge
        }
        listing = "".join(f"100644 blob {blob}\t{number}{SUFFIX}\0" for number, blob in enumerate(missing))
        answer = run_git(repo, "mktree", "-z", variables=variables, input=listing.encode(), check=False)
        tree, remote = answer.stdout.decode().strip(), default_remote(repo)
        if tree and remote:
            options = (*_only(endpoint.url), *_EVERYTHING, "-c", "lfs.fetchrecentalways=false")
            run_git(repo, *options, "lfs", "fetch", remote, tree, variables=variables, check=False)


def _smudge(repo: Repository, pointer: bytes, size: int, endpoint: Endpoint) -> tuple[bytes, str]:
    """What git-lfs makes of a pointer, at most one byte more than `size`, and what it said where it failed.

    Where the endpoint may not be asked it is the pointer itself, unless the object is here.
    """
    from tempfile import TemporaryFile  # loads much

    command = ["git", *_only(endpoint.url if endpoint.asked else None), *_EVERYTHING, "lfs", "smudge"]
    variables = quiet_environment(repo) | {"GIT_TERMINAL_PROMPT": "0"}  # a merge driver never prompts
    variables.pop("GIT_LFS_SKIP_SMUDGE", None)
    pipe = subprocess.PIPE
    with (
        TemporaryFile() as errors,
        subprocess.Popen(command, cwd=repo.top, env=variables, stdin=pipe, stdout=pipe, stderr=errors) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(pointer)  # far less than a pipe holds
            process.stdin.close()
        content = process.stdout.read(size + 1)
        process.stdout.close()
        process.wait()
        errors.seek(0)
        lines = [line.strip() for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    wrong = [line for line in lines if "rror" in line or "not a git command" in line]
    return content, (wrong or lines or ["git-lfs gave no content"])[0].rpartition("): ")[2]


def _push(repo: Repository, args: tuple[str, ...], lines: str = "") -> None:
    # It speaks to the terminal itself: progress, questions for a password. Standard output is not ours to fill.
    command = ["git", "-c", "lfs.allowincompletepush=false", *args]
    done = subprocess.run(command, cwd=repo.top, env=environment(repo), input=lines.encode(), stdout=2, check=False)
    if done.returncode:
        raise ForgeError(
            "the push was refused: git-lfs could not bring all files to its server (see what it said above)",
            hint="get what is missing here from a clone that has it: git lfs fetch --all",
        )


def _payloads_of(repo: Repository, tip: str, folders: Sequence[str]) -> list[str]:
    """The blobs of a tip's payloads, where its .gitattributes sends some to git-lfs."""
    if b"filter=lfs" not in (read_path(repo, tip, ATTRIBUTES_FILE) or b""):
        return []
    listed = os.fsdecode(git(repo, "ls-tree", "-r", "-z", "--full-tree", tip, "--", *folders)).split("\0")
    heads = (line.partition("\t")[0].split() for line in listed if line.endswith(SUFFIX))
    return [blob for mode, kind, blob in heads if kind == "blob" and mode.startswith("100")]


def _new_payloads(repo: Repository, remote: str, tips: Sequence[str], folders: Sequence[str]) -> list[str]:
    """The blobs of payloads, small enough for a pointer, in commits that the remote is not known to have."""
    if not tips:
        return []
    small = f"--filter=blob:limit={MOST + 1}"
    listed = git(repo, "rev-list", "--objects", small, *tips, "--not", f"--remotes={remote}", "--", *folders)
    return [line.partition(" ")[0] for line in os.fsdecode(listed).splitlines() if line.endswith(SUFFIX)]


def _store_folder(repo: Repository) -> Path:
    """Where git-lfs keeps this clone's objects; lfs.storage may say."""
    lines = git_text(repo, "lfs", "env", check=False).splitlines()  # nothing where there is no git-lfs
    place = next((line.partition("=")[2] for line in lines if line.startswith("LocalMediaDir=")), "")
    return Path(place or repo.common_dir / "lfs" / "objects")


def _path_of(repo: Repository, blob: str) -> str:
    """The path that a blob has, or had, in some branch; looked for only where a message needs it."""
    known = git_text(
        repo, *quiet("log"), "--all", "-1", "--format=", "--name-only", f"--find-object={blob}", check=False
    )
    return known.splitlines()[0] if known else f"blob {blob[:10]}"
