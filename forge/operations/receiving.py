"""What a server takes: pushes whose versions verify, within limits that no pushed file can raise.

The commit that each ref is set to must verify, new to the server or not: what came in behind the tip of one ref
could else be made the tip of another. With `git config forge.checkCommits all` every new commit must as well, as
`git forge verify --no-scores` has it: a branch may hold commits that do not, such as a merge on a web page that the
next commit refolds. The size is that of every new file. A protected branch (forge.protected, else the one that HEAD
names) asks for the rights and approvals that its own .forge/ says, and with forge.reproduce every forge item is made
again. What a push brings has no say in any of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from forge.errors import ForgeError
from forge.formats.adapter import MAX_CONFIG, check_adapter, check_adapter_config
from forge.git import lfs
from forge.git.places import list_files
from forge.git.running import Repository, git, git_succeeds, git_text, read_blob
from forge.operations.server_settings import (
    ServerLimits,
    ServerSettings,
    as_limit_settings,
    limits_for,
    read_server_settings,
)
from forge.operations.trusting import approval_problems, trust
from forge.operations.verify import find_problems
from forge.recipe.layout import CONTRIBUTIONS, ITEM_FILE, consolidation_paths
from forge.repo.items import holds_model, read_item


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


class UnseenError(ForgeError):
    """A file whose object git-lfs keeps elsewhere: no problem of the push, whose server for it is another."""


class _PointerReader:
    """Follows pointers of git-lfs to objects that are kept beside the repository, without git-lfs, never elsewhere.

    unseen: the files, each with its object, that are not there.
    """

    def __init__(self, repo: Repository, limits: ServerLimits) -> None:
        self.limits = limits
        self.objects = repo.common_dir / "lfs" / "objects"
        self.unseen: set[tuple[str, str]] = set()

    def follow(self, repo: Repository, content: bytes, source: str, limit: int) -> bytes:
        """`content`, or what it points to. Raises ForgeError where that is too large, another file, or not here."""
        pointer = lfs.parse_pointer(content)
        if pointer is None:
            return content
        if pointer.size > min(limit, self.limits.file_size):
            raise ForgeError(_over(source, pointer.size, self.limits))
        file = self.objects / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid
        if pointer.altered or not file.is_file():
            self.unseen.add((source, pointer.oid))
            raise UnseenError(f"{source}: object {pointer.oid} of git-lfs is not on this machine")
        kept = file.read_bytes() if file.stat().st_size == pointer.size else b""
        if hashlib.sha256(kept).hexdigest() != pointer.oid:
            raise ForgeError(f"{source}: what git-lfs keeps as {pointer.oid[:10]} is another file")
        return kept


def parse_updates(lines: Iterable[str]) -> list[Update]:
    """The updates of git's lines "OLD-ID NEW-ID REF"."""
    split_lines = (line.rstrip("\n").split(" ", 2) for line in lines)
    return [Update(*words) for words in split_lines if len(words) == 3]


def check_push(repo: Repository, updates: Sequence[Update]) -> Verdict:
    """Look at a push where git runs a pre-receive hook: the new objects are in quarantine, the refs as they were."""
    settings = read_server_settings(repo)
    deleted = [update for update in updates if update.deletes]
    updates = [update for update in updates if not update.deletes]
    targets = {update.ref: _target(repo, update) for update in updates}
    limits = {ref: limits_for(repo, settings, target) for ref, target in targets.items()}
    problems = [problem for update in deleted for problem in _deletion_problems(repo, update, settings)]
    problems += _too_large(repo, updates, limits)
    if problems:
        return Verdict(tuple(problems))  # nothing of it is read
    unseen: set[tuple[str, str]] = set()
    for update in updates:
        reader = _PointerReader(repo, limits[update.ref])
        commits = _commits_to_check(repo, update.new, settings.all_commits)
        own_problems = []
        for commit in commits:
            at = "" if commit == commits[0] else f" ({commit[:10]})"
            reasons = _version_problems(repo, commit, limits[update.ref], reader)
            own_problems += [f"{update.ref}{at}: {problem}" for problem in reasons]
        if commits and not update.creates and _is_model(repo, update.old) and not _is_model(repo, commits[0]):
            own_problems.append(f"{update.ref}: there was a model, and {ITEM_FILE} is gone")
        if commits and not own_problems:  # else there is nothing to judge
            reasons = [*_rights_problems(repo, update, commits[0], settings)]
            reasons += _not_reproduced(repo, update, targets[update.ref], commits[0], settings)
            own_problems = [f"{update.ref}: {problem}" for problem in reasons]
        problems += own_problems
        unseen |= reader.unseen
    return Verdict(tuple(problems), len(unseen))


def _target(repo: Repository, update: Update) -> str | None:
    """What an update is measured by: the ref as it is, or for a new one the branch that HEAD names."""
    for commit in ([] if update.creates else [update.old]) + ["HEAD"]:
        target = git_text(repo, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", check=False)
        if target and _is_model(repo, target):
            return target
    return None


def _rights_problems(repo: Repository, update: Update, commit: str, settings: ServerSettings) -> Iterator[str]:
    """What the rights of a protected branch, as it is, have against setting it to a commit.

    A new one is measured by the branch that HEAD names, and may be set to whatever that has had already.
    """
    if update.ref not in settings.protected:
        return
    start = "HEAD" if update.creates else update.old
    target = git_text(repo, "rev-parse", "--verify", "--quiet", f"{start}^{{commit}}", check=False)
    if not target:
        return  # the first of all
    judged = trust(repo, target, commit)
    yield from judged.problems
    if not judged.required or (update.creates and git_succeeds(repo, "merge-base", "--is-ancestor", commit, target)):
        return
    if not update.creates and not git_succeeds(repo, "merge-base", "--is-ancestor", target, commit):
        yield f"it goes back: {commit[:10]} does not contain {target[:10]}"
    yield from approval_problems(repo, target, commit)


def _deletion_problems(repo: Repository, update: Update, settings: ServerSettings) -> Iterator[str]:
    if update.ref in settings.protected and trust(repo, update.old, update.old).required:
        yield f"{update.ref}: a protected branch is not deleted"


def _not_reproduced(
    repo: Repository, update: Update, target: str | None, commit: str, settings: ServerSettings
) -> list[str]:
    """The forge items that do not come out again, where the operator asks for that: it takes a search for each."""
    if not settings.reproduce or not _is_model(repo, commit):
        return []

    from forge.operations.reproducing import reproduce

    signed = False
    if target is not None and update.ref in settings.protected:
        judged = trust(repo, target, commit)
        signed = judged.required and not judged.problems
    try:
        return [
            f"not reproduced: {problem}" for problem in reproduce(repo, target, commit, own_settings=signed).problems
        ]
    except ForgeError as error:
        return [error.message]


def _too_large(repo: Repository, updates: Sequence[Update], limits: Mapping[str, ServerLimits]) -> list[str]:
    """The new files of a push that are over the limit of every ref in it: which of them brings a file is not asked."""
    if not updates:
        return []
    most = max(limits.values(), key=lambda each: each.file_size)
    tips = "".join(f"{update.new}\n" for update in updates).encode()
    listed = git(repo, "rev-list", "--objects", "--stdin", "--not", "--all", input=tips)
    paths = {name: path for name, _, path in (line.partition(" ") for line in os.fsdecode(listed).splitlines())}
    names = "".join(f"{name}\n" for name in paths).encode()
    answers = git_text(repo, "cat-file", "--batch-check=%(objecttype) %(objectname) %(objectsize)", input=names)
    problems = []
    for line in answers.splitlines():
        kind, name, size = line.split(" ")
        if kind == "blob" and int(size) > most.file_size:
            problems.append(_over(paths[name] or name, int(size), most))
    return problems


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
    return holds_model(repo, commit)


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
        problems = find_problems(repo, commit, scores=False, most=as_limit_settings(limits), follow=reader.follow)
        texts = [problem.text for problem in problems if not isinstance(problem.error, UnseenError)]
        return texts or _consolidation_problems(repo, commit, reader)
    except ForgeError as error:
        return [error.message]


def _consolidation_problems(repo: Repository, commit: str, reader: _PointerReader) -> list[str]:
    """Whether a consolidation's files are an adapter; that they are those of the forge item is known."""
    residual = read_item(repo, commit).consolidation
    if residual is None:
        return []
    path = consolidation_paths()["adapter"]
    try:
        config = check_adapter_config(read_blob(repo, residual.config, MAX_CONFIG), consolidation_paths()["config"])
        adapter = reader.follow(repo, read_blob(repo, residual.adapter), path, reader.limits.file_size)
        check_adapter(adapter, config, path)
    except UnseenError:
        return []
    except ForgeError as error:
        return [error.message]
    return []
