"""Somebody with a clone (or a work tree of somebody's clone), and what can be said of it from outside."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from histories.oracle import ITEM, Recipe

# Files in the git folder of a work tree, and the operation that stands still while they are there.
STOPPED = {
    "rebase-merge": "rebase",
    "rebase-apply/applying": "am",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}
STAGES = {"1": "ancestor", "2": "ours", "3": "theirs"}


@dataclass(frozen=True)
class Snapshot:
    """A work tree as it is: where HEAD is, every entry of the index, every file with its mode."""

    branch: str
    head: str
    index: str
    files: dict[str, tuple[str, bool]] = field(hash=False)

    def tracked(self) -> Snapshot:
        """Without the files that git does not know."""
        known = {line.partition("\t")[2] for line in self.index.split("\0")}
        return Snapshot(self.branch, self.head, self.index, {p: f for p, f in self.files.items() if p in known})


@dataclass
class Person:
    """`top` is a work tree; `stopped` says what stands still there and how the tree was before."""

    name: str
    top: Path
    program: Path
    stopped: tuple[str, Snapshot] | None = None

    def git(self, *args: str, input: bytes | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """`git ARGS` with git forge on PATH, whatever its exit code."""
        path = f"{self.program}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["git", *args],
            cwd=self.top,
            env=os.environ | {"PATH": path} | variables,
            input=input or b"",
            capture_output=True,
        )
        said = (done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode("utf-8", "surrogateescape"))
        for text in said:
            assert "Traceback" not in text and "this is a bug" not in text, text
        return subprocess.CompletedProcess(done.args, done.returncode, *said)

    def ok(self, *args: str, input: bytes | None = None, **variables: str) -> str:
        """As `git`; it must succeed. What it printed, stripped."""
        done = self.git(*args, input=input, **variables)
        assert done.returncode == 0, f"git {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def id(self, rev: str) -> str:
        return self.ok("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")

    def has(self, rev: str) -> bool:
        return self.git("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}").returncode == 0

    @cached_property
    def common_dir(self) -> Path:
        return Path(self.ok("rev-parse", "--path-format=absolute", "--git-common-dir"))

    @property
    def head(self) -> str:
        return self.id("HEAD")

    @property
    def branch(self) -> str:
        """The name of the branch, empty where HEAD is on none."""
        return self.git("symbolic-ref", "--quiet", "--short", "HEAD").stdout.strip()

    @cached_property
    def git_dir(self) -> Path:
        return Path(self.ok("rev-parse", "--absolute-git-dir"))

    def branches(self) -> list[str]:
        """Local branches and those of the remote, sorted."""
        refs = self.ok("for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes").split("\n")
        return [ref.split("/", 2)[2] for ref in refs if ref and not ref.endswith("/HEAD")]

    def local_branches(self) -> list[str]:
        return self.ok("for-each-ref", "--format=%(refname:short)", "refs/heads").split("\n")

    def commits(self, *options: str) -> list[str]:
        """All commits that any branch leads to."""
        return self.ok("rev-list", "--branches", "--remotes", "--topo-order", *options).split("\n")

    def parents(self, commit: str) -> list[str]:
        return self.ok("rev-list", "--parents", "-1", commit).split(" ")[1:]

    def recipe(self, rev: str) -> Recipe | None:
        """The forge item of a revision, ":" for the index; None where there is none."""
        done = self.git("cat-file", "blob", f":{ITEM}" if rev == ":" else f"{rev}:{ITEM}")
        return Recipe(done.stdout.encode("utf-8", "surrogateescape")) if done.returncode == 0 else None

    def tree(self, rev: str) -> dict[str, str]:
        """The ids of all files of a revision, by path."""
        lines = self.ok("ls-tree", "-r", "-z", "--full-tree", rev).split("\0")
        return {line.partition("\t")[2]: line.split("\t")[0].split(" ")[2] for line in lines if line}

    def refs(self) -> str:
        """All refs as they lie on disk: cheap to compare, no process is started."""
        files = [self.git_dir / "HEAD", self.common_dir / "packed-refs"]
        files += sorted(path for path in (self.common_dir / "refs").rglob("*") if path.is_file())
        return "\n".join(f"{path} {path.read_text()}" for path in files if path.exists())

    def driver_works(self) -> bool:
        """Whether git would start this git forge to merge forge items."""
        return str(self.program) in self.git("config", "merge.forge.driver").stdout

    def snapshot(self) -> Snapshot:
        """Never refreshes the index: what is looked at stays as it is."""
        files = {}
        for folder, folders, names in os.walk(self.top):
            if ".git" in folders:
                folders.remove(".git")
            for name in names:
                path = Path(folder, name)
                relative = path.relative_to(self.top).as_posix()
                if relative != ".git":  # of a linked work tree
                    content = hashlib.sha1(path.read_bytes()).hexdigest()
                    files[relative] = (content, os.access(path, os.X_OK))
        head, branch = self.ok("rev-parse", "HEAD", "--symbolic-full-name", "HEAD").split("\n")
        return Snapshot(branch, head, self.ok("ls-files", "--stage", "-z"), files)

    def unmerged(self) -> dict[str, dict[str, str]]:
        """The blobs of files that are in conflict: path -> "ancestor", "ours", "theirs" -> id."""
        found: dict[str, dict[str, str]] = {}
        for line in self.ok("ls-files", "--unmerged", "-z").split("\0"):
            if line:
                entry, path = line.split("\t")
                _, blob, stage = entry.split(" ")
                found.setdefault(path, {})[STAGES[stage]] = blob
        return found

    def operation(self) -> str | None:
        """What stands still here; "merge-free" where files are in conflict without an operation to abort."""
        folder = self.git_dir
        for file, operation in STOPPED.items():
            if (folder / file).exists():
                return operation
        return "merge-free" if self.unmerged() else None

    def undo(self) -> None:
        """Give up what stands still, as git says to."""
        assert self.stopped is not None
        operation, before = self.stopped
        if operation == "merge-free":
            self.ok("reset", "--quiet", "--merge")
            self.ok("clean", "--quiet", "-fd")  # what a stash with untracked files has brought back
        else:
            self.ok(operation, "--abort")
        assert self.operation() is None
        after = self.snapshot()
        if operation == "merge-free":
            before, after = before.tracked(), after.tracked()
        assert after == before, f"{operation} --abort left {differences(before, after)}"
        self.stopped = None


def differences(before: Snapshot, after: Snapshot) -> str:
    """What differs, in short."""
    said = [
        f"{part}: {getattr(before, part)} -> {getattr(after, part)}"
        for part in ("branch", "head", "index")
        if getattr(before, part) != getattr(after, part)
    ]
    paths = {path for path in {*before.files, *after.files} if before.files.get(path) != after.files.get(path)}
    return "; ".join([*said, f"files: {sorted(paths)}"])
