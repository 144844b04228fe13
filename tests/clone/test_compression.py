"""Payloads are stored and sent as they are, where nobody has decided otherwise."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forge.clone.setup import ensure_installed, install, uninstall
from forge.git.running import Repository
from forge.repo.storage import attribute_lines

if TYPE_CHECKING:
    from tests.conftest import RunGit

KEYS = ("core.looseCompression", "pack.compression")


def values(repo: Repository, run_git: RunGit, *scope: str) -> list[str]:
    """What the two settings are, in effect or in a scope; "" where they are not set."""
    return [run_git(repo.top, "config", *scope, "--default", "", "--get", key) for key in KEYS]


def test_set_once_and_taken_out_again(repository: Repository, run_git: RunGit) -> None:
    before = (repository.git_dir / "config").read_bytes()
    install(repository)
    assert values(repository, run_git, "--local") == ["0", "0"]
    installed = (repository.git_dir / "config").read_bytes()
    install(repository)
    assert (repository.git_dir / "config").read_bytes() == installed
    uninstall(repository)
    assert (repository.git_dir / "config").read_bytes() == before


def test_a_clone_of_an_earlier_version_gets_them_without_a_word(repository: Repository, run_git: RunGit) -> None:
    install(repository)
    for key in (*KEYS, "forge.compressionset"):
        run_git(repository.top, "config", "--unset-all", key)
    assert ensure_installed(repository) is None
    assert values(repository, run_git, "--local") == ["0", "0"]


@pytest.mark.parametrize("scope", ["--local", "--global"])
@pytest.mark.parametrize(
    ("key", "value", "ours"),
    [
        ("core.compression", "-1", ["", ""]),
        ("core.looseCompression", "0", ["", "0"]),
        ("pack.compression", "9", ["0", ""]),
    ],
)
def test_what_a_person_has_set_stays_and_decides(
    repository: Repository, run_git: RunGit, user_settings: Path, scope: str, key: str, value: str, ours: list[str]
) -> None:
    by_hand = ["", ""]
    if scope == "--local" and key in KEYS:
        by_hand[KEYS.index(key)] = value
    expected = [one or other for one, other in zip(ours, by_hand, strict=True)]
    run_git(repository.top, "config", scope, key, value)
    install(repository)
    assert values(repository, run_git, "--local") == expected
    uninstall(repository)
    assert values(repository, run_git, "--local") == by_hand
    assert run_git(repository.top, "config", scope, key) == value


def test_who_sets_one_later_decides_too(repository: Repository, run_git: RunGit) -> None:
    install(repository)
    run_git(repository.top, "config", "pack.compression", "6")
    assert ensure_installed(repository) is None
    assert values(repository, run_git) == ["0", "6"]
    run_git(repository.top, "config", "core.compression", "3")
    assert ensure_installed(repository) is None
    assert values(repository, run_git) == ["", "6"]
    uninstall(repository)
    assert values(repository, run_git) == ["", "6"]


def test_where_git_lfs_keeps_the_payloads_git_packs_as_ever(repository: Repository, run_git: RunGit) -> None:
    attributes = repository.top / ".gitattributes"
    attributes.write_text("".join(f"{line}\n" for line in attribute_lines("git")))
    install(repository)
    assert values(repository, run_git) == ["0", "0"]
    attributes.write_text("".join(f"{line}\n" for line in attribute_lines("lfs")))
    ensure_installed(repository)
    assert values(repository, run_git) == ["", ""]


def test_the_objects_are_the_same_and_arrive_as_they_are(
    repository: Repository, run_git: RunGit, tmp_path: Path
) -> None:
    content = bytes(100_000)
    (repository.top / "zeros").write_bytes(content)
    run_git(repository.top, "add", "zeros")
    blob = run_git(repository.top, "rev-parse", ":zeros")
    loose = repository.git_dir / "objects" / blob[:2] / blob[2:]
    assert loose.stat().st_size < 1000
    loose.unlink()
    install(repository)
    run_git(repository.top, "add", "--renormalize", "zeros")
    run_git(repository.top, "hash-object", "-w", "zeros")
    assert loose.stat().st_size > len(content)
    assert zlib.decompress(loose.read_bytes()) == b"blob 100000\0" + content
    run_git(repository.top, "commit", "-qm", "one")
    run_git(tmp_path, "init", "-q", "--bare", "origin.git")
    run_git(repository.top, "push", "-q", str(tmp_path / "origin.git"), "HEAD:refs/heads/main")
    run_git(tmp_path / "origin.git", "fsck", "--strict")
    assert run_git(tmp_path / "origin.git", "rev-parse", "main:zeros") == blob
    run_git(tmp_path / "origin.git", "gc", "-q")
    run_git(tmp_path, "clone", "-q", "--no-local", "-b", "main", "origin.git", "another")
    assert (tmp_path / "another" / "zeros").read_bytes() == content
