"""Start-up: what people and git call all the time loads none of the heavy libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from forge.cli import VERBS
from forge.git.running import Repository
from forge.recipe.item import Base, ForgeItem
from forge.recipe.item_text import to_json
from forge.recipe.settings import Settings, to_toml

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunGit

HEAVY = (
    "torch", "torchvision", "open_clip", "peft", "transformers", "accelerate", "nevergrad", "sklearn", "pandas",
    "scipy", "PIL",
)  # fmt: skip
VERY_LIGHT = (*HEAVY, "numpy", "git", "rich")

# Runs the command line and prints the loaded modules after everything else, on standard error.
PROBE = """
import sys
from forge.cli import run
code = run(sys.argv[1:])
print("LOADED", code, *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.fixture
def model(contribution_repository: Repository, run_git: RunGit) -> Repository:
    """An empty model in two commits."""
    base = Base("embedded", "sha256:" + "0" * 64)
    top = contribution_repository.top
    (top / "forge.toml").write_text(to_toml(Settings(base)))
    (top / "forge-item.json").write_text(to_json(ForgeItem(base, "mixture")))
    run_git(top, "add", ".")
    run_git(top, "commit", "-qm", "one")
    run_git(top, "commit", "--allow-empty", "-qm", "two")
    return contribution_repository


def loaded_by(folder: Path, *args: str, input: bytes = b"") -> tuple[int, set[str]]:
    """(exit code, top-level modules) of `git forge ARGS` in a fresh interpreter."""
    command = [sys.executable, "-c", PROBE, *args]
    done = subprocess.run(command, cwd=folder, input=input, capture_output=True, env=dict(os.environ))
    lines = done.stderr.decode().splitlines()
    assert lines and lines[-1].startswith("LOADED "), done.stderr.decode()
    _, code, *modules = lines[-1].split()
    return int(code), set(modules)


@pytest.mark.parametrize("args", [("-h",), ("--help",), ("--version",), (), ("hook", "post-merge")])
def test_help_version_and_idle_hooks_load_next_to_nothing(tmp_path: Path, args: tuple[str, ...]) -> None:
    code, modules = loaded_by(tmp_path, *args)
    assert code == (0 if args else 129)
    assert not modules.intersection(VERY_LIGHT)


@pytest.mark.parametrize(
    "args",
    [
        ("log",),
        ("log", "--json"),
        ("show",),
        ("status",),
        ("storage",),
        ("sites",),
        ("verify", "--no-scores", "--since", "HEAD~1"),
        ("gc",),
        ("diff", "HEAD~1", "HEAD"),
        ("install",),
        ("uninstall",),
        ("textconv", "forge-item.json"),
        ("hook", "prepare-commit-msg", ".git/description", "message"),
        ("hook", "pre-push", "origin", "url"),
        ("hook", "pre-receive"),
    ],
    ids=" ".join,
)
def test_a_light_command_loads_nothing_heavy(model: Repository, args: tuple[str, ...], run_git: RunGit) -> None:
    tip = run_git(model.top, "rev-parse", "HEAD")
    refs = f"refs/heads/main {tip} refs/heads/main {'0' * 40}\n".encode()
    code, modules = loaded_by(model.top, *args, input=refs)
    assert code in (0, 1)
    assert not modules.intersection(HEAVY)


def packet(text: str) -> bytes:
    return f"{len(text) + 5:04x}{text}\n".encode()


def test_the_filter_loads_nothing_heavy(model: Repository, adapter_bytes: bytes) -> None:
    hello = packet("git-filter-client") + packet("version=2") + b"0000"
    hello += packet("capability=clean") + packet("capability=smudge") + b"0000"

    def file(command: str) -> bytes:
        head = packet(f"command={command}") + packet("pathname=a.safetensors") + b"0000"
        return head + f"{len(adapter_bytes) + 4:04x}".encode() + adapter_bytes + b"00000000"[:4]

    code, modules = loaded_by(model.top, "filter-process", input=hello + file("clean") + file("smudge"))
    assert code == 0
    assert not modules.intersection((*VERY_LIGHT, "click", "dataclasses", "tomllib"))


@pytest.mark.parametrize("verb", VERBS)
def test_help_on_a_verb_loads_nothing_heavy(tmp_path: Path, verb: str) -> None:
    code, modules = loaded_by(tmp_path, verb, "-h")
    assert code == 0
    assert not modules.intersection(HEAVY)


def test_the_help_lists_every_verb_and_no_plumbing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "forge", "-h"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    section = done.stdout.partition("Verbs:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in section.splitlines()] == list(VERBS)
