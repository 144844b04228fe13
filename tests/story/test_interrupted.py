"""Ctrl-C at any point: nothing has changed, and doing it again gives what an unbroken run gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from story.conftest import Files
from story.hospitals import (
    ITEM,
    Merged,
    change_settings,
    copy_repository,
    forge,
    forge_ok,
    git,
    git_ok,
    item,
    write_contribution,
)
from story.snapshots import snapshot
from story.test_bad_places import pictures

LONGEST = 120.0  # seconds: a safety net, not an expectation
# Python ends by the signal itself where Ctrl-C came while a C extension was being loaded; a shell shows 130 for both.
INTERRUPTED = (130, -signal.SIGINT)
DISTIL = ("--method", "dm-dsa", "--ipc", "1", "--real-batch", "4", "--judge-steps", "2", "--optimizer", "adam")


def start(top: Path, *command: str) -> subprocess.Popen[str]:
    """A command in a process group of its own that Ctrl-C reaches, as a shell on a terminal starts one.

    Tests that run in the background inherit that Ctrl-C is ignored, and so would the command.
    """
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=top,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def interrupt_when(process: subprocess.Popen[str], seen: Callable[[], bool]) -> tuple[int, str, str]:
    """Ctrl-C for the whole group, as a terminal sends it, once `seen` says so; exit code and output."""
    end = time.monotonic() + LONGEST
    while not seen() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert process.poll() is None, f"ended before it could be interrupted: {process.communicate()}"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=LONGEST)
    return process.returncode, out, err


def forge_process(top: Path, *args: str | Path) -> subprocess.Popen[str]:
    return start(top, sys.executable, "-m", "forge", *map(str, args))


def uses_the_base(process: subprocess.Popen[str], folder: Path) -> Callable[[], bool]:
    """Whether the process (or one that it started) has loaded its model: torch's library is in its memory."""

    def seen() -> bool:
        for found in Path("/proc").glob("[0-9]*/maps"):
            try:
                if os.getpgid(int(found.parent.name)) == process.pid and "libtorch_cpu" in found.read_text():
                    return True
            except OSError:
                continue
        return False

    return seen


def after(seconds: float, seen: Callable[[], bool]) -> Callable[[], bool]:
    """So long after `seen` was true for the first time."""
    first: list[float] = []

    def later() -> bool:
        if not first and seen():
            first.append(time.monotonic())
        return bool(first) and time.monotonic() > first[0] + seconds

    return later


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("data") / "images", {"benign": 6, "malignant": 6})


linux = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")


@linux
@pytest.mark.parametrize("delay", [0.0, 3.0])
def test_training(model: Path, data: Path, delay: float) -> None:
    before = snapshot(model)
    process = forge_process(model, "train", "mine", "--data", data, "--epochs", "100000")
    code, out, err = interrupt_when(process, after(delay, uses_the_base(process, model)))
    assert code in INTERRUPTED and out == "", (code, out, err)
    assert "interrupted" in err and "Traceback" not in err
    assert snapshot(model) == before
    assert not (model / "contributions").exists()


def test_a_distillation_continues_to_the_same_bytes(model: Path, data: Path) -> None:
    """Stopped after it saved its state; the same command continues and ends where an unbroken run ends."""
    steps = ("--steps", "400")
    forge_ok(model, "train", "mine", "--data", data, "--epochs", "1")
    before = snapshot(model)
    saved = model / ".git" / "forge" / "distilling" / "mine.safetensors"
    process = forge_process(model, "distill", "mine", "--data", data, *steps, *DISTIL)
    code, _, err = interrupt_when(process, saved.exists)
    assert code in INTERRUPTED, (code, err)
    assert "the same command continues it" in err and "Traceback" not in err
    assert saved.exists()
    assert snapshot(model) == before
    unbroken = copy_repository(model, model.parent / "unbroken")
    (unbroken / saved.relative_to(model)).unlink()
    said = forge_ok(model, "distill", "mine", "--data", data, *steps, *DISTIL)
    assert "Continuing an interrupted run at step" in said.err
    assert not saved.exists()
    said = forge_ok(unbroken, "distill", "mine", "--data", data, *steps, *DISTIL)
    assert "Continuing" not in said.err
    for name in ("distilled.safetensors", "card.toml"):
        files = [top / "contributions" / "mine" / name for top in (model, unbroken)]
        assert files[0].read_bytes() == files[1].read_bytes()
    forge_ok(model, "commit")


@linux
def test_the_search_of_a_commit(merged: Merged, contributions: Files, tmp_path: Path) -> None:
    top = copy_repository(merged("breast"), tmp_path / "model")
    change_settings(top, "evaluations = 4", "evaluations = 1000000")
    git_ok(top, "commit", "--quiet", "-am", "Search for ever")
    write_contribution(top, "colon", contributions["colon"])
    before = snapshot(top)
    process = forge_process(top, "commit")
    code, out, err = interrupt_when(process, after(3.0, uses_the_base(process, top)))
    assert code in INTERRUPTED and out == "", (code, out, err)
    assert "Traceback" not in err
    assert snapshot(top) == before
    change_settings(top, "evaluations = 1000000", "evaluations = 4")
    git_ok(top, "commit", "--quiet", "-am", "Search quickly again")
    forge_ok(top, "commit")
    assert item(top)["contributions"] == item(merged("breast", "colon"))["contributions"]


@linux
def test_a_merge_in_the_driver(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast"), tmp_path / "model")
    forge_ok(top, "install")  # of a process that is git's own child, as Ctrl-C finds it
    text = (top / ".git" / "config").read_text()
    before = snapshot(top)
    process = start(top, "git", "merge", "--no-edit", "colon")
    code, _, err = interrupt_when(process, uses_the_base(process, top))
    assert code != 0
    assert "Traceback" not in err and "this is a bug" not in err
    git_lock = top / ".git" / "index.lock"
    assert not git_lock.exists()
    if (top / ".git" / "MERGE_HEAD").exists():
        git_ok(top, "merge", "--abort")
    found = snapshot(top)
    assert (found.files, found.index, found.status, found.refs) == (
        before.files,
        before.index,
        before.status,
        before.refs,
    )
    assert (top / ".git" / "config").read_text() == text
    git_ok(top, "merge", "--no-edit", "colon")
    assert git_ok(top, "rev-parse", f"HEAD:{ITEM}") == git_ok(merged("breast", "colon"), "rev-parse", f"HEAD:{ITEM}")


@pytest.mark.parametrize("first", [True, False])
def test_init_where_a_hook_formats_what_is_committed(tmp_path: Path, base_folder: Path, first: bool) -> None:
    git_ok(tmp_path, "init", "--quiet", "model")
    top = tmp_path / "model"
    if not first:
        git_ok(top, "commit", "--quiet", "--allow-empty", "-m", "something else")
    hook = top / ".git/hooks/pre-commit"
    hook.write_text(f"#!/bin/sh\necho >>{ITEM}\ngit add {ITEM}\n")
    hook.chmod(0o755)
    before = git(top, "log", "--format=%s").stdout
    said = forge(top, "init", "--base", base_folder)
    assert said.code == 128 and f"{ITEM}: the hook {hook} changed it" in said.err, said
    assert git(top, "log", "--format=%s").stdout == before
    assert git_ok(top, "status", "--porcelain", "--untracked-files=all") == ""
    hook.unlink()
    assert forge(top, "init", "--base", base_folder).code == 0
