from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from forge.clone.setup import add_attributes, is_installed
from forge.formats.safetensors import to_bytes
from forge.git.running import Repository, find_repository
from forge.recipe.item import Base, Entry, ForgeItem
from forge.recipe.item_text import to_json
from forge.recipe.settings import Settings, to_toml

if TYPE_CHECKING:
    from tests.conftest import RunForge, RunGit

BASE = Base("embedded", "sha256:" + "0" * 64)

pytestmark = pytest.mark.long  # whole programs, many of them


@pytest.fixture
def model(repository: Repository, run_git: RunGit, run_forge: RunForge) -> Repository:
    """A model repository with one contribution, committed."""
    assert run_forge(repository.top, "install").returncode == 0
    add_attributes(repository)
    top = repository.top
    folder = top / "contributions" / "ada"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(to_bytes({"w": np.ones(4, "f4")}))
    (folder / "distilled.safetensors").write_bytes(to_bytes({"w": np.ones(4, "f4")}))
    (folder / "adapter_config.json").write_text("{}\n")
    (folder / "card.toml").write_text("\n")
    (top / "forge.toml").write_text(to_toml(Settings(BASE)))
    run_git(top, "add", ".")
    names = ("adapter_model.safetensors", "adapter_config.json", "distilled.safetensors")
    blobs = [run_git(top, "rev-parse", f":contributions/ada/{name}") for name in names]
    item = ForgeItem(BASE, "mixture", (Entry("ada", *blobs, 0.5),))
    (top / "forge-item.json").write_text(to_json(item))
    run_git(top, "add", ".")
    run_git(top, "commit", "-qm", "one")
    return repository


def test_install_and_uninstall_say_what_they_did(repository: Repository, run_forge: RunForge) -> None:
    for _ in range(2):
        done = run_forge(repository.top, "install")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"git forge is set up in {repository.top}.\n"
        assert is_installed(repository)
    done = run_forge(repository.top, "uninstall", "--local")
    assert done.stdout == f"git forge is out of the settings and hooks of {repository.top}.\n"
    assert not is_installed(repository)


def test_what_was_uninstalled_stays_out_until_install(model: Repository, run_forge: RunForge, run_git: RunGit) -> None:
    def settings() -> list[str]:
        return sorted(run_git(model.top, "config", "--local", "--list").splitlines())

    before = settings()
    assert run_forge(model.top, "uninstall").returncode == 0
    for verb in ("status", "log", "verify"):
        assert "set up" not in run_forge(model.top, verb).stderr
    assert not is_installed(model)
    assert "This clone is not set up: run `git forge install`." in run_forge(model.top, "status").stdout
    run_git(model.top, "clone", "-q", ".", "../another")
    assert "was not set up" in run_forge(model.top.parent / "another", "status").stderr  # each clone for itself
    assert run_forge(model.top, "install").returncode == 0
    assert is_installed(model) and settings() == before
    run_git(model.top, "config", "--unset", "merge.forge.driver")
    assert "it was done again" in run_forge(model.top, "status").stderr


def test_a_chained_hook_is_named(repository: Repository, run_forge: RunForge) -> None:
    hook = repository.git_dir / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\n")
    done = run_forge(repository.top, "install")
    assert done.stdout.splitlines()[1:] == ["The pre-push hook that was there runs as well."]


def test_global_needs_no_repository(tmp_path: Path, user_settings: Path, run_forge: RunForge) -> None:
    before = user_settings.read_bytes()
    assert run_forge(tmp_path, "install", "--global").returncode == 0
    assert b'[filter "forge"]' in user_settings.read_bytes()
    assert run_forge(tmp_path, "uninstall", "--global").returncode == 0
    assert user_settings.read_bytes() == before


def test_outside_a_repository_it_is_an_error_with_the_next_step(tmp_path: Path, run_forge: RunForge) -> None:
    done = run_forge(tmp_path, "install")
    assert done.returncode == 128
    assert done.stderr.startswith(f"error: {tmp_path} is not in a git repository\nhint: ")


def test_a_fresh_clone_is_set_up_by_the_first_command(
    model: Repository, tmp_path: Path, run_git: RunGit, run_forge: RunForge
) -> None:
    run_git(tmp_path, "clone", "-q", str(model.top), "fresh")
    done = run_forge(tmp_path / "fresh", "log")
    assert done.stderr.startswith("This clone was not set up for git forge yet")
    assert is_installed(find_repository(tmp_path / "fresh"))
    assert "not set up" not in run_forge(tmp_path / "fresh", "log").stderr


def test_help_sets_nothing_up(model: Repository, tmp_path: Path, run_git: RunGit, run_forge: RunForge) -> None:
    run_git(tmp_path, "clone", "-q", str(model.top), "fresh")
    assert run_forge(tmp_path / "fresh", "log", "-h").returncode == 0
    assert not is_installed(find_repository(tmp_path / "fresh"))


def test_a_good_model_is_pushed_and_a_damaged_one_refused(
    model: Repository, tmp_path: Path, run_git: RunGit, git_process: RunForge
) -> None:
    run_git(tmp_path, "init", "-q", "--bare", "origin")
    done = git_process(model.top, "push", "../origin", "main")
    assert done.returncode == 0, done.stderr
    item = model.top / "forge-item.json"
    item.write_text(item.read_text().replace("0.5", "0.7"))
    run_git(model.top, "commit", "-qam", "by hand")
    done = git_process(model.top, "push", "../origin", "main")
    assert done.returncode != 0
    assert "error: the push was refused:" in done.stderr
    assert "refs/heads/main" in done.stderr and "edited by hand" in done.stderr
    assert run_git(tmp_path / "origin", "rev-list", "--count", "main") == "1"
    assert git_process(model.top, "push", "--no-verify", "../origin", "main").returncode == 0
    assert git_process(model.top, "push", "../origin", ":main").returncode in (0, 1)  # a bare HEAD may refuse


def test_a_tree_that_disagrees_with_its_forge_item_is_refused(
    model: Repository, tmp_path: Path, run_git: RunGit, git_process: RunForge
) -> None:
    run_git(tmp_path, "init", "-q", "--bare", "origin")
    path = model.top / "contributions" / "ada" / "adapter_model.safetensors"
    path.write_bytes(to_bytes({"w": np.zeros(4, "f4")}))
    run_git(model.top, "commit", "-qam", "another adapter")
    done = git_process(model.top, "push", "../origin", "main")
    assert done.returncode != 0
    assert "contributions/ada/adapter_model.safetensors" in done.stderr
    assert run_git(tmp_path / "origin", "for-each-ref") == ""


def test_branches_and_tags_without_a_model_are_pushed(
    model: Repository, tmp_path: Path, run_git: RunGit, git_process: RunForge
) -> None:
    run_git(tmp_path, "init", "-q", "--bare", "origin")
    run_git(model.top, "checkout", "-q", "--orphan", "pages")
    run_git(model.top, "rm", "-qrf", ".")
    run_git(model.top, "commit", "--allow-empty", "-qm", "no model")
    blob = run_git(model.top, "hash-object", "-w", "--stdin", input=b"x")
    run_git(model.top, "tag", "-am", "a blob", "blob", blob)
    run_git(model.top, "tag", "-am", "a model", "v1", "main")
    done = git_process(model.top, "push", "../origin", "pages", "blob", "v1")
    assert done.returncode == 0, done.stderr


def test_a_commit_of_a_damaged_forge_item_is_warned_about_and_made(model: Repository, git_process: RunForge) -> None:
    item = model.top / "forge-item.json"
    item.write_text("{}\n")
    done = git_process(model.top, "commit", "-am", "broken")
    assert done.returncode == 0
    assert "warning: no trailers" in done.stderr
    assert "Traceback" not in done.stderr


def test_git_diff_shows_summaries(model: Repository, run_git: RunGit) -> None:
    path = model.top / "contributions" / "ada" / "adapter_model.safetensors"
    path.write_bytes(to_bytes({"w": np.zeros(4, "f4")}))
    diff = run_git(model.top, "diff", "--", str(path))
    assert "-w       F32    4          1     1     1     2" in diff
    assert "+w       F32    4          0     0     0     0" in diff
    assert "contribution  coefficient" in run_git(model.top, "log", "-p", "--", "forge-item.json")


def test_an_unknown_hook_is_nothing_to_do(model: Repository, run_forge: RunForge) -> None:
    done = run_forge(model.top, "hook", "post-merge", "0", "--x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
