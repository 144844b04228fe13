"""Branches that leave main, come back and take each other in: every merge follows the recursion."""

from __future__ import annotations

from pathlib import Path

import pytest
from histories.checks import assert_given_up, assert_merge, assert_stopped, assert_whole, head, names
from histories.conftest import Files, start_model
from story.hospitals import (
    ITEM,
    contribute,
    copy_repository,
    forge_ok,
    git,
    git_ok,
    item,
    write_contribution,
)
from story.test_histories import assert_clean, blob, without_driver


def commit_file(top: Path, name: str, text: str = "text\n") -> None:
    """A commit that has nothing to do with the model."""
    (top / name).write_text(text)
    git_ok(top, "add", name)
    git_ok(top, "commit", "--quiet", "-m", f"Write {name}")


def test_main_into_the_branch_and_back(pair: Path) -> None:
    ancestor, ours, theirs = head(pair, "main~1^"), head(pair, "lung"), head(pair, "main")
    git_ok(pair, "switch", "--quiet", "lung")
    git_ok(pair, "merge", "--quiet", "--no-edit", "main")
    assert_merge(pair, ancestor, ours, theirs)
    git_ok(pair, "switch", "--quiet", "main")
    without_driver(pair)  # main has nothing that the branch lacks: both ways back need no driver
    git_ok(pair, "merge", "--quiet", "--no-ff", "--no-edit", "lung")
    assert blob(pair) == blob(pair, "lung")
    assert_whole(pair)


def test_main_into_the_branch_and_back_while_main_moves_on(model: Path) -> None:
    git_ok(model, "merge", "--quiet", "breast")
    git_ok(model, "switch", "--quiet", "lung")
    git_ok(model, "merge", "--quiet", "--no-edit", "main")  # main into the branch
    into_branch = head(model)
    git_ok(model, "switch", "--quiet", "main")
    git_ok(model, "merge", "--quiet", "--no-edit", "colon")  # main moves on
    moved = head(model)
    git_ok(model, "merge", "--quiet", "--no-edit", "lung")  # and back
    assert_merge(model, "breast", moved, into_branch)
    assert names(model) == ["breast", "colon", "lung"]


def test_a_branch_of_a_branch(model: Path, contributions: Files) -> None:
    """lung's branch has a branch: whichever is merged first, lung is in the model once, by ours' coefficient."""
    contribute(model, "second", {**contributions["colon"]}, start="lung")
    assert names(model, "second") == ["lung", "second"]
    git_ok(model, "switch", "--quiet", "main")
    git_ok(model, "merge", "--quiet", "breast")
    git_ok(model, "merge", "--quiet", "--no-edit", "lung")
    ours = head(model)
    git_ok(model, "merge", "--quiet", "--no-edit", "second")
    assert_merge(model, "lung", ours, "second")
    assert names(model) == ["breast", "lung", "second"]
    assert "Already up to date" in git_ok(model, "merge", "lung")

    git_ok(model, "switch", "--quiet", "-c", "other-way", "breast")
    git_ok(model, "merge", "--quiet", "--no-edit", "second")  # brings lung too
    assert_merge(model, "breast^", "breast", "second")
    assert names(model) == ["breast", "lung", "second"]


def test_a_branch_of_a_branch_that_was_squashed(model: Path, contributions: Files) -> None:
    """Both sides have added lung, and git does not know that it is one: by its blobs it is."""
    contribute(model, "second", contributions["colon"], start="lung")
    git_ok(model, "switch", "--quiet", "main")
    git_ok(model, "merge", "--quiet", "breast")
    git_ok(model, "merge", "--quiet", "--squash", "lung")
    git_ok(model, "commit", "--quiet", "-m", "Lung, squashed")
    ours = head(model)
    git_ok(model, "merge", "--quiet", "--no-edit", "second")
    assert_merge(model, "lung^", ours, "second")
    assert names(model) == ["breast", "lung", "second"]


def test_squash_of_a_branch_with_a_merge_of_main_in_it(pair: Path) -> None:
    git_ok(pair, "switch", "--quiet", "lung")
    git_ok(pair, "merge", "--quiet", "--no-edit", "main")
    git_ok(pair, "switch", "--quiet", "main")
    without_driver(pair)
    git_ok(pair, "merge", "--quiet", "--squash", "lung")
    git_ok(pair, "commit", "--quiet", "--no-edit")
    assert len(git_ok(pair, "show", "-s", "--format=%P").split()) == 1
    assert blob(pair) == blob(pair, "lung")
    assert git_ok(pair, "log", "-1", "--format=%(trailers:key=Forge-Strategy,valueonly)") == "mixture"
    assert_whole(pair)


def test_a_merge_that_waits_for_its_commit(pair: Path) -> None:
    """--no-commit, an edit of another file, then git commit: the trailers are those of the merge."""
    ours = head(pair)
    git_ok(pair, "merge", "--no-commit", "lung")
    (pair / "NOTES").write_text("read the slides again\n")
    git_ok(pair, "add", "NOTES")
    git_ok(pair, "commit", "--quiet", "--no-edit")
    assert_merge(pair, "lung^", ours, "lung")
    assert len(git_ok(pair, "log", "-1", "--format=%(trailers:key=Forge-Contribution,valueonly)").splitlines()) == 3
    assert_clean(pair)


def test_a_conflict_in_another_file_leaves_the_forge_item_settled(pair: Path) -> None:
    commit_file(pair, "README", "ours\n")
    git_ok(pair, "switch", "--quiet", "lung")
    commit_file(pair, "README", "theirs\n")
    git_ok(pair, "switch", "--quiet", "main")
    ours = head(pair)
    assert_stopped(git(pair, "merge", "lung"), "Merge conflict in README")
    assert git_ok(pair, "diff", "--name-only", "--diff-filter=U") == "README"
    (pair / "README").write_text("both\n")
    git_ok(pair, "add", "README")
    git_ok(pair, "commit", "--quiet", "--no-edit")
    assert_merge(pair, "lung~2", ours, "lung")


def test_pull_merges_and_pull_rebase_follows(pair: Path, tmp_path: Path) -> None:
    """Two clones of one origin: the second to push pulls first."""
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    git_ok(pair, "clone", "--quiet", "--bare", ".", str(origin))
    git_ok(tmp_path, "clone", "--quiet", str(origin), str(clone))
    forge_ok(clone, "install")
    git_ok(clone, "reset", "--quiet", "--hard", "HEAD^")  # has breast; its own is lung
    git_ok(clone, "merge", "--quiet", "--no-edit", "origin/lung")
    ours, theirs = head(clone), head(clone, "origin/main")
    rebased = copy_repository(clone, tmp_path / "rebased")
    git_ok(clone, "pull", "--quiet", "--no-rebase", "--no-edit")
    assert_merge(clone, "origin/main^", ours, theirs)
    git_ok(clone, "push", "--quiet", "origin", "main:merged")
    # The merge of lung is flattened: lung's own commit is what is put on top of origin's main.
    git_ok(rebased, "pull", "--quiet", "--rebase")
    assert_merge(rebased, "origin/lung^", theirs, "origin/lung")
    git_ok(rebased, "push", "--quiet", "origin", "main")
    assert git_ok(origin, "rev-parse", "main") == head(rebased)


@pytest.mark.parametrize("favour", ["ours", "theirs"])
def test_a_favoured_side_changes_nothing_where_the_driver_settles_it(pair: Path, favour: str) -> None:
    """git merge -X: a preference for conflicts, and there is none."""
    ours = head(pair)
    git_ok(pair, "merge", "--quiet", "--no-edit", "-X", favour, "lung")
    assert_merge(pair, "lung^", ours, "lung")


def test_strategy_ours_keeps_the_model(pair: Path) -> None:
    before = blob(pair)
    git_ok(pair, "merge", "--quiet", "--no-edit", "-s", "ours", "lung")
    assert blob(pair) == before
    assert names(pair) == ["breast", "colon"]
    assert_whole(pair)


def test_a_strategy_of_git_that_knows_no_drivers_stops(pair: Path) -> None:
    """`git merge -s resolve` merges as text: the digest collides."""
    before = head(pair)
    assert_stopped(git(pair, "merge", "--no-edit", "-s", "resolve", "lung"), ITEM)
    assert_given_up(pair, before, "merge", "--abort")


def test_a_merge_of_two_models_that_were_started_apart(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contributions: Files
) -> None:
    """No commit in common: what both have is one contribution, and everything else is added."""
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2026-01-03T03:04:05+0000")  # on the same day they would be the same commits
    other = start_model(tmp_path / "other")
    git_ok(model, "merge", "--quiet", "breast")
    for name in ("breast", "lung"):
        write_contribution(other, name, contributions[name])
        forge_ok(other, "commit")
    git_ok(model, "fetch", "--quiet", str(other), "main:other")
    ours = head(model)
    assert_stopped(git(model, "merge", "other"), "unrelated histories")
    git_ok(model, "merge", "--quiet", "--no-edit", "--allow-unrelated-histories", "other")
    assert_merge(model, "0" * 40, ours, "other")
    assert sorted(item(model)["contributions"]) == ["breast", "lung"]
