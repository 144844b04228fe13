"""What each commit of a range does, and who signed it: the facts that rights are held against.

Of a merge that is what no parent accounts for: so no merge rolls back, or slips in, what its maker may not change.
All of it is asked of git at once, however many commits there are; a merge with two sides costs one process more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from forge.errors import ForgeError
from forge.git import lfs
from forge.git.path_merge import BasesOf, File, Unsettled, settled
from forge.git.quiet import quiet
from forge.git.running import Repository, git, git_text, read_blobs, run_git
from forge.recipe.layout import path_of
from forge.repo.storage import same_file
from forge.trust.rights import CommitFacts, Kind, contribution_of
from forge.trust.signatures import signatures

MAX_COMMITS = 10_000
MAX_PARENTS = 16
MAX_CHANGES = 1_000_000  # of all commits together

_Pair = tuple[File | None, File | None]  # a file before and after
Differences = Mapping[str, _Pair]

_AT_ONCE = 200  # pairs of trees
_PLAIN_MODES = ("100644", "100755")
# No setting of this machine's, nor a .gitmodules, may hide a change.
_DIFF_TREE = (
    *quiet("diff-tree"), "--stdin", "-r", "-z", "--raw", "--no-abbrev", "--no-relative", "--ignore-submodules=none",
)  # fmt: skip


@dataclass(frozen=True)
class _Commit:
    id: str
    parents: tuple[str, ...]


def signed_history(repo: Repository, target: str, head: str, allowed: bytes) -> tuple[CommitFacts, ...]:
    """The facts of every commit that `head` has and `target` has not (full ids), the first one first.

    allowed: the content of .forge/allowed_signers that counts. Raises ForgeError where the range is too large or is
    not all here.
    """
    commits = _range(repo, target, head)
    _refuse_cut_off(repo, commits)
    changes = _all_changes(repo, commits)
    signed = signatures(repo, [commit.id for commit in commits], allowed)
    removed = _removed(repo, changes)
    return tuple(
        CommitFacts(
            commit.id, signed[commit.id].signer, signed[commit.id].signature, changes[commit.id],
            removed.get(commit.id, frozenset()),
        )
        for commit in commits
    )  # fmt: skip


def _range(repo: Repository, target: str, head: str) -> list[_Commit]:
    listed = git_text(
        repo, "rev-list", "--topo-order", "--reverse", "--parents", f"--max-count={MAX_COMMITS + 1}", head,
        "--not", target,
    ).splitlines()  # fmt: skip
    if len(listed) > MAX_COMMITS:
        raise ForgeError(
            f"more than {MAX_COMMITS:,} commits are to be judged", hint="merge an older part of the branch first"
        )
    commits = [_Commit(words[0], tuple(words[1:])) for words in map(str.split, listed)]
    for commit in commits:
        if len(commit.parents) > MAX_PARENTS:
            raise ForgeError(f"{commit.id[:10]} has {len(commit.parents)} parents, more than {MAX_PARENTS}")
    return commits


def _refuse_cut_off(repo: Repository, commits: Iterable[_Commit]) -> None:
    """In a shallow clone the first commits that are there look as if each had brought all of its files."""
    try:
        ends = set((repo.common_dir / "shallow").read_text(encoding="ascii").split())
    except FileNotFoundError:
        return
    cut = next((commit.id for commit in commits if commit.id in ends), None)
    if cut:
        raise ForgeError(
            f"the history ends at {cut[:10]} in this shallow clone: what that commit changed cannot be known",
            hint="git fetch --unshallow",
        )


def _all_changes(repo: Repository, commits: Sequence[_Commit]) -> dict[str, dict[str, Kind]]:
    """By commit, the changes that are its own."""

    @cache
    def bases_of(side: str, others: tuple[str, ...]) -> tuple[str, ...]:
        done = run_git(repo, "merge-base", "--all", side, *others, variables={}, check=False)
        if done.returncode > 1:  # 1: there is none
            raise ForgeError(f"the history of {side[:10]} is not all in this repository", hint="git fetch --all")
        return tuple(done.stdout.decode().split())

    trees = _Trees(repo)
    trees.compare(pair for commit in commits for pair in _to_compare(commit, bases_of))
    pairs: dict[str, dict[str, _Pair]] = {}
    unsettled: dict[str, dict[str, Kind]] = {}
    for commit in commits:
        if len(commit.parents) > 1:
            pairs[commit.id], unsettled[commit.id] = _own_of_merge(commit, trees, bases_of)
        else:
            pairs[commit.id] = dict(trees.between(next(iter(commit.parents), None), commit.id))
    elsewhere = _stored_otherwise(repo, {pair for each in pairs.values() for pair in each.items()})
    return {
        commit: {
            path: "stored otherwise" if (path, pair) in elsewhere else _kind(*pair)
            for path, pair in sorted(differences.items())
        }
        | unsettled.get(commit, {})
        for commit, differences in pairs.items()
    }


def _to_compare(commit: _Commit, bases_of: BasesOf) -> Iterator[tuple[str | None, str]]:
    """What a commit is compared with: its parents, or nothing at all; a merge with its merge bases, too."""
    for parent in commit.parents or (None,):
        yield parent, commit.id
    for number, parent in enumerate(commit.parents[1:], 1):
        for base in bases_of(parent, commit.parents[:number]):
            yield base, commit.id


def _own_of_merge(commit: _Commit, trees: _Trees, bases_of: BasesOf) -> tuple[dict[str, _Pair], dict[str, Kind]]:
    """What a merge has otherwise than the rule gives it; and what it has decided where no rule says."""
    here: dict[str, File | None] = {}  # all files but those that are as in every parent
    for parent in commit.parents:
        here |= {path: new for path, (_, new) in trees.between(parent, commit.id).items()}

    def file_of(side: str, path: str) -> File | None:
        differences = trees.between(side, commit.id)
        return differences[path][0] if path in differences else here[path]

    own: dict[str, _Pair] = {}
    unsettled: dict[str, Kind] = {}
    for path, file in here.items():
        expected = settled(path, commit.parents, file_of, bases_of)
        if isinstance(expected, Unsettled):
            unsettled[path] = _kind(file, file)
        elif expected != file:
            own[path] = (expected, file)
    return own, unsettled


def _kind(old: File | None, new: File | None) -> Kind:
    if new is None:
        return "deleted"
    if new[0] not in _PLAIN_MODES or (old is not None and old[0] not in _PLAIN_MODES):
        return "mode"
    return "added" if old is None else "modified"


def _removed(repo: Repository, changes: Mapping[str, Mapping[str, Kind]]) -> dict[str, frozenset[str]]:
    """By commit, the contributions that it leaves no file of."""
    asked = sorted(
        {
            (commit, name)
            for commit, kinds in changes.items()
            for path, kind in kinds.items()
            if kind == "deleted" and (name := contribution_of(path))
        }
    )
    question = "".join(f"{commit}:{path_of(name)}\n" for commit, name in asked).encode()
    answers = git_text(repo, "cat-file", "--batch-check=%(objecttype)", input=question).splitlines() if asked else []
    gone: dict[str, frozenset[str]] = {}
    for (commit, name), answer in zip(asked, answers, strict=True):
        if answer.endswith(" missing"):
            gone[commit] = gone.get(commit, frozenset()) | {name}
    return gone


def _stored_otherwise(repo: Repository, pairs: Iterable[tuple[str, _Pair]]) -> set[tuple[str, _Pair]]:
    """The payloads that are a pointer of git-lfs on one side, and just what it points to on the other."""
    files = [
        (path, (old, new))
        for path, (old, new) in pairs
        if path.endswith(lfs.SUFFIX) and old and new and old[0] in _PLAIN_MODES and old[0] == new[0]
    ]
    if not files:
        return set()
    blobs = sorted({file[1] for _, pair in files for file in pair if file})
    question = "".join(f"{blob}\n" for blob in blobs).encode()
    answers = git_text(repo, "cat-file", "--batch-check=%(objectsize)", input=question).splitlines()
    sizes = {blob: int(size) for blob, size in zip(blobs, answers, strict=True) if size.isdigit()}
    small = read_blobs(repo, [blob for blob, size in sizes.items() if size <= lfs.MOST], lfs.MOST)
    pointers = {blob: pointer for blob, content in small.items() if (pointer := lfs.parse_pointer(content))}

    def alike(one: str, other: str) -> bool:
        return one in pointers and pointers[one].size == sizes.get(other) and same_file(repo, one, other)

    return {
        (path, (old, new))
        for path, (old, new) in files
        if old and new and (alike(old[1], new[1]) or alike(new[1], old[1]))
    }


@dataclass
class _Trees:
    """The files in which commits differ, each pair of trees compared once."""

    repo: Repository
    trees: dict[str | None, str] = field(default_factory=dict)
    differences: dict[tuple[str, str], Differences] = field(default_factory=dict)
    changes: int = 0

    def between(self, old: str | None, new: str) -> Differences:
        """The files by path, as they are in each of two commits; old None is no file at all."""
        self.compare([(old, new)])
        return self.differences[self.trees[old], self.trees[new]]

    def compare(self, pairs: Iterable[tuple[str | None, str]]) -> None:
        """Have the differences of all these pairs at hand."""
        commit_pairs = list(pairs)
        self._find_trees({commit for pair in commit_pairs for commit in pair})
        missing = {(self.trees[old], self.trees[new]) for old, new in commit_pairs}.difference(self.differences)
        todo = sorted(missing)
        for start in range(0, len(todo), _AT_ONCE):
            question = "".join(f"{old} {new}\n" for old, new in todo[start : start + _AT_ONCE])
            for pair, files in _parsed(git(self.repo, *_DIFF_TREE, input=question.encode())):
                self.differences[pair] = files
                self.changes += len(files)
                if self.changes > MAX_CHANGES:
                    raise ForgeError(f"the commits to be judged change more than {MAX_CHANGES:,} files")

    def _find_trees(self, commits: Iterable[str | None]) -> None:
        unknown = sorted(commit for commit in commits if commit is not None and commit not in self.trees)
        if None not in self.trees:
            self.trees[None] = git_text(self.repo, "hash-object", "-t", "tree", "--stdin")  # of nothing
        if not unknown:
            return
        question = "".join(f"{commit}^{{tree}}\n" for commit in unknown).encode()
        answers = git_text(self.repo, "cat-file", "--batch-check=%(objectname)", input=question).splitlines()
        for commit, answer in zip(unknown, answers, strict=True):
            if " " in answer:
                raise ForgeError(f"the files of {commit[:10]} are not in this repository", hint="git fetch --all")
            self.trees[commit] = answer


def _parsed(output: bytes) -> Iterator[tuple[tuple[str, str], Differences]]:
    """What `git diff-tree --stdin -z` says of pairs of trees: a line "OLD NEW", then ":MODES IDS LETTER" and a path."""
    pair: tuple[str, str] | None = None
    files: dict[str, _Pair] = {}
    fields = iter(os.fsdecode(output).split("\0"))
    for record in fields:
        *heads, record = record.split("\n")
        for head in heads:
            if pair:
                yield pair, files
            old_tree, _, new_tree = head.partition(" ")
            pair, files = (old_tree, new_tree), {}
        if not record:
            continue
        old_mode, new_mode, old, new, _ = record.removeprefix(":").split(" ")
        path = next(fields)
        if path in files:
            raise ForgeError(f"a tree that is to be judged names {path!r} twice", hint="see what git fsck says")
        files[path] = (
            (old_mode, old) if old_mode.strip("0") else None,
            (new_mode, new) if new_mode.strip("0") else None,
        )
    if pair:
        yield pair, files
