"""What a server takes: pushes whose versions verify, within limits that no pushed file can raise.

The commit that each ref is set to must verify, new to the server or not: what came in behind the tip of one ref
could else be made the tip of another. With `git config forge.checkCommits all` every new commit must as well, as
`git forge verify --no-scores` has it: a branch may hold commits that do not, such as a merge on a web page that the
next commit refolds. The size is that of every new file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from forge.errors import ForgeError
from forge.operations.verifying import problems_of
from forge.repo import lfs
from forge.repo.consolidation import PATHS as CONSOLIDATION_PATHS
from forge.repo.contribution import FOLDER as CONTRIBUTIONS
from forge.repo.git import BLOB_LIMIT, MEBIBYTE, Repository, git, git_succeeds, git_text, read_blob
from forge.repo.payloads import MAX_CONFIG, MAX_DISTILLED, check_adapter, check_adapter_config
from forge.repo.places import list_files, read_file, read_item
from forge.repo.recipe import FILE_NAME as ITEM_FILE
from forge.repo.settings import FILE_NAME as SETTINGS_FILE
from forge.repo.settings import LimitSettings


@dataclass(frozen=True)
class ServerLimits:
    """What `git config` of the receiving repository says: forge.maxFileSize and so on.

    file_size: bytes of one file, also of one in git-lfs. contributions: in one version. files: below contributions/
    in one version. images: in one distilled dataset. all_commits: whether every new commit must verify, not only the
    one that a ref is set to.
    """

    file_size: int = BLOB_LIMIT
    contributions: int = 1000
    files: int = 10_000
    images: int = MAX_DISTILLED
    all_commits: bool = False


@dataclass(frozen=True)
class Update:
    """One line that git tells a pre-receive hook; an id of zeros is no commit."""

    old: str
    new: str
    ref: str

    @property
    def deletes(self) -> bool:
        return not self.new.strip("0")

    @property
    def creates(self) -> bool:
        return not self.old.strip("0")


@dataclass(frozen=True)
class Verdict:
    """problems: why a push is to be refused, one line each. unseen: files whose content git-lfs keeps elsewhere."""

    problems: tuple[str, ...] = ()
    unseen: int = 0


class _PointerReader:
    """Follows pointers of git-lfs to objects that are kept beside the repository, without git-lfs, never elsewhere.

    unseen: what was said of those that are not there; no problem of the push, whose server for them is another.
    """

    def __init__(self, repo: Repository, limits: ServerLimits) -> None:
        self.limits = limits
        self.objects = repo.common_dir / "lfs" / "objects"
        self.unseen: set[str] = set()

    def follow(self, repo: Repository, content: bytes, source: str, limit: int) -> bytes:
        """`content`, or what it points to. Raises ForgeError where that is too large, another file, or not here."""
        pointer = lfs.parse_pointer(content)
        if pointer is None:
            return content
        if pointer.size > min(limit, self.limits.file_size):
            raise ForgeError(_over(source, pointer.size, self.limits))
        file = self.objects / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid
        if pointer.altered or not file.is_file():
            message = f"{source}: object {pointer.oid} of git-lfs is not on this machine"
            self.unseen.add(message)
            raise ForgeError(message)
        found = file.read_bytes() if file.stat().st_size == pointer.size else b""
        if hashlib.sha256(found).hexdigest() != pointer.oid:
            raise ForgeError(f"{source}: what git-lfs keeps as {pointer.oid[:10]} is another file")
        return found


def parse_updates(lines: Iterable[str]) -> list[Update]:
    """The updates of git's lines "OLD-ID NEW-ID REF"."""
    found = (line.rstrip("\n").split(" ", 2) for line in lines)
    return [Update(*words) for words in found if len(words) == 3]


def read_server_limits(repo: Repository) -> ServerLimits:
    """The limits of the receiving repository. Raises ForgeError for one that is no number."""
    return ServerLimits(
        file_size=_number(repo, "forge.maxFileSize", ServerLimits.file_size),
        contributions=_number(repo, "forge.maxContributions", ServerLimits.contributions),
        files=_number(repo, "forge.maxFiles", ServerLimits.files),
        images=_number(repo, "forge.maxImages", ServerLimits.images),
        all_commits=_checks_all(repo),
    )


def check_push(repo: Repository, updates: Sequence[Update]) -> Verdict:
    """Look at a push where git runs a pre-receive hook: the new objects are in quarantine, the refs as they were."""
    limits = read_server_limits(repo)
    updates = [update for update in updates if not update.deletes]
    problems = _too_large(repo, updates, limits)
    if problems:
        return Verdict(tuple(problems))  # nothing of it is read
    reader = _PointerReader(repo, limits)
    checked: dict[str, list[str]] = {}
    for update in updates:
        commits = _commits_to_check(repo, update.new, limits.all_commits)
        for commit in commits:
            if commit not in checked:
                checked[commit] = _version_problems(repo, commit, limits, reader)
            at = "" if commit == commits[0] else f" ({commit[:10]})"
            problems += [f"{update.ref}{at}: {problem}" for problem in checked[commit]]
        if commits and not update.creates and _is_model(repo, update.old) and not _is_model(repo, commits[0]):
            problems.append(f"{update.ref}: there was a model, and {ITEM_FILE} is gone")
    return Verdict(tuple(problems), len(reader.unseen))


def _number(repo: Repository, key: str, default: int) -> int:
    if not git_succeeds(repo, "config", "--get", key):
        return default
    try:
        return int(git_text(repo, "config", "--type=int", "--get", key))
    except ForgeError as error:
        raise ForgeError(
            f"the server's setting {key} is wrong: {error.message}", hint=f"git config {key} 20m"
        ) from None


def _checks_all(repo: Repository) -> bool:
    value = git_text(repo, "config", "--get", "forge.checkCommits", check=False) or "tips"
    if value not in ("tips", "all"):
        raise ForgeError(
            f"the server's setting forge.checkCommits is {value!r}", hint="git config forge.checkCommits tips (or all)"
        )
    return value == "all"


def _too_large(repo: Repository, updates: Sequence[Update], limits: ServerLimits) -> list[str]:
    """The new files of a push that are over the limit."""
    if not updates:
        return []
    wanted = "".join(f"{update.new}\n" for update in updates).encode()
    listed = git(repo, "rev-list", "--objects", "--stdin", "--not", "--all", input=wanted)
    paths = {name: path for name, _, path in (line.partition(" ") for line in os.fsdecode(listed).splitlines())}
    names = "".join(f"{name}\n" for name in paths).encode()
    answers = git_text(repo, "cat-file", "--batch-check=%(objecttype) %(objectname) %(objectsize)", input=names)
    found = []
    for line in answers.splitlines():
        kind, name, size = line.split(" ")
        if kind == "blob" and int(size) > limits.file_size:
            found.append(_over(paths[name] or name, int(size), limits))
    return found


def _over(path: str, size: int, limits: ServerLimits) -> str:
    return f"{path} has {size:,} bytes, more than the {limits.file_size:,} that this server takes (forge.maxFileSize)"


def _commits_to_check(repo: Repository, tip: str, every: bool) -> list[str]:
    """The commit of a pushed object first; if `every`, then those behind it that no ref of the server has yet."""
    commit = git_text(repo, "rev-parse", "--verify", "--quiet", f"{tip}^{{commit}}", check=False)
    if not commit:
        return []  # a tag of a tree or blob
    new = git_text(repo, "rev-list", "--topo-order", commit, "--not", "--all").split() if every else []
    return list(dict.fromkeys([commit, *new]))


def _is_model(repo: Repository, commit: str) -> bool:
    if not git_succeeds(repo, "cat-file", "-e", f"{commit}^{{commit}}"):
        return False
    return any(read_file(repo, commit, file) is not None for file in (SETTINGS_FILE, ITEM_FILE))


def _version_problems(repo: Repository, commit: str, limits: ServerLimits, reader: _PointerReader) -> list[str]:
    """What is wrong with one commit; nothing if it is no version of a model."""
    try:
        if not _is_model(repo, commit):
            return []
        paths = list_files(repo, commit, CONTRIBUTIONS)
        if len(paths) > limits.files:
            return [f"{len(paths):,} files below {CONTRIBUTIONS}/, more than {limits.files:,} (forge.maxFiles)"]
        names = {path.split("/")[1] for path in paths if path.count("/") > 1}
        if len(names) > limits.contributions:
            return [f"{len(names):,} contributions, more than {limits.contributions:,} (forge.maxContributions)"]
        most = LimitSettings(max(1, -(-limits.file_size // MEBIBYTE)), max(1, limits.images))
        problems = problems_of(repo, commit, scores=False, most=most, follow=reader.follow)
        problems = [problem for problem in problems if problem not in reader.unseen]
        return problems or _consolidation_problems(repo, commit, reader)
    except ForgeError as error:
        return [error.message]


def _consolidation_problems(repo: Repository, commit: str, reader: _PointerReader) -> list[str]:
    """Whether a consolidation's files are an adapter; that they are those of the forge item is known."""
    made = read_item(repo, commit).consolidation
    if made is None:
        return []
    try:
        config = check_adapter_config(read_blob(repo, made.config, MAX_CONFIG), CONSOLIDATION_PATHS["config"])
        path = CONSOLIDATION_PATHS["adapter"]
        check_adapter(reader.follow(repo, read_blob(repo, made.adapter), path, reader.limits.file_size), config, path)
    except ForgeError as error:
        return [] if error.message in reader.unseen else [error.message]
    return []
