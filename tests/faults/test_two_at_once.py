"""Two git forge at once in one clone: one works, the other says so and changes nothing."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults.files import write_contribution
from faults.processes import exit_code, forge_in, forked
from story.hospitals import ITEM, forge, forge_ok, git_ok, item
from story.snapshots import assert_refused, snapshot

from forge.errors import ForgeError
from forge.git.running import find_repository
from forge.operations import commit as commit_operation
from forge.operations.contributing import write_adapter
from forge.recipe.card import Card
from forge.recipe.item import Base
from forge.repo import locks as lock
from forge.repo.leftovers import alone_in_work_tree


@contextmanager
def held_elsewhere(file: Path, doing: str) -> Iterator[int]:
    """Another process that holds a lock during the block."""
    ready, tell = os.pipe()

    def hold() -> int:
        with lock.only_one(file, doing):
            os.write(tell, b".")
            signal.pause()
        return 0

    with forked(hold) as child:
        assert select.select([ready], [], [], 60)[0]
        yield child
    os.close(ready)
    os.close(tell)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "lock"
    with held_elsewhere(file, "git forge commit") as child:
        with (
            pytest.raises(ForgeError, match=rf"^git forge commit \(process {child}\) is at work") as refused,
            lock.only_one(file, "git forge train"),
        ):
            raise AssertionError
        assert refused.value.hint
        with lock.if_nobody(file) as nobody:
            assert not nobody
        os.kill(child, signal.SIGKILL)
        assert exit_code(child) == -signal.SIGKILL
        with lock.only_one(file, "git forge train"):
            assert "git forge train" in file.read_text()
        with lock.if_nobody(file) as nobody:
            assert nobody


def test_waiting_for_a_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lock"

    def hold_for_a_moment() -> int:
        with lock.only_one(file, "git forge commit"):
            (tmp_path / "held").touch()
            time.sleep(0.3)
            (tmp_path / "ended").touch()
        return 0

    with forked(hold_for_a_moment) as child:
        while not (tmp_path / "held").exists():
            time.sleep(0.01)
        with lock.only_one(file, "git forge add", wait=True):
            assert (tmp_path / "ended").exists()
        assert exit_code(child) == 0
    assert capsys.readouterr().err == f"waiting for git forge commit (process {child}) to end\n"


def test_a_shared_lock_keeps_only_the_single_one_out(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with lock.sharing(file), lock.sharing(file), lock.if_nobody(file) as nobody:
        assert not nobody
    with lock.if_nobody(file) as nobody:
        assert nobody


def test_where_no_lock_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    impossible = tmp_path / "file" / "lock"
    with pytest.raises(ForgeError, match="cannot write"), lock.only_one(impossible, "x"):
        raise AssertionError
    with lock.sharing(impossible), lock.if_nobody(impossible) as nobody:
        assert not nobody  # what is not known to be free is left alone


def test_a_commit_while_another_is_at_work(model: Path) -> None:
    write_contribution(model, "lung")
    before = snapshot(model)
    with held_elsewhere(lock.work_tree_lock(find_repository(model)), "git forge commit") as child:
        assert_refused(forge(model, "commit"), f"git forge commit (process {child}) is at work here already")
        assert snapshot(model) == before
    forge_ok(model, "commit")


def test_two_commits_race(model: Path, tmp_path: Path) -> None:
    """Whoever comes first commits; the other is refused or has nothing left to commit."""
    write_contribution(model, "lung")
    said = [tmp_path / "first", tmp_path / "second"]
    with forked(forge_in(model, "commit"), said[0]) as one, forked(forge_in(model, "commit"), said[1]) as other:
        codes = [exit_code(one), exit_code(other)]
    assert sorted(codes) == [0, 128], [file.read_text() for file in said]
    loser = said[codes.index(128)].read_text()
    assert "is at work here already" in loser or "no contribution changed since HEAD" in loser
    assert git_ok(model, "rev-list", "--count", "main@{1}..main") == "1"
    assert item(model)["contributions"].keys() == {"breast", "lung"}
    forge_ok(model, "verify", "--no-scores")
    assert git_ok(model, "status", "--porcelain") == ""


@pytest.mark.parametrize("verb", ["train", "distill", "add"])
def test_the_same_contribution_twice_at_once(model: Path, tmp_path: Path, verb: str) -> None:
    from story.test_bad_places import pictures

    made = write_contribution(tmp_path, "lung")
    data = pictures(tmp_path / "data", {"benign": 3, "malignant": 3})
    given = ("--adapter", made, "--distilled", made / "distilled.safetensors") if verb == "add" else ("--data", data)
    before = snapshot(model)
    with held_elsewhere(lock.contribution_lock(find_repository(model), "lung"), "git forge train lung"):
        assert_refused(forge(model, verb, "Lung" if verb == "add" else "lung", *given), "git forge train lung (process")
    assert snapshot(model) == before


def test_a_contribution_is_not_written_while_a_commit_is_at_work(model: Path, tmp_path: Path) -> None:
    """What took hours to train waits: it is not refused."""
    repo, said = find_repository(model), tmp_path / "said"

    begin = tmp_path / "begin"

    def write() -> int:
        while not begin.exists():
            time.sleep(0.01)
        write_adapter(repo, "lung", {}, {}, Card("lung", ("a", "b"), Base("embedded", "x")))
        return 0

    # Forked first: a child would hold the locks that its parent held then.
    with forked(write, said) as child:
        with alone_in_work_tree(repo, "git forge commit"):
            begin.touch()
            while "waiting for git forge commit" not in (said.read_text() if said.exists() else ""):
                assert os.waitpid(child, os.WNOHANG) == (0, 0)
                time.sleep(0.02)
            assert not (model / "contributions" / "lung").exists()
        assert exit_code(child) == 0
    assert (model / "contributions" / "lung" / "card.toml").exists()


def changing_meanwhile(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Something happens while `git forge commit` searches."""
    search = commit_operation.fold_changes

    def found(*args: Any, **options: Any) -> Any:
        result = search(*args, **options)
        change()
        return result

    monkeypatch.setattr(commit_operation, "fold_changes", found)


@pytest.mark.parametrize("what", ["changed", "come", "gone"])
def test_a_contribution_that_changes_during_the_search(model: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    write_contribution(model, "lung")
    name = "other" if what == "come" else "lung"

    def change() -> None:
        if what == "gone":
            for file in (model / "contributions" / "lung").iterdir():
                file.unlink()
        elif what == "come":
            write_contribution(model, name)
            git_ok(model, "add", "contributions/other")
        else:
            write_contribution(model, name, version=2)

    head, index = git_ok(model, "rev-parse", "HEAD"), git_ok(model, "ls-files", "--stage")
    changing_meanwhile(monkeypatch, change)
    said = forge(model, "commit")
    assert said.code == 128 and "while git forge commit was at work" in said.err, said
    assert name in said.err and "run git forge commit again" in said.err
    assert git_ok(model, "rev-parse", "HEAD") == head
    assert what == "come" or git_ok(model, "ls-files", "--stage") == index
    assert (model / ITEM).read_bytes().decode() == git_ok(model, "show", f"HEAD:{ITEM}") + "\n"


def test_head_that_moves_during_the_search(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge in another terminal: its contribution must not be missing in what is committed."""
    write_contribution(model, "lung")
    changing_meanwhile(monkeypatch, lambda: git_ok(model, "merge", "--quiet", "colon"))
    said = forge(model, "commit")
    assert_refused(said, "HEAD has moved while git forge commit was at work", "run git forge commit again")
    monkeypatch.undo()
    assert git_ok(model, "status", "--porcelain") == "?? contributions/lung/"
    forge_ok(model, "commit")
    assert item(model)["contributions"].keys() == {"breast", "colon", "lung"}
    forge_ok(model, "verify", "--no-scores")


def test_a_lock_of_git_itself(model: Path) -> None:
    """Another git at work, or one that was killed: nothing is changed, the message names the file."""
    write_contribution(model, "lung")
    for name in ("index.lock", "HEAD.lock", "refs/heads/main.lock"):
        held = model / ".git" / name
        held.touch()
        before = snapshot(model, objects=False)
        assert_refused(forge(model, "commit"), str(held), f"rm '{held}'")
        assert held.exists()
        assert snapshot(model, objects=False) == before
        held.unlink()
    forge_ok(model, "commit")
    forge_ok(model, "verify", "--no-scores")


def test_work_trees_of_one_clone_do_not_wait_for_each_other(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git_ok(model, "worktree", "add", "--quiet", str(other), "colon")
    locks = [lock.work_tree_lock(find_repository(top)) for top in (model, other)]
    assert locks[0] != locks[1]
    kept = [lock.unfinished_lock(find_repository(top), "x") for top in (model, other)]
    assert kept[0] == kept[1]


def test_names_are_distinct(model: Path) -> None:
    repo = find_repository(model)
    files = {lock.contribution_lock(repo, name) for name in ("breast", "Breast", "breast.2", "colon")}
    assert len(files) == 3  # as on a disk where names that differ in case only are the same
    with pytest.raises(ForgeError):
        lock.contribution_lock(repo, "../../escape")
