"""In a partial clone a fold asks for everything that it needs at once, and looks at each adapter once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from story.hospitals import (
    ITEM,
    contribution_files,
    forge_ok,
    git_ok,
    load_tiny_base,
    make_base,
    start_model,
    write_contribution,
)

from forge.clone import setup as clone_setup
from forge.operations import loading
from forge.recipe.item_text import from_json

SEEDS = {"breast": 1, "colon": 2, "kidney": 3, "lung": 4}
Count = Callable[[], Counter[str]]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path) -> Path:
    """main with breast and colon, and a branch of the same start with kidney and lung, one adapter of rank 2 each."""
    folder = tmp_path_factory.mktemp("origin")
    base_folder = make_base(folder / "base")
    base = load_tiny_base(base_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clone_setup, "ensure_installed", lambda repo: None)
        top = start_model(folder / "model", base_folder, program=Path("/nowhere/git-forge"))
        git_ok(top, "config", "filter.forge.required", "false")
        git_ok(top, "config", "--unset-all", "filter.forge.process")
        git_ok(top, "config", "core.hooksPath", "/nowhere")
        git_ok(top, "branch", "other")
        for branch, names in (("main", ("breast", "colon")), ("other", ("kidney", "lung"))):
            git_ok(top, "switch", "--quiet", branch)
            for name in names:
                files = contribution_files(base, name, labels=(f"no {name}", name), seed=SEEDS[name], rank=2)
                write_contribution(top, name, files)
            forge_ok(top, "commit")
    git_ok(top, "switch", "--quiet", "main")
    git_ok(top, "config", "uploadpack.allowFilter", "true")
    git_ok(top, "config", "uploadpack.allowAnySHA1InWant", "true")
    return top


@pytest.fixture
def partial(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone without a single payload; what a command looks at first is there."""
    monkeypatch.setattr(clone_setup, "ensure_installed", lambda repo: None)
    top = tmp_path / "clone"
    git_ok(tmp_path, "clone", "--quiet", "--filter=blob:none", "--no-checkout", origin.as_uri(), str(top))
    for rev in ("main", "origin/other"):
        for path in (ITEM, "forge.toml", ".gitattributes"):
            git_ok(top, "show", f"{rev}:{path}")
    return top


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Count:
    """How often git was started from now on, by verb: what git starts itself too, as it does for a missing object."""
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(trace))

    def count() -> Counter[str]:
        lines = trace.read_text().splitlines() if trace.exists() else []
        events = [json.loads(line) for line in lines]
        return Counter(event["name"] for event in events if event["event"] == "cmd_name")

    return count


def versions(top: Path, tmp_path: Path) -> list[Path]:
    """What git hands to the merge driver: the forge items of ancestor (none), ours and theirs in files."""
    files = [tmp_path / name for name in ("ancestor", "ours", "theirs")]
    files[0].write_bytes(b"")
    for file, rev in zip(files[1:], ("main", "origin/other"), strict=True):
        file.write_text(git_ok(top, "show", f"{rev}:{ITEM}") + "\n")
    return files


def test_the_merge_driver_fetches_once(
    partial: Path, tmp_path: Path, processes: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = versions(partial, tmp_path)
    checked: Counter[str] = Counter()
    check = loading.load_adapter

    def counted(*args: Any) -> Any:
        checked[args[-1]] += 1
        return check(*args)

    monkeypatch.setattr(loading, "load_adapter", counted)
    before = processes()
    forge_ok(partial, "merge-driver", *map(str, files))
    started = processes() - before
    merged = from_json(files[1].read_bytes())
    assert merged.names == ("breast", "colon", "kidney", "lung")
    assert started["fetch"] == 1
    assert checked == {f"contributions/{name}": 1 for name in merged.names}
    # All payloads by one, and what a path is by one each: the limits and the settings of HEAD.
    assert started["cat-file"] <= 5


def test_a_model_that_is_exported_is_fetched_at_once(partial: Path, tmp_path: Path, processes: Count) -> None:
    before = processes()
    forge_ok(partial, "export", "--format", "peft", "origin/other", tmp_path / "exported")
    assert (processes() - before)["fetch"] == 1


def test_what_is_verified_is_fetched_at_once(partial: Path, processes: Count) -> None:
    before = processes()
    forge_ok(partial, "verify", "origin/other")
    assert (processes() - before)["fetch"] == 1


def test_a_commit_fetches_what_is_kept_at_once(partial: Path, processes: Count) -> None:
    git_ok(partial, "sparse-checkout", "set", "--no-cone", "/*", "!/contributions/")
    git_ok(partial, "checkout", "--quiet", "main")
    git_ok(partial, "rm", "--quiet", "-r", "--cached", "--sparse", "contributions/colon")
    before = processes()
    forge_ok(partial, "commit")
    assert (processes() - before)["fetch"] == 1
