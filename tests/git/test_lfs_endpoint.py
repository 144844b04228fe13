"""What is pinned, from which settings, and that a person's own stay; git-lfs itself is asked, and no server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from forge.clone import setup as clone_setup
from forge.git import lfs_endpoint
from forge.git import running as git_side
from forge.git.running import Repository, find_repository

if TYPE_CHECKING:
    from tests.conftest import RunGit

pytestmark = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs (apt-get install git-lfs)")

Config = Callable[..., str]
URL, PUSH_URL = "lfs.url", "lfs.pushurl"
ORIGIN = "https://host.invalid/m.git"
OWN = f"{ORIGIN}/info/lfs"
FORK, FORKS = "https://fork.invalid/m", "https://fork.invalid/m.git/info/lfs"
MINE = "https://mine.invalid/x"


@pytest.fixture
def config(repository: Repository, run_git: RunGit) -> Config:
    """config(*args): `git config ARGS` in the repository; nothing if it fails."""
    return lambda *args: run_git(repository.top, "config", *args, check=False)


@pytest.mark.parametrize(
    ("settings", "url", "push_url"),
    [
        ({"remote.origin.url": ORIGIN}, OWN, OWN),
        ({"remote.origin.url": "https://host.invalid/m"}, OWN, OWN),
        ({"remote.origin.url": "https://me:pw@host.invalid/m/"}, *["https://me:pw@host.invalid/m.git/info/lfs"] * 2),
        ({"remote.origin.url": "git://host.invalid/m.git"}, OWN, OWN),
        ({"remote.origin.url": "git://host.invalid/m", "lfs.gitprotocol": "http"}, *[OWN.replace("https", "http")] * 2),
        # Through ssh git-lfs asks the host itself: the URL stays what it is.
        ({"remote.origin.url": "git@host.invalid:x/m.git"}, *["git@host.invalid:x/m.git"] * 2),
        ({"remote.origin.url": "ssh://git@host.invalid:2222/m.git"}, *["ssh://git@host.invalid:2222/m.git"] * 2),
        ({"remote.origin.url": "alias:m.git"}, *["alias:m.git"] * 2),
        ({"remote.origin.url": "helper::m"}, *["helper::m"] * 2),
        ({"remote.origin.url": "/nothing/there.git"}, *["/nothing/there.git"] * 2),
        ({"remote.origin.url": FORK, "remote.origin.pushurl": ORIGIN}, FORKS, OWN),
        ({"remote.origin.url": "gh:m.git", "url.https://host.invalid/.insteadOf": "gh:"}, OWN, OWN),
        ({"remote.origin.url": ORIGIN, "url.git@h:.pushInsteadOf": "https://host.invalid/"}, OWN, "git@h:m.git"),
        ({"remote.upstream.url": ORIGIN}, OWN, OWN),
        ({"remote.fork.url": FORK, "remote.origin.url": ORIGIN}, OWN, OWN),
        ({"remote.fork.url": FORK, "remote.origin.url": ORIGIN, "remote.pushDefault": "fork"}, OWN, FORKS),
        ({"remote.fork.url": FORK, "remote.origin.url": ORIGIN, "remote.lfsDefault": "fork"}, FORKS, FORKS),
        # What a person has set stays, and counts.
        ({"remote.origin.url": ORIGIN, "lfs.url": MINE}, MINE, MINE),
        ({"lfs.url": MINE}, MINE, MINE),
        ({"remote.origin.url": ORIGIN, "lfs.pushurl": MINE}, OWN, MINE),
        ({"remote.origin.url": ORIGIN, "remote.origin.lfsurl": MINE}, MINE, MINE),
        ({"remote.origin.url": ORIGIN, "remote.origin.lfspushurl": MINE}, OWN, MINE),
        ({}, "", ""),
    ],
)  # fmt: skip
def test_what_is_pinned(
    settings: dict[str, str], url: str, push_url: str, repository: Repository, config: Config
) -> None:
    for key, value in settings.items():
        config(key, value)
    before = (repository.common_dir / "config").read_bytes()
    assert lfs_endpoint.pin(repository) == bool(settings)
    assert (config(URL), config(PUSH_URL)) == (url, push_url)
    for key, value in settings.items():
        assert config(key) == value
    assert lfs_endpoint.is_pinned(lfs_endpoint.list_settings(repository, lfs_endpoint.PATTERN))
    assert not lfs_endpoint.pin(repository)
    assert not (repository.common_dir / "lfs").exists(), "nothing is made in a clone that may never use git-lfs"
    lfs_endpoint.unpin(repository)
    assert (repository.common_dir / "config").read_bytes() == before


def test_paths_to_a_remote(repository: Repository, config: Config, run_git: RunGit) -> None:
    origin = repository.top.parent / "my origin.git"
    run_git(repository.top, "init", "-q", "--bare", str(origin))
    for place in (str(origin), "../my origin.git", f"file://{origin}"):
        config("remote.origin.url", place)
        assert lfs_endpoint.pin(repository)
        assert config(URL) == config(PUSH_URL) == f"file://{origin}".replace(" ", "%20" if "://" in place else " ")


def test_git_lfs_goes_by_it_whatever_lfsconfig_says(repository: Repository, config: Config, run_git: RunGit) -> None:
    """Each key by which a branch could name a server, or how to log in there; git-lfs says what it makes of it."""
    evil = "https://evil.invalid/x"
    keys = {
        URL: evil, PUSH_URL: evil, "remote.origin.lfsurl": evil, "remote.origin.lfspushurl": evil,
        "remote.origin.url": evil, "remote.origin.pushurl": evil, "remote.a.b.url": evil, "remote.a.b.lfsurl": evil,
        "remote.lfsdefault": "a.b", "remote.lfspushdefault": "a.b", "lfs.gitprotocol": "http",
        f"lfs.{OWN}.access": "basic", "lfs.https://host.invalid.access": "basic",
        f"url.{evil}.insteadof": "https://host.invalid/",
    }  # fmt: skip
    config("remote.origin.url", ORIGIN)
    lfs_endpoint.pin(repository)
    for key, value in keys.items():
        (repository.top / ".lfsconfig").unlink(missing_ok=True)
        run_git(repository.top, "config", "--file", ".lfsconfig", key, value)
        if key in (f"lfs.{OWN}.access", "remote.lfsdefault"):  # they are not only pinned, they would be heeded
            unpinned = run_git(repository.top, "-c", f"{key}=x", "lfs", "env").splitlines()
            assert f"Endpoint={OWN} (auth=none)" not in unpinned
        said = run_git(repository.top, "lfs", "env").splitlines()
        assert f"Endpoint={OWN} (auth=none)" in said, (key, said)
        found = [line for line in said if line.startswith("Endpoint")]
        assert all(f"={OWN} (auth=none)" in line for line in found), found


def test_it_follows_the_clones_own_settings(repository: Repository, config: Config, user_settings: Path) -> None:
    config("remote.origin.url", "https://old.invalid/m")
    assert lfs_endpoint.pin(repository)
    config("remote.origin.url", ORIGIN)
    assert lfs_endpoint.pin(repository)
    assert (config(URL), config("--get-all", "forge.lfsPinned").count(f"{URL} = ")) == (OWN, 1)

    config("url.git@host.invalid:.insteadOf", "https://host.invalid/")
    assert lfs_endpoint.pin(repository)
    assert config(URL) == "git@host.invalid:m.git"
    config("--unset", "url.git@host.invalid:.insteadOf")

    config("--global", URL, "https://user.invalid/x")  # a person's, for all clones: ours is not to hide it
    assert lfs_endpoint.pin(repository)
    assert (config("--local", URL), config(PUSH_URL)) == ("", "https://user.invalid/x")
    config("--global", "--unset", URL)

    config(f"lfs.{OWN}.access", "basic")  # as git-lfs writes it once it was asked for a password
    assert lfs_endpoint.pin(repository)
    assert config(URL) == OWN
    config(URL, MINE)  # over what was pinned
    assert lfs_endpoint.pin(repository)
    assert config(URL) == config(PUSH_URL) == MINE
    lfs_endpoint.unpin(repository)
    assert (config(URL), config(PUSH_URL)) == (MINE, "")
    assert config("--local", "--get-regexp", r"^forge\.|lfsdefault") == ""
    assert config(f"lfs.{OWN}.access") == "basic"


def test_how_to_log_in_that_a_person_has_set_stays(repository: Repository, config: Config) -> None:
    config("remote.origin.url", ORIGIN)
    config("lfs.https://host.invalid.access", "negotiate")
    lfs_endpoint.pin(repository)
    assert config(f"lfs.{OWN}.access") == "negotiate"
    lfs_endpoint.unpin(repository)
    assert config("--local", "--get-regexp", r"^lfs\..*access").splitlines() == [
        "lfs.https://host.invalid.access negotiate"
    ]


def test_a_look_at_a_clone_starts_no_more_than_it_did(
    repository: Repository, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    run = git_side._run

    def counted(args: Any, *rest: Any) -> Any:
        started.append(" ".join(args))
        return run(args, *rest)

    monkeypatch.setattr(git_side, "_run", counted)
    clone_setup.install(repository)
    started.clear()
    assert clone_setup.is_installed(repository)
    alone = list(started)
    assert [each.split()[0] for each in alone].count("config") == 2  # the settings, and core.hooksPath

    config("remote.origin.url", ORIGIN)
    assert not clone_setup.is_installed(repository)
    assert clone_setup.ensure_installed(repository) is None  # nothing to say of it in a model kept in git
    assert config(URL) == OWN
    started.clear()
    assert clone_setup.is_installed(repository)
    assert started == alone
    assert clone_setup.ensure_installed(repository) is None


def test_without_git_lfs_nothing_is_pinned_until_it_comes(
    repository: Repository, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config("remote.origin.url", ORIGIN)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda program: None)
        clone_setup.install(repository)
        assert clone_setup.is_installed(repository) and config(URL) == ""
    assert not clone_setup.is_installed(repository)
    clone_setup.install(repository)
    assert config(URL) == OWN
    clone_setup.uninstall(repository)
    assert config("--local", "--get-regexp", r"^(lfs|forge)\.") == ""


@pytest.mark.parametrize("dead", [0, 1, 2, 3, 4, 5, 6])
def test_a_kill_in_the_middle_leaves_nothing_that_looks_like_a_persons(
    dead: int, repository: Repository, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git is gone before its DEADth write; the next command does it all."""
    config("remote.origin.url", "https://old.invalid/m")
    lfs_endpoint.pin(repository)
    config("remote.origin.url", ORIGIN)
    writes, real = [0], lfs_endpoint.git

    def killed(repo: Repository, *args: str, **options: Any) -> bytes:
        if "--local" in args:
            writes[0] += 1
            if writes[0] > dead:
                raise KeyboardInterrupt
        return real(repo, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lfs_endpoint, "git", killed)
        lfs_endpoint.pin(repository)
    assert lfs_endpoint.pin(repository)
    assert config(URL) == config(PUSH_URL) == OWN
    lfs_endpoint.unpin(repository)
    assert config("--local", "--get-regexp", r"^(lfs|forge)\.") == ""


def test_linked_work_trees_share_it(repository: Repository, config: Config, run_git: RunGit) -> None:
    run_git(repository.top, "commit", "--allow-empty", "-qm", "one")
    run_git(repository.top, "worktree", "add", "-q", "../linked")
    config("remote.origin.url", ORIGIN)
    linked = find_repository(repository.top.parent / "linked")
    assert lfs_endpoint.pin(linked) and not lfs_endpoint.pin(repository)
    assert lfs_endpoint.find_endpoint(linked).url == OWN


@pytest.mark.parametrize(
    ("remote", "url", "expected"),
    [
        ("origin", ORIGIN, OWN),
        ("origin", "origin", OWN),
        ("fork", FORK, FORKS),
        ("fork", "fork", FORKS),
        ("https://x.invalid/m", "https://x.invalid/m", "https://x.invalid/m.git/info/lfs"),
    ],
)
@pytest.mark.parametrize("remotes", [1, 2])
def test_where_a_push_brings_its_files(
    remote: str, url: str, expected: str, remotes: int, repository: Repository, config: Config
) -> None:
    config("remote.origin.url", ORIGIN)
    if remotes == 2:
        config("remote.fork.url", FORK)
    elif remote == "fork" == url:
        return  # there is no such remote
    lfs_endpoint.pin(repository)
    assert lfs_endpoint.find_push_url(repository, remote, url) == expected
    config(URL, MINE)
    assert lfs_endpoint.find_push_url(repository, remote, url) == MINE
