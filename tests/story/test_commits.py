"""What `git forge commit` folds: contributions that come, go, change and are renamed, one or many at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from story.conftest import Files
from story.hospitals import (
    ITEM,
    NAMES,
    Merged,
    coefficients,
    contribution_files,
    copy_repository,
    forge,
    forge_ok,
    git_ok,
    item,
    write_contribution,
)
from story.test_histories import assert_clean, blob, folders

from forge.clone import stored
from forge.git.running import Repository, git
from forge.model.base import BaseModel


@pytest.fixture
def full(merged: Merged, tmp_path: Path) -> Path:
    """A copy of main with breast and colon in it, for one test."""
    return copy_repository(merged("breast", "colon"), tmp_path / "model")


@pytest.mark.parametrize("how", ["git rm", "by hand"])
def test_a_contribution_that_was_removed(full: Path, how: str) -> None:
    before = item(full)
    if how == "git rm":
        git_ok(full, "rm", "-r", "--quiet", "contributions/colon")
    else:
        for path in sorted((full / "contributions" / "colon").iterdir()):
            path.unlink()
        (full / "contributions" / "colon").rmdir()
    said = forge_ok(full, "commit")
    assert "Remove colon" in said.out and "Forge-Removed: colon" in said.out
    after = item(full, "HEAD")
    assert folders(full) == sorted(after["contributions"]) == sorted(after["scores"]) == ["breast"]
    scale = after["search"]["scales"]["ours"]
    wanted = {"breast": scale * coefficients(before)["breast"]}
    assert coefficients(after) == pytest.approx(wanted, abs=1e-6)
    assert_clean(full)
    forge_ok(full, "verify")


def test_a_contribution_that_was_renamed(full: Path) -> None:
    git_ok(full, "mv", "contributions/colon", "contributions/bowel")
    forge_ok(full, "commit")
    after = item(full, "HEAD")
    assert folders(full) == sorted(after["contributions"]) == ["bowel", "breast"]
    assert_clean(full)
    forge_ok(full, "verify")


def test_a_contribution_that_was_replaced(full: Path, base: BaseModel) -> None:
    before = item(full)
    write_contribution(full, "colon", contribution_files(base, "colon", rank=8, seed=91))
    said = forge_ok(full, "commit")
    assert "Update colon" in said.out
    after = item(full, "HEAD")
    assert after["contributions"]["colon"]["adapter"] != before["contributions"]["colon"]["adapter"]
    scales = after["search"]["scales"]
    wanted = {"breast": scales["ours"] * coefficients(before)["breast"], "colon": scales["theirs"]}
    assert coefficients(after) == pytest.approx(wanted, abs=1e-6)
    assert_clean(full)
    forge_ok(full, "verify")


def test_the_last_contribution_that_was_removed(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast"), tmp_path / "model")
    git_ok(top, "rm", "-r", "--quiet", "contributions/breast")
    forge_ok(top, "commit")
    assert blob(top) == blob(top, "HEAD^^")  # the bare base again
    assert_clean(top)
    forge_ok(top, "verify")


def test_three_at_once_fold_as_three_merges_would(model: Path, merged: Merged, contributions: Files) -> None:
    for name in NAMES:
        write_contribution(model, name, contributions[name])
    said = forge_ok(model, "commit")
    assert "Add breast, colon, lung" in said.out
    found, one_by_one = item(model, "HEAD"), item(merged(*NAMES))
    assert coefficients(found) == pytest.approx(coefficients(one_by_one), abs=1e-6)
    assert found["search"]["scales"] == one_by_one["search"]["scales"]
    assert_clean(model)


def test_a_card_alone_changes_no_coefficient(full: Path) -> None:
    card = full / "contributions" / "breast" / "card.toml"
    card.write_text(card.read_text() + "\n[metrics]\nvalidation_accuracy = 0.9\n")
    before = blob(full)
    said = forge_ok(full, "commit", "-m", "Say how well it does")
    assert "Say how well it does" in said.out
    assert blob(full) == before
    assert git_ok(full, "show", "--format=", "--name-only", "HEAD") == "contributions/breast/card.toml"
    assert_clean(full)


def test_a_forge_item_lost_from_the_work_tree(full: Path, contributions: Files) -> None:
    (full / ITEM).unlink()
    write_contribution(full, "lung", contributions["lung"])
    said = forge(full, "commit")
    assert said.code == 0, said
    assert sorted(item(full)["contributions"]) == sorted(NAMES)
    assert_clean(full)


def test_a_commit_in_a_linked_work_tree(full: Path, contributions: Files, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    git_ok(full, "worktree", "add", "--quiet", "-b", "side", str(linked))
    write_contribution(linked, "lung", contributions["lung"])
    forge_ok(linked, "commit")
    assert sorted(item(linked)["contributions"]) == sorted(NAMES)
    assert_clean(linked)
    assert_clean(full)


def test_a_commit_from_a_folder_below(full: Path, contributions: Files) -> None:
    folder = write_contribution(full, "lung", contributions["lung"])
    forge_ok(folder, "commit")
    assert sorted(item(full)["contributions"]) == sorted(NAMES)
    assert_clean(full)


def test_private_files_that_lie_in_the_folder_are_not_committed(full: Path, contributions: Files) -> None:
    folder = write_contribution(full, "lung", contributions["lung"])
    (folder / "patients.csv").write_text("name\n")
    (folder / "data").mkdir()
    (folder / "data" / "adapter_config.json").write_text("{}")
    (full / "contributions" / "notes.txt").write_text("mine\n")
    forge_ok(full, "commit")
    tracked = git_ok(full, "ls-tree", "-r", "--name-only", "HEAD", "contributions").splitlines()
    assert [path for path in tracked if "lung" in path] == [
        f"contributions/lung/{name}" for name in sorted(contributions["lung"])
    ]
    assert git_ok(full, "status", "--porcelain", "--untracked-files=all").splitlines() == [
        "?? contributions/lung/data/adapter_config.json",
        "?? contributions/lung/patients.csv",
        "?? contributions/notes.txt",
    ]
    assert "Forge-Contribution: lung" in git_ok(full, "log", "-1", "--format=%(trailers)")
    forge_ok(full, "verify")
    again = forge(full, "commit")
    assert again.code == 128 and "no contribution changed" in again.err


def test_payloads_that_git_is_told_to_ignore(full: Path, contributions: Files) -> None:
    (full / ".git" / "info" / "exclude").write_text("*.safetensors\n")
    write_contribution(full, "lung", contributions["lung"])
    forge_ok(full, "commit")
    stored = git_ok(full, "ls-tree", "-r", "--name-only", "HEAD", "contributions/lung").splitlines()
    assert [Path(path).name for path in stored] == sorted(contributions["lung"])
    assert_clean(full)
    forge_ok(full, "verify")


def test_ctrl_c_after_git_has_committed(full: Path, contributions: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is there: index and forge item must be its own, not those of the commit before."""

    def interrupted(repo: Repository, *args: str, **more: Any) -> bytes:
        said = git(repo, *args, **more)
        if args[0] == "commit":
            raise KeyboardInterrupt
        return said

    monkeypatch.setattr(stored, "git", interrupted)
    write_contribution(full, "lung", contributions["lung"])
    assert forge(full, "commit").code == 130
    assert sorted(item(full, "HEAD")["contributions"]) == sorted(NAMES)
    assert_clean(full)
