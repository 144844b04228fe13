"""Fixtures with real git, shut off from the machine: no user or system settings, fixed identity and dates."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from forge.formats.safetensors import to_bytes
from forge.git.running import LOCAL_VARIABLES, Repository, find_repository

USER_SETTINGS = """\
[user]
\tname = Ada Example
\temail = ada@example.org
[init]
\tdefaultBranch = main
[advice]
\tdetachedHead = false
[protocol "file"]
\tallow = always
"""
DATE = "2026-01-02T03:04:05+0000"

# No test depends on how fast the machine is; hypothesis would fail examples that take over 200 ms.
settings.register_profile(
    "forge",
    settings.get_profile("ci" if os.environ.get("CI") else "default"),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("forge")

RunGit = Callable[..., str]
RunForge = Callable[..., "subprocess.CompletedProcess[str]"]


# Folders of stories: whole models in real git, made with many commands. The others mirror the package.
STORIES = ("story", "threats", "storage", "trust", "histories", "faults", "hostile", "living")
# Those whose files take longest, so that no worker is left alone with one of them at the end.
LONGEST_FIRST = (*STORIES[:5], "model", *STORIES[5:])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))
    for item in items:
        if item.path.parent.name in STORIES:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session", autouse=True)
def isolated_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of its own: nothing of the user's is read, nothing is written there."""
    home = tmp_path_factory.mktemp("home")
    settings = home / "gitconfig"
    settings.write_text(USER_SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in LOCAL_VARIABLES or name.startswith(("GIT_TRACE", "FORGE_", "GIT_CONFIG_")):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("GIT_CONFIG_GLOBAL", str(settings))
        patch.setenv("GIT_TERMINAL_PROMPT", "0")
        patch.setenv("GIT_EDITOR", "true")
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_DATE", DATE)
        patch.setenv("LC_ALL", "C.UTF-8")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield home


@pytest.fixture
def user_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's git settings as a file of this test alone, for tests that write to them."""
    path = tmp_path / "gitconfig"
    path.write_text(USER_SETTINGS)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    return path


@pytest.fixture(scope="session")
def run_git() -> RunGit:
    """run_git(folder, *args, input=None, check=True, env={}): standard output of git, stripped."""

    def run(
        folder: Path,
        *args: str,
        input: bytes | None = None,
        check: bool = True,
        env: dict[str, str] | None = None,
    ) -> str:
        done = subprocess.run(
            ["git", *args],
            cwd=folder,
            input=input or b"",
            capture_output=True,
            env=os.environ | (env or {}),
        )
        if check and done.returncode != 0:
            raise AssertionError(f"git {' '.join(args)}: {done.returncode}\n{done.stderr.decode()}")
        return os.fsdecode(done.stdout).strip()

    return run


@pytest.fixture(scope="session")
def git_process() -> RunForge:
    """git_process(folder, *args, env={}): the completed process of git, whatever its exit code."""

    def run(
        folder: Path, *args: str, input: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *args],
            cwd=folder,
            input=input,
            capture_output=True,
            text=True,
            env=os.environ | (env or {}),
        )

    return run


@pytest.fixture(scope="session")
def run_forge() -> RunForge:
    """run_forge(folder, *args, env={}): the completed process of `git forge ARGS`, whatever its exit code."""

    def run(
        folder: Path, *args: str, input: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "forge", *args],
            cwd=folder,
            input=input,
            capture_output=True,
            text=True,
            env=os.environ | (env or {}),
        )

    return run


@pytest.fixture
def repository(tmp_path: Path, run_git: RunGit) -> Repository:
    """An empty git repository in a folder with a space in its name; nothing of git forge in it yet."""
    top = tmp_path / "a clone"
    top.mkdir()
    run_git(top, "init", "--quiet")
    return find_repository(top)


@pytest.fixture
def contribution_repository(repository: Repository) -> Repository:
    """As `repository`, with the settings, hooks and .gitattributes of a model repository; nothing committed."""
    from forge.clone import setup as clone_setup

    clone_setup.install(repository)
    clone_setup.add_attributes(repository)
    return repository


@pytest.fixture(scope="session")
def adapter_tensors() -> dict[str, np.ndarray[Any, Any]]:
    """A small LoRA in PEFT's names: two modules, rank 2."""
    random = np.random.default_rng(7)
    modules = ("visual.transformer.resblocks.0.attn.q_proj", "visual.transformer.resblocks.0.attn.v_proj")
    tensors = {}
    for module in modules:
        tensors[f"base_model.model.{module}.lora_A.weight"] = random.normal(size=(2, 8)).astype("f4")
        tensors[f"base_model.model.{module}.lora_B.weight"] = random.normal(size=(8, 2)).astype("f4")
    return tensors


@pytest.fixture(scope="session")
def adapter_bytes(adapter_tensors: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """The canonical adapter_model.safetensors of `adapter_tensors`."""
    return to_bytes(adapter_tensors, {"format": "pt"})
