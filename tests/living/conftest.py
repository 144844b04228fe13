"""A clone with a forge item, and a program that stands for git forge and writes down how it was called."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forge.git.running import Repository

if TYPE_CHECKING:
    from tests.conftest import RunGit

Folder = dict[str, tuple[str, bytes]]


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], list[str]]:
    """log(): what the program and the hooks of other tools have written since it was last asked."""
    path = tmp_path / "log"

    def read() -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return read


@pytest.fixture
def program(tmp_path: Path) -> str:
    """Writes `forge NAME` for every hook, and the ids that a pre-push is told."""
    path = tmp_path / "pro$gram with `spaces`"
    path.write_text(
        f'#!/bin/sh\n[ "$1" != --version ] || exit 0\necho "forge $2" >>\'{tmp_path}/log\'\n'
        f"[ \"$2\" != pre-push ] || cut -c1-15 >>'{tmp_path}/log'\n"
    )
    path.chmod(0o755)
    return f"'{path}'"


@pytest.fixture
def clone(repository: Repository, tmp_path: Path, run_git: RunGit) -> Repository:
    """A repository with one commit that looks like a model to the hooks, and a bare origin."""
    run_git(tmp_path, "init", "-q", "--bare", "origin.git")
    run_git(repository.top, "remote", "add", "origin", "../origin.git")
    (repository.top / "forge-item.json").write_text("{}")
    run_git(repository.top, "add", ".")
    run_git(repository.top, "commit", "-qm", "one")
    return repository


@pytest.fixture(scope="session")
def content_of() -> Callable[[Path], Folder]:
    """content_of(folder): every file below it, by path: kind and mode, and content."""

    def content(folder: Path) -> Folder:
        return {
            file.relative_to(folder).as_posix(): (stat.filemode(file.lstat().st_mode), file.read_bytes())
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }

    return content
