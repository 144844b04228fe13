"""What the tests of storage have in common: models in git-lfs, and the server that they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from story.hospitals import git_ok

ITEM = "forge-item.json"
PAYLOADS = tuple(
    f"contributions/{name}/{file}.safetensors" for name in ("breast", "lung") for file in ("adapter_model", "distilled")
)


@dataclass(frozen=True)
class LfsServer:
    """url: of one repository on the server. store: where it keeps objects, each a file named by its id."""

    url: str
    store: Path

    def has(self, oid: str) -> bool:
        return (self.store / oid).is_file()


def oid_of(top: Path, path: str, rev: str = "HEAD") -> str:
    """The id of the git-lfs object that a path is a pointer to."""
    pointer = git_ok(top, "show", f"{rev}:{path}").splitlines()
    assert pointer[0] == "version https://git-lfs.github.com/spec/v1", pointer
    return pointer[1].removeprefix("oid sha256:")


def lose(top: Path, oid: str) -> None:
    """Remove an object from git-lfs's store of a clone."""
    (top / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid).unlink()


def remotes(top: Path, server: LfsServer) -> Path:
    """Give a repository an empty bare origin beside it, and its files in git-lfs the server."""
    git_ok(top.parent, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    git_ok(top, "remote", "add", "origin", str(top.parent / "origin.git"))
    git_ok(top, "config", "lfs.url", server.url)
    return top


def state_of(top: Path) -> tuple[dict[str, bytes], list[str]]:
    """What a command that failed must leave as it was: work tree, index, refs, and what stands still."""
    files = {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}
    work_tree = {path: content for path, content in files.items() if not path.startswith(".git/")}
    questions = (("status", "--porcelain"), ("ls-files", "--stage"), ("for-each-ref",), ("rev-parse", "HEAD"))
    heads = sorted(path.name for path in (top / ".git").glob("*_HEAD") if path.name != "ORIG_HEAD")
    return work_tree, [*(git_ok(top, *question) for question in questions), *heads]
