"""SIGKILL at any moment: nothing is lost or half-made, and the same command, run once more, ends where it would have.

FORGE_TEST_KILLS: how many times each operation is killed; at most once before each of its events, and at as many
random moments. A git that is killed leaves its locks behind; its own message says to remove them: so do these tests.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.files import write_contribution
from faults.processes import exit_code, forge_in, forked, killed_at_event, remove_locks
from sample_models import SampleModel
from story.hospitals import ITEM, copy_repository, forge_ok, git, git_ok

from forge.git.files import UNFINISHED
from forge.git.running import find_repository
from forge.operations.verify import problems_of
from forge.repo.leftovers import ENOUGH, KEPT_FOLDER, MERGE_FILE, tidy

KILLS = int(os.environ.get("FORGE_TEST_KILLS", "2"))
SEED = int(os.environ.get("FORGE_TEST_SEED", "0"))


@dataclass
class Clone:
    """A clone in which something is about to happen, and the bare origin that it knows."""

    top: Path
    origin: Path

    def copy(self, target: Path) -> Clone:
        copied = Clone(copy_repository(self.top, target / "model"), copy_repository(self.origin, target / "origin.git"))
        config = copied.top / ".git" / "config"
        config.write_text(config.read_text().replace(str(self.origin), str(copied.origin)))
        return copied


@pytest.fixture(scope="module")
def ready(made: SampleModel, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """main with breast, colon on a branch, lung in the work tree; origin has neither of the last two."""
    folder = tmp_path_factory.mktemp("ready")
    clone = Clone(copy_repository(made.top, folder / "model"), folder / "origin.git")
    git_ok(folder, "clone", "--quiet", "--bare", str(clone.top), str(clone.origin))
    git_ok(clone.origin, "branch", "-D", "colon")
    git_ok(clone.top, "remote", "add", "origin", str(clone.origin))
    write_contribution(clone.top, "lung")
    return clone


def files(top: Path) -> dict[str, bytes]:
    """The contributions in the work tree."""
    return {
        path.relative_to(top).as_posix(): path.read_bytes()
        for path in (top / "contributions").rglob("*")
        if path.is_file() and UNFINISHED not in path.name
    }


def assert_sound(clone: Clone, tips: set[str]) -> str:
    """Whole objects, and tips that are models, main's one of those it may be; the tree of main."""
    remove_locks(clone.top / ".git")
    remove_locks(clone.origin)
    for top in (clone.top, clone.origin):
        done = git(top, "fsck", "--strict", "--no-dangling")
        assert done.returncode == 0, done.stderr
    assert problems_of(find_repository(clone.top), "HEAD", scores=False) == []
    if git(clone.origin, "rev-parse", "--verify", "--quiet", "colon").returncode == 0:
        assert problems_of(find_repository(clone.origin), "colon", scores=False) == []
    tree = git_ok(clone.top, "rev-parse", "HEAD^{tree}")
    assert tree in tips
    return tree


def events_to_kill_at(run: Callable[[], int], clone: Clone, folder: Path) -> Iterator[tuple[int, int]]:
    """(number, of how many) for the events before which `run` is to be killed, spread over all of them."""
    counted = folder / "events"
    with forked(killed_at_event(0, run, counted), folder / "said") as child:
        assert exit_code(child) == 0, (folder / "said").read_text()
    total = int(counted.read_text())
    assert total > 5
    step = max(1.0, total / KILLS)
    offset = random.Random(SEED).random() * step
    yield from ((min(total, 1 + int(offset + step * index)), total) for index in range(min(KILLS, total)))


@pytest.fixture
def unbroken(ready: Clone, tmp_path: Path) -> str:
    """The tree of what `git forge commit` makes of `ready`."""
    clone = ready.copy(tmp_path / "unbroken")
    forge_ok(clone.top, "commit")
    return git_ok(clone.top, "rev-parse", "HEAD^{tree}")


def test_commit_killed_before_any_trace_on_the_disk(ready: Clone, unbroken: str, tmp_path: Path) -> None:
    old = git_ok(ready.top, "rev-parse", "HEAD^{tree}")
    counting = ready.copy(tmp_path / "counting")
    for number, total in list(events_to_kill_at(forge_in(counting.top, "commit"), counting, tmp_path)):
        clone = ready.copy(tmp_path / f"killed-{number}")
        before = files(clone.top)
        said = tmp_path / f"said-{number}"
        with forked(killed_at_event(number, forge_in(clone.top, "commit"), tmp_path / "events"), said) as child:
            assert exit_code(child) == -signal.SIGKILL, f"{number} of {total}: {said.read_text()}"
        tree = assert_sound(clone, {old, unbroken})
        assert files(clone.top) == before
        assert (clone.top / ITEM).read_text().endswith("}\n")  # never cut short
        again_is_whole(clone, tree, unbroken)
        shutil.rmtree(clone.top.parent)


def again_is_whole(clone: Clone, tree: str, wanted: str) -> None:
    """`git forge commit` once more; then all is as if nothing had ever happened."""
    if tree != wanted:
        forge_ok(clone.top, "commit")
    else:
        with forked(forge_in(clone.top, "commit"), clone.top.parent / "said") as child:
            assert exit_code(child) == 128
        assert "no contribution changed" in (clone.top.parent / "said").read_text()
    assert git_ok(clone.top, "rev-parse", "HEAD^{tree}") == wanted
    assert git_ok(clone.top, "status", "--porcelain", "--ignored") == ""
    assert not (clone.top / ".git" / KEPT_FOLDER).exists()


def killed_in_time(command: list[str], top: Path, moment: float) -> bool:
    """Start a command, kill it and all that it started after so many seconds; whether it was still alive."""
    process = subprocess.Popen(
        command, cwd=top, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def moments(ready: Clone, command: list[str], folder: Path) -> Iterator[tuple[Clone, float]]:
    """Copies of a clone with random moments within the time that the command takes."""
    clone = ready.copy(folder / "unbroken")
    start = time.monotonic()
    subprocess.run(command, cwd=clone.top, check=True, capture_output=True)
    took = time.monotonic() - start
    moment = random.Random(SEED)
    for number in range(KILLS):
        clone = ready.copy(folder / f"killed-{number}")
        yield clone, moment.uniform(0, took)
        shutil.rmtree(clone.top.parent)


def test_git_add_killed_in_the_filter(ready: Clone, tmp_path: Path) -> None:
    command = ["git", "add", "contributions"]
    old = {git_ok(ready.top, "rev-parse", "HEAD^{tree}")}
    for clone, moment in moments(ready, command, tmp_path):
        before = files(clone.top)
        killed_in_time(command, clone.top, moment)
        assert_sound(clone, old)
        assert files(clone.top) == before
        git_ok(clone.top, *command[1:])
        staged = [git_ok(top, "ls-files", "--stage") for top in (clone.top, tmp_path / "unbroken" / "model")]
        assert staged[0] == staged[1]


def test_merge_killed_at_any_moment(ready: Clone, tmp_path: Path) -> None:
    """git, the driver and the hooks at once. After git merge --abort, or without, the merge can be made."""
    command = ["git", "merge", "--no-edit", "colon"]
    old = git_ok(ready.top, "rev-parse", "HEAD^{tree}")
    for clone, moment in moments(ready, command, tmp_path):
        before = files(clone.top)
        killed_in_time(command, clone.top, moment)
        wanted = git_ok(tmp_path / "unbroken" / "model", "rev-parse", "HEAD^{tree}")
        tree = assert_sound(clone, {old, wanted})
        if (clone.top / ".git" / "MERGE_HEAD").exists():
            git_ok(clone.top, "merge", "--abort")
        elif tree != wanted:  # git may have been in the middle of writing the work tree
            git_ok(clone.top, "reset", "--quiet", "--hard")
            for path in git_ok(clone.top, "ls-files", "--others", "--exclude-standard").splitlines():
                if path.startswith(("contributions/colon/", MERGE_FILE)):
                    (clone.top / path).unlink()
        assert {path: content for path, content in files(clone.top).items() if "colon" not in path} == before
        git_ok(clone.top, *command[1:])
        assert git_ok(clone.top, "rev-parse", "HEAD^{tree}") == wanted
        assert problems_of(find_repository(clone.top), "HEAD", scores=False) == []


def test_push_killed_at_any_moment(ready: Clone, tmp_path: Path) -> None:
    """The hook, what sends and what receives: origin has the branch or has it not, and can take it afterwards."""
    command = ["git", "push", "--quiet", "origin", "colon"]
    tip, tree = git_ok(ready.top, "rev-parse", "colon"), git_ok(ready.top, "rev-parse", "HEAD^{tree}")
    for clone, moment in moments(ready, command, tmp_path):
        killed_in_time(command, clone.top, moment)
        assert_sound(clone, {tree})
        there = git(clone.origin, "rev-parse", "--verify", "--quiet", "colon").stdout.strip()
        assert there in ("", tip)
        git_ok(clone.top, *command[1:])
        assert git_ok(clone.origin, "rev-parse", "colon") == tip
        assert_sound(clone, {tree})


def test_a_driver_that_is_killed_leaves_the_old_file_or_the_new_one(ready: Clone, tmp_path: Path) -> None:
    top = ready.top
    texts = {
        "ancestor": git_ok(top, "show", f"colon~1:{ITEM}"),
        "ours": git_ok(top, "show", f"main:{ITEM}"),
        "theirs": git_ok(top, "show", f"colon:{ITEM}"),
    }
    names = {name: top / f"{MERGE_FILE}{name}" for name in texts}

    def start() -> Callable[[], int]:
        for name, text in texts.items():
            names[name].write_text(text + "\n")
        return forge_in(top, "merge-driver", *names.values(), ITEM)

    assert start()() == 0
    wanted = names["ours"].read_text()
    assert wanted != texts["ours"] + "\n"
    for number, total in list(events_to_kill_at(start(), ready, tmp_path)):
        with forked(killed_at_event(number, start(), tmp_path / "events"), tmp_path / "said") as child:
            assert exit_code(child) == -signal.SIGKILL, f"{number} of {total}"
        assert names["ours"].read_text() in (texts["ours"] + "\n", wanted)
        assert (names["ancestor"].read_text(), names["theirs"].read_text()) == (
            texts["ancestor"] + "\n",
            texts["theirs"] + "\n",
        )
    os.chdir(tmp_path)
    for path in top.glob(f"{MERGE_FILE}*"):
        path.unlink()


def test_a_distillation_killed_while_it_saves(ready: Clone, tmp_path: Path) -> None:
    """What is kept is the state before or the state after."""
    import torch

    from forge.model.distillation import Progress
    from forge.operations.unfinished import Unfinished

    def state(step: int) -> Progress:
        return Progress(step, torch.full((2, 3, 4, 4), float(step)), {"velocity": torch.zeros(2)}, None)

    unfinished = Unfinished(tmp_path / "distilling" / "x.safetensors", "key")
    unfinished.write(state(1))

    def save() -> int:
        unfinished.write(state(2))
        return 0

    counted, number = tmp_path / "events", 0
    while not counted.exists():
        number += 1
        unfinished.write(state(1))
        with forked(killed_at_event(number, save, counted)) as child:
            code = exit_code(child)
        kept = unfinished.read()
        assert kept is not None and torch.equal(kept.pixels, state(kept.step).pixels)
        assert kept.step == (2 if code == 0 else 1)
    assert number > 2


def test_contributions_that_are_written_when_the_process_dies(tmp_path: Path) -> None:
    """Each file is the old one or the new one; the card comes last."""
    from forge.operations.contributing import write_files

    folder = tmp_path / "contributions" / "x"
    old, new = (dict.fromkeys(("a", "b", "card.toml"), text * 1000) for text in (b"old", b"new"))

    def write() -> int:
        write_files(folder, new)
        return 0

    counted, number = tmp_path / "events", 0
    while not counted.exists():
        number += 1
        write_files(folder, old)
        with forked(killed_at_event(number, write, counted)) as child:
            exit_code(child)
        found = [(folder / name).read_bytes() == new[name] for name in new]
        assert all((folder / name).read_bytes() in (old[name], new[name]) for name in new)
        assert found == sorted(found, reverse=True)
    assert number > 6 and all(found)


def test_leftovers_are_tidied_up(model: Path) -> None:
    """By the next commit; what is not ours, or may still be in use, stays."""
    text = (model / ITEM).read_bytes()
    long_ago = time.time() - 10 * ENOUGH
    stale = [model / f"{MERGE_FILE}a1B2c3", model / f"{MERGE_FILE}a1B2c3.forge", model / f"{MERGE_FILE}empty"]
    kept = [model / f"{MERGE_FILE}fresh", model / f"{MERGE_FILE}other", model / f"{MERGE_FILE}link", model / "notes"]
    for path, content in zip([*stale, *kept], [text, text, b"", text, b"a picture", b"", b"notes"], strict=True):
        if path.name.endswith("link"):
            path.symlink_to("forge-item.json")
            continue
        path.write_bytes(content)
        if not path.name.endswith("fresh"):
            os.utime(path, (long_ago, long_ago))
    folder = model / "contributions" / "lung"
    folder.mkdir(parents=True)
    outside = model.parent / "outside"
    outside.mkdir()
    (model / "contributions" / "linked").symlink_to(outside)
    half = [folder / f".adapter_model.safetensors{UNFINISHED}", model / f".{ITEM}{UNFINISHED}"]
    foreign = outside / f".notes{UNFINISHED}"
    for path in (*half, foreign):
        path.write_bytes(b"half")
    (model / ".git" / KEPT_FOLDER).mkdir()
    (model / ".git" / KEPT_FOLDER / "index").write_bytes(b"")
    repo = find_repository(model)
    index_lock = model / ".git" / "index.lock"
    index_lock.touch()
    tidy(repo)
    assert all(path.exists() for path in (*stale, *kept, foreign))  # a git may be in the middle of a merge
    assert not any(path.exists() for path in half)
    index_lock.unlink()
    gone = tidy(repo)
    assert sorted(gone) == sorted(path.name for path in stale)
    assert all(os.path.lexists(path) for path in (*kept, foreign))
    assert not (model / ".git" / KEPT_FOLDER).exists()


def test_a_driver_at_work_keeps_its_files(model: Path) -> None:
    from forge.repo import locks as lock

    repo = find_repository(model)
    path = model / f"{MERGE_FILE}x"
    path.write_bytes((model / ITEM).read_bytes())
    os.utime(path, (1e9, 1e9))
    with lock.sharing(lock.driver_lock(repo)):
        assert tidy(repo) == []
    assert tidy(repo) == [path.name]
