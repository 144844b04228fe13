"""Starting git: finding the repository, running a command in it, reading objects.

Only what is a conversation with a person or a stream without end starts git elsewhere, in the same `environment`:
a push, and git-lfs's own commands. GitPython asks what a push asks (pushing.py); the rest is not run by it: it can take
no variable out of the environment, and leaves a git at work when Ctrl-C comes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from forge.errors import ForgeError, MissingObject
from forge.git.files import share_as
from forge.git.messages import failure, what_git_said
from forge.git.quiet import PATHSPECS, SETTINGS, VARIABLES

# What `git rev-parse --local-env-vars` prints: variables that bind a process to one repository. A hook
# inherits them, and a git started in *another* repository would silently work on the first one.
LOCAL_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
)

MEBIBYTE = 1 << 20
BLOB_LIMIT = 256 * MEBIBYTE  # bytes; no blob of a contribution is larger unless forge.toml says so


@dataclass(frozen=True)
class Repository:
    """One work tree of one git repository.

    top: absolute top folder of the work tree (a bare repository has none: its git folder).
    git_dir: absolute; of a linked work tree, its own folder below the common one.
    common_dir: absolute; what all work trees of the clone share.
    inherits: found through this process's own environment, whose GIT_INDEX_FILE and the like therefore hold.
    """

    top: Path
    git_dir: Path
    common_dir: Path
    inherits: bool = field(default=False, compare=False)


def find_repository(start: Path | None = None) -> Repository:
    """The repository of the current folder (as git itself finds it, GIT_DIR included), or of `start`.

    With `start`, the environment's GIT_* variables are ignored: they speak of the current repository only.
    Raises ForgeError outside a repository.
    """
    folder = start if start is not None else Path.cwd()
    question = [
        "rev-parse",
        "--path-format=absolute",
        "--git-dir",
        "--git-common-dir",
        "--is-bare-repository",
    ]
    # In a bare repository --show-toplevel fails, after the answers before it have been printed.
    outer = os.environ if start is None else _without_local(os.environ)
    done = _run([*question, "--show-toplevel"], folder, {**outer, **VARIABLES})
    answers = os.fsdecode(done.stdout).splitlines()
    if len(answers) < 3:
        error, hint = what_git_said(done.stderr)
        if "not a git repository" in error:
            error = f"{folder} is not in a git repository"
            hint = "run this inside a model repository, or make one: git init && git forge init"
        raise ForgeError(error, hint=hint)
    git_dir, common_dir = Path(answers[0]), Path(answers[1])
    if len(answers) > 3:
        top = Path(answers[3])
    elif answers[2] == "false" and git_dir.name == ".git":  # standing inside .git
        top = git_dir.parent
    else:
        top = git_dir
    return Repository(top, git_dir, common_dir, inherits=start is None)


def environment(repo: Repository) -> dict[str, str]:
    """The environment for a program that is to work on `repo`, started in `repo.top`, and speaks to a person."""
    variables = {**(os.environ if repo.inherits else _without_local(os.environ)), **PATHSPECS}
    # refs/replace/ID, which anybody may push, would show other content for an object than the one that was checked.
    variables["GIT_NO_REPLACE_OBJECTS"] = "1"
    variables.pop("GIT_PREFIX", None)  # we start in the top folder, wherever the user stands
    if "GIT_DIR" in variables:  # may be relative to where this process started
        variables["GIT_DIR"] = str(repo.git_dir)
    if "GIT_WORK_TREE" in variables:
        variables["GIT_WORK_TREE"] = str(repo.top)
    return variables


def quiet_environment(repo: Repository) -> dict[str, str]:
    """As `environment`, for a program whose words are read: they are the same whatever the user's language is."""
    return environment(repo) | VARIABLES


def git(repo: Repository, *args: str, input: bytes | None = None, check: bool = True) -> bytes:
    """Standard output of `git ARGS` run in `repo.top`.

    Raises ForgeError with git's own words if it fails; with check=False a failure is no error and whatever
    was printed is returned.
    """
    return run_git(repo, *args, variables={}, input=input, check=check).stdout


def run_git(
    repo: Repository, *args: str, variables: Mapping[str, str], input: bytes | None = None, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """As `git`, with more variables in its environment; with check=False for who reads why it failed by himself."""
    done = _run(args, repo.top, quiet_environment(repo) | dict(variables), input)
    if check and done.returncode != 0:
        raise failure(args, done.returncode, done.stderr, done.stdout)
    return done


def git_text(repo: Repository, *args: str, input: bytes | None = None, check: bool = True) -> str:
    """As `git`, as stripped text."""
    return os.fsdecode(git(repo, *args, input=input, check=check)).strip()


def git_succeeds(repo: Repository, *args: str) -> bool:
    """Whether `git ARGS` exits with 0: for questions such as `merge-base --is-ancestor`."""
    return _run(args, repo.top, quiet_environment(repo)).returncode == 0


def read_blob(repo: Repository, blob: str, limit: int = BLOB_LIMIT) -> bytes:
    """The content of one blob. Errors as `read_blobs`."""
    return read_blobs(repo, [blob], limit)[blob]


def read_blobs(repo: Repository, blobs: Iterable[str], limit: int = BLOB_LIMIT) -> dict[str, bytes]:
    """The contents of blobs by id, through one `git cat-file --batch`.

    limit: largest size of one blob, in bytes; checked before its content is read.
    Raises ForgeError for an object that is missing, not a blob, or too large.
    """
    ids = list(dict.fromkeys(blobs))
    fetch_promised(repo, ids)
    contents = {}
    for name, content in _cat_file(repo, ids, limit):
        if content is None:
            raise _missing(name)
        contents[name] = content
    return contents


def stream_blobs(
    repo: Repository, blobs: Sequence[str], limit: int = BLOB_LIMIT
) -> Iterator[tuple[str, bytes | ForgeError]]:
    """As `read_blobs`, one after the other and in this order, with the error of each that cannot be read.

    One process reads all that are as they should be, and no more than one of them is held.
    """
    ids = list(blobs)
    fetch_promised(repo, list(dict.fromkeys(ids)))
    start = 0
    while start < len(ids):
        try:
            for name, content in _cat_file(repo, ids[start:], limit):
                yield name, _missing(name) if content is None else content
                start += 1
        except ForgeError as error:  # of this one; git is started again for the others
            yield ids[start], error
            start += 1


def fetch_promised(repo: Repository, blobs: Collection[str]) -> None:
    """In a partial clone, fetch all of these blobs at once: git itself would fetch them one by one as they are read.

    Without a word where that fails: reading them then says why.
    """
    # Who has everything, nearly everybody, pays no process for this.
    if len(blobs) < 2 or not any((repo.common_dir / "objects" / "pack").glob("*.promisor")):
        return
    promisors = git_text(repo, "config", "--type=bool", "--get-regexp", r"^remote\..*\.promisor$", check=False)
    keys = [line.removesuffix(" true") for line in promisors.splitlines() if line.endswith(" true")]
    names = [key.removeprefix("remote.").removesuffix(".promisor") for key in keys]
    local = git(repo, "cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname)")
    missing = sorted({*blobs} - {*local.decode().split("\n")})
    if names and missing:  # as git's own promisor-remote.c does it
        git(
            repo, "-c", "fetch.negotiationAlgorithm=noop", "fetch", names[0], "--no-tags", "--no-write-fetch-head",
            "--recurse-submodules=no", "--filter=blob:none", "--stdin",
            input="".join(f"{blob}\n" for blob in missing).encode(), check=False,
        )  # fmt: skip


def read_path(repo: Repository, rev: str, path: str, limit: int = BLOB_LIMIT) -> bytes | None:
    """The content of `path` (from the top folder) in `rev`, or None if `rev` has no such file.

    rev: anything that names a commit or tree; "" or ":" is the index, ":2" stage 2 of it.
    Raises ForgeError for an unknown `rev`, and for a blob that is in the tree but missing.
    """
    in_index = rev in ("", ":")
    name = f":{path}" if in_index else f"{rev}:{path}"
    [(_, content)] = _cat_file(repo, [name], limit)
    if content is not None:
        return content
    # Missing: because the tree has no such file, or because the tree itself or the content is not here.
    if rev.startswith(":") or in_index:
        listed = git_text(repo, "ls-files", "--stage", "--", f":(literal){path}") if in_index else ""
    elif git_succeeds(repo, "rev-parse", "--verify", "--quiet", f"{rev}^{{tree}}"):
        listed = git_text(repo, "ls-tree", "--full-tree", f"{rev}^{{tree}}", "--", path)
    else:
        raise ForgeError(f"unknown revision: {rev}", hint="list what there is: git log --oneline --all")
    entry = listed.partition("\t")[0].split()  # "MODE ID STAGE" of the index, "MODE blob ID" of a tree
    if len(entry) == 3 and (entry[1] == "blob" or (in_index and entry[2] == "0")):
        raise ForgeError(f"{name} is listed but its content is missing here", hint="git fetch --all")
    return None


def read_paths(repo: Repository, places: Collection[tuple[str, str]], limit: int) -> dict[tuple[str, str], bytes]:
    """The contents of files by (rev, path), through one git, which takes apart once what they have in common.

    What is not to be had, or larger than `limit`, is left out: read_path says why.
    """
    names = {f"{rev}:{path}": (rev, path) for rev, path in places}
    contents = {}
    with contextlib.suppress(ForgeError):
        for name, content in _cat_file(repo, list(names), limit):
            if content is not None:
                contents[names[name]] = content
    return contents


def hash_object(repo: Repository, content: Path | bytes, write: bool, path: str | None = None) -> str:
    """The blob id of a file or of bytes, written to the object store if `write`.

    path: where in the work tree it is meant to live, so that the filters of that path run over it; None
        stores the bytes exactly as they are.
    """
    args = ["hash-object", *(["-w"] if write else [])]
    args.append(f"--path={path}" if path is not None else "--no-filters")
    if isinstance(content, bytes):
        return git_text(repo, *args, "--stdin", input=content)
    return git_text(repo, *args, "--", str(content.absolute()))


def state_dir(repo: Repository) -> Path:
    """The folder for what git forge keeps per clone (caches, checkpoints, logs); made if need be."""
    folder = repo.common_dir / "forge"
    try:
        folder.mkdir(exist_ok=True)
        share_as(repo.common_dir, folder)
    except OSError as error:
        raise ForgeError(f"cannot make {folder}: {error.strerror}", hint="check its permissions") from error
    return folder


def _missing(name: str) -> MissingObject:
    return MissingObject(
        f"object {name} is named by the forge item but is not in this repository",
        hint="fetch it from where it was committed: git fetch --all; "
        "if it is damaged here, which `git fsck` tells: git fetch --refetch",
    )


def _cat_file(repo: Repository, names: list[str], limit: int) -> Iterable[tuple[str, bytes | None]]:
    """(name, content) of each name in turn; content None where git says it is missing."""
    if not names:
        return
    for name in names:
        if "\n" in name:
            raise ForgeError(f"not a name of an object: {name!r}")
    args = ["git", *SETTINGS, "cat-file", "--batch"]
    with _open(args, repo) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        try:
            for name in names:
                # One question, one answer: neither pipe can fill up while the other side waits.
                process.stdin.write(os.fsencode(name) + b"\n")
                process.stdin.flush()
                yield name, _one_object(name, process.stdout, process.stderr, limit)
        except BaseException:
            process.kill()  # it may be in the middle of a blob that nobody will read
            raise
        finally:
            _close(process.stdin)


def _one_object(name: str, replies: IO[bytes], errors: IO[bytes], limit: int) -> bytes | None:
    head = replies.readline()
    if not head:  # git died: a corrupt object, or a promised one that could not be fetched
        stderr = errors.read()
        error = failure(["cat-file", name], 128, stderr)
        if b"promisor remote" in stderr:
            raise MissingObject(
                f"{name} is not in this partial clone yet, and cannot be fetched: {error.message}",
                hint="see that `git fetch` works, and do it again",
            )
        raise error
    words = head.rsplit(b" ", 2)
    if len(words) != 3 or not words[2].strip().isdigit():  # "NAME missing", "NAME ambiguous"
        return None
    kind, size = words[1].decode(), int(words[2])
    if kind != "blob":
        raise ForgeError(f"{name} is a {kind}, not a file")
    if size > limit:
        raise ForgeError(
            f"{name} has {size:,} bytes, more than the limit of {limit:,}",
            hint="raise limits.file_mebibytes in forge.toml if you trust where it comes from",
        )
    content = replies.read(size)
    if len(content) != size:
        raise failure(["cat-file", name], 128, errors.read())
    replies.read(1)
    return content


def _open(command: list[str], repo: Repository) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            command, cwd=repo.top, env=quiet_environment(repo), stdin=pipe, stdout=pipe, stderr=pipe
        )
    except FileNotFoundError as error:
        raise _not_started(repo.top) from error


def _close(stream: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):  # it has gone already; its own message was reported
        stream.close()


def _run(
    args: Iterable[str], folder: Path, variables: Mapping[str, str] | None, input: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    # Without input git gets an empty one: it must never read, or wait at, our own standard input.
    command = ["git", *SETTINGS, *args]
    try:
        return subprocess.run(command, cwd=folder, env=variables, input=input or b"", capture_output=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _not_started(folder) from error


def _not_started(folder: Path) -> ForgeError:
    if not folder.is_dir():
        return ForgeError(f"no such folder: {folder}")
    return ForgeError("git was not found", hint="install git, and see that it is on PATH")


def _without_local(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in LOCAL_VARIABLES}
