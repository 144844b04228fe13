"""A real git-lfs and a real server for it on the loopback; a small model that is made once and copied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from sample_models import BASE, LABELS, SampleModel
from storage.lfs_models import PAYLOADS, LfsServer, remotes
from story.hospitals import git_ok

from forge.clone import setup as clone_setup
from forge.git.running import find_repository
from forge.operations.storage import convert
from forge.recipe.item import TaskScore

SCORES = tuple(TaskScore(task, LABELS, 4, 0.75, 0.5, 0.5, 0.7) for task in ("breast", "lung"))


@pytest.fixture(scope="session", autouse=True)
def git_lfs() -> None:
    if shutil.which("git-lfs") is None:
        pytest.skip("needs git-lfs (apt-get install git-lfs)")


@pytest.fixture(scope="session")
def lfs_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address, folder) of a giftless that runs for the whole session."""
    if find_spec("giftless") is None:
        pytest.skip("needs giftless (pip install -e '.[dev]')")
    folder = tmp_path_factory.mktemp("lfs-server")
    command = [sys.executable, str(Path(__file__).with_name("lfs_server.py")), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the server did not start"
        yield f"http://127.0.0.1:{port}", folder
        process.terminate()


@pytest.fixture
def server(lfs_process: tuple[str, Path], tmp_path: Path) -> LfsServer:
    """An empty repository on the server, for this test alone."""
    address, folder = lfs_process
    return LfsServer(f"{address}/tests/{tmp_path.name}.git/info/lfs", folder / "tests" / tmp_path.name)


@pytest.fixture(scope="session")
def in_git(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path, git_lfs: None) -> Path:
    """breast and lung in git itself; not to be changed: copy it.

    Not set up: the filter and the hooks of git forge would start a Python each time. Tests of both set it up.
    """
    sample = SampleModel(tmp_path_factory.mktemp("in-git") / "model")
    git_ok(sample.top, "config", "core.checkStat", "minimal")  # a copy is the same to git
    git_ok(sample.top, "config", "core.trustctime", "false")
    clone_setup.add_attributes(sample.repo)
    sample.commit("Attributes")
    sample.add_contribution("breast", {"breast": 1.0}, SCORES[:1])
    sample.add_contribution("lung", {"breast": 0.6, "lung": 0.25}, SCORES)
    return sample.top


@pytest.fixture(scope="session")
def in_lfs(tmp_path_factory: pytest.TempPathFactory, in_git: Path) -> Path:
    """As in_git, after `git forge storage lfs`; not to be changed: copy it."""
    top = tmp_path_factory.mktemp("in-lfs") / "model"
    shutil.copytree(in_git, top, symlinks=True)
    assert convert(find_repository(top), "lfs") == len(PAYLOADS)
    for path in PAYLOADS:  # as old as the index, git would ask git-lfs anew, which stores again what a test has lost
        os.utime(top / path, (1e9, 1e9))
    git_ok(top, "update-index", "-q", "--refresh")
    return top


@pytest.fixture(autouse=True)
def not_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command sets a clone up by itself but for git-lfs's part, for the same reason."""
    monkeypatch.setattr(clone_setup, "_ensure_own", lambda repo, settings: None)


@pytest.fixture
def model(in_git: Path, tmp_path: Path, server: LfsServer) -> Path:
    """A copy of in_git with an empty origin and the server."""
    return remotes(Path(shutil.copytree(in_git, tmp_path / "model", symlinks=True)), server)


@pytest.fixture
def lfs_model(in_lfs: Path, tmp_path: Path, server: LfsServer) -> Path:
    """A copy of in_lfs with an empty origin and the server."""
    return remotes(Path(shutil.copytree(in_lfs, tmp_path / "model", symlinks=True)), server)


CloneOf = Callable[..., Path]


@pytest.fixture
def clone(tmp_path: Path, server: LfsServer) -> CloneOf:
    """clone("name", lfs=True): a clone of origin that git forge has not seen; lfs: whether git-lfs is set up there."""

    def make(name: str, lfs: bool = True) -> Path:
        settings = ["-c", f"lfs.url={server.url}", *(FILTER if lfs else ())]
        git_ok(tmp_path, *settings, "clone", "--quiet", "origin.git", name)
        top = tmp_path / name
        git_ok(top, "config", "lfs.url", server.url)
        if lfs:
            git_ok(top, "lfs", "install", "--local")
        return top

    return make


# As `git lfs install` writes it into the settings of a user.
FILTER = (
    "-c", "filter.lfs.clean=git-lfs clean -- %f", "-c", "filter.lfs.smudge=git-lfs smudge -- %f",
    "-c", "filter.lfs.process=git-lfs filter-process", "-c", "filter.lfs.required=true",
)  # fmt: skip
assert BASE.reference == "embedded"  # no base is loaded here: nothing is searched and nothing scored
