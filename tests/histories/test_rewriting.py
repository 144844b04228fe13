"""Histories that are written anew: rebase, cherry-pick, revert, amend, stash, patches by mail; and bisect."""

from __future__ import annotations

from pathlib import Path

import pytest
from histories.checks import (
    assert_given_up,
    assert_merge,
    assert_stopped,
    assert_whole,
    head,
    names,
    problems,
)
from histories.conftest import Files, contribution_files
from story.hospitals import (
    Merged,
    contribute,
    copy_repository,
    forge,
    forge_ok,
    git,
    git_ok,
    item,
    write_contribution,
)
from story.test_histories import assert_clean, blob, without_driver


@pytest.fixture
def moved(merged: Merged, contributions: Files, quick: Path, tmp_path: Path) -> Path:
    """main has breast; the branch "two", from the start of main, has two commits: lung, and then colon."""
    top = copy_repository(merged("breast"), tmp_path / "model")
    git_ok(top, "branch", "--quiet", "start", "main^")
    git_ok(top, "switch", "--quiet", "-c", "two", "lung")
    write_contribution(top, "colon", contributions["colon"])
    forge_ok(top, "commit")
    git_ok(top, "switch", "--quiet", "main")
    assert names(top, "two") == ["colon", "lung"] and names(top, "two^") == ["lung"]
    return top


def other_lung() -> dict[str, bytes]:
    return contribution_files("lung", 17)


def sequence_editor(folder: Path, script: str) -> dict[str, str]:
    """The environment in which `git rebase -i` has its list edited by a line of sed."""
    program = folder / "editor"
    program.write_text(f'#!/bin/sh\nexec sed -i -e {script!r} "$1"\n')
    program.chmod(0o755)
    return {"GIT_SEQUENCE_EDITOR": str(program)}


@pytest.mark.parametrize("backend", ["--merge", "--apply"])
def test_rebase_of_two_commits(moved: Path, backend: str) -> None:
    tip = head(moved, "two")
    git_ok(moved, "rebase", "--quiet", backend, "main", "two")
    assert_merge(moved, "start", "main", "lung", "two^")
    assert_merge(moved, "lung", "two^", tip, "two")
    assert names(moved) == ["breast", "colon", "lung"]
    assert git_ok(moved, "rev-parse", "HEAD~2") == head(moved, "main")
    assert_whole(moved)


def test_rebase_interactive_with_the_order_turned_round(moved: Path, tmp_path: Path) -> None:
    tip = head(moved, "two")
    git_ok(moved, "rebase", "-i", "main", "two", **sequence_editor(tmp_path, "1{h;d};2{G}"))
    assert git_ok(moved, "log", "-2", "--format=%s").splitlines() == ["Add lung", "Add colon"]
    assert_merge(moved, f"{tip}^", "main", tip, "two^")
    assert names(moved, "two^") == ["breast", "colon"]  # lung, which came before it, did not come with it
    assert_merge(moved, "start", "two^", "lung", "two")
    assert names(moved) == ["breast", "colon", "lung"]


def test_rebase_interactive_of_an_update_before_what_it_updates(moved: Path, tmp_path: Path) -> None:
    git_ok(moved, "switch", "--quiet", "lung")
    write_contribution(moved, "lung", other_lung())
    forge_ok(moved, "commit")
    before = head(moved)
    done = git(moved, "rebase", "-i", "main", **sequence_editor(tmp_path, "1{h;d};2{G}"))
    assert_stopped(done, "contribution 'lung' was removed in ours and replaced in theirs", "hint: ")
    assert_given_up(moved, before, "rebase", "--abort")


def test_rebase_that_squashes_two_commits(moved: Path, tmp_path: Path) -> None:
    git_ok(moved, "rebase", "-i", "main", "two", **sequence_editor(tmp_path, "2s/^pick/fixup/"))
    assert git_ok(moved, "rev-parse", "HEAD^") == head(moved, "main")
    assert names(moved) == ["breast", "colon", "lung"]
    found = git_ok(moved, "log", "-1", "--format=%(trailers:key=Forge-Contribution,valueonly)").splitlines()
    assert [line.split()[0] for line in found] == ["breast", "colon", "lung"]
    assert_whole(moved)


def test_rebase_that_drops_the_first_commit(moved: Path, tmp_path: Path) -> None:
    """As if lung had never been: colon, which came after it, does not bring it along."""
    git_ok(moved, "rebase", "-i", "start", "two", **sequence_editor(tmp_path, "1d"))
    assert names(moved) == ["colon"]
    assert_whole(moved)


def test_rebase_of_merges(moved: Path) -> None:
    git_ok(moved, "switch", "--quiet", "-c", "topic", "colon")
    git_ok(moved, "merge", "--quiet", "--no-edit", "lung")
    git_ok(moved, "rebase", "--quiet", "--rebase-merges", "main")
    assert len(git_ok(moved, "show", "-s", "--format=%P").split()) == 2
    assert_merge(moved, "main", "HEAD^1", "HEAD^2")
    assert names(moved) == ["breast", "colon", "lung"]


def test_rebase_onto_what_has_it_already(moved: Path) -> None:
    """main took lung by a cherry-pick: the branch's own commit of it has nothing left to say."""
    git_ok(moved, "cherry-pick", "lung")
    git_ok(moved, "rebase", "--quiet", "main", "two")
    assert git_ok(moved, "log", "--format=%s", "main..two") == "Add colon"
    assert names(moved) == ["breast", "colon", "lung"]
    assert_whole(moved)


def test_cherry_pick_of_a_range(moved: Path) -> None:
    before = head(moved)
    git_ok(moved, "cherry-pick", "start..two")
    assert_merge(moved, "start", before, "lung", "HEAD^")
    assert_merge(moved, "lung", "HEAD^", "two")
    git_ok(moved, "reset", "--quiet", "--hard", before)
    git_ok(moved, "cherry-pick", "--no-commit", "start..two")  # one commit of both
    git_ok(moved, "commit", "--quiet", "-m", "Lung and colon")
    assert names(moved) == ["breast", "colon", "lung"]
    assert_whole(moved)


def test_cherry_pick_of_the_second_of_two_brings_that_one_alone(moved: Path) -> None:
    before = head(moved)
    git_ok(moved, "cherry-pick", "two")
    assert_merge(moved, "lung", before, "two")
    assert names(moved) == ["breast", "colon"]


def test_cherry_pick_of_a_merge_brings_what_it_brought(merged: Merged, quick: Path, tmp_path: Path) -> None:
    top = copy_repository(merged("breast", "colon", "lung"), tmp_path / "model")
    git_ok(top, "switch", "--quiet", "-c", "elsewhere", "breast")
    git_ok(top, "cherry-pick", "-m", "1", "main")
    assert_merge(top, "main^", "breast", "main")
    assert names(top) == ["breast", "lung"]


def test_cherry_pick_of_an_update_of_what_is_not_there(moved: Path) -> None:
    git_ok(moved, "switch", "--quiet", "lung")
    write_contribution(moved, "lung", other_lung())
    forge_ok(moved, "commit")
    git_ok(moved, "switch", "--quiet", "main")
    before = head(moved)
    assert_stopped(git(moved, "cherry-pick", "lung"), "contribution 'lung' was removed in ours and replaced in theirs")
    assert_given_up(moved, before, "cherry-pick", "--abort")


def test_a_reverted_merge_stays_out_until_the_revert_is_reverted(pair: Path, contributions: Files) -> None:
    git_ok(pair, "revert", "--no-edit", "-m", "1", "HEAD")  # colon's merge
    reverted = head(pair)
    git_ok(pair, "merge", "--quiet", "--no-edit", "lung")
    assert_merge(pair, "lung^", reverted, "lung")
    assert names(pair) == ["breast", "lung"]

    contribute(pair, "second", contribution_files("second"), start="colon")  # the reverted branch goes on
    git_ok(pair, "switch", "--quiet", "main")
    git_ok(pair, "merge", "--quiet", "--no-edit", "second")
    assert names(pair) == ["breast", "lung", "second"]  # what it has added since, and that alone: as git does
    assert_whole(pair)

    ours = head(pair)
    git_ok(pair, "revert", "--no-edit", reverted)
    assert_merge(pair, reverted, ours, f"{reverted}^")
    assert names(pair) == ["breast", "colon", "lung", "second"]


def test_a_reverted_contribution_that_its_branch_updates(pair: Path) -> None:
    git_ok(pair, "revert", "--no-edit", "-m", "1", "HEAD")
    before = head(pair)
    git_ok(pair, "switch", "--quiet", "colon")
    write_contribution(pair, "colon", contribution_files("colon", 17))
    forge_ok(pair, "commit")
    git_ok(pair, "switch", "--quiet", "main")
    done = git(pair, "merge", "colon")
    assert_stopped(done, "contribution 'colon' was removed in ours and replaced in theirs", "hint: ")
    assert_given_up(pair, before, "merge", "--abort")


def test_revert_of_a_commit_below_others(pair: Path) -> None:
    """Revert of a plain commit, not of a merge: exactly its contribution goes."""
    git_ok(pair, "cherry-pick", "lung")
    ours = head(pair)
    git_ok(pair, "revert", "--no-edit", "-m", "1", "HEAD^")
    assert_merge(pair, "HEAD~2", ours, "HEAD~2^1")
    assert names(pair) == ["breast", "lung"]


def test_amend_says_it_anew(moved: Path) -> None:
    git_ok(moved, "switch", "--quiet", "lung")
    before = blob(moved)
    git_ok(moved, "commit", "--quiet", "--amend", "-m", "Lung, said better")
    assert blob(moved) == before
    assert_whole(moved)
    # git tells a hook of --amend only where the old message is used: with -m the trailers are gone until then.
    git_ok(moved, "commit", "--quiet", "--amend", "--no-edit")
    keys = git_ok(moved, "log", "-1", "--format=%(trailers:key=Forge-Contribution,valueonly)")
    assert keys == "lung 1.000000"
    assert git_ok(moved, "log", "-1", "--format=%s") == "Lung, said better"


def test_amend_of_payloads_without_git_forge_is_noticed(moved: Path, contributions: Files, tmp_path: Path) -> None:
    """git commit --amend -a with another adapter: not forged, so nothing passes it on."""
    git_ok(moved, "switch", "--quiet", "lung")
    write_contribution(moved, "lung", other_lung())
    git_ok(moved, "commit", "--quiet", "--amend", "-a", "--no-edit")
    assert "contributions/lung/adapter_model.safetensors is" in problems(moved)
    assert "the forge item and the tree disagree" in forge_ok(moved, "status").out
    git_ok(tmp_path, "init", "--quiet", "--bare", "origin.git")
    done = git(moved, "push", str(tmp_path / "origin.git"), "lung")
    assert_stopped(done, "the push was refused", "contributions/lung/adapter_model.safetensors is")
    forge_ok(moved, "commit")  # and this is how it is put right
    assert_whole(moved)
    git_ok(moved, "push", "--quiet", str(tmp_path / "origin.git"), "lung")


def test_stash_of_a_merge_that_waited(moved: Path) -> None:
    """The forge item itself is in the stash; main has moved when it is popped."""
    git_ok(moved, "merge", "--squash", "lung")
    start = head(moved)
    git_ok(moved, "stash", "--quiet")
    stashed = head(moved, "stash")
    assert_clean(moved)
    git_ok(moved, "merge", "--quiet", "--no-edit", "colon")
    ours = head(moved)
    git_ok(moved, "stash", "pop", "--quiet")
    git_ok(moved, "commit", "--quiet", "-a", "-m", "Lung, from the stash")
    assert_merge(moved, start, ours, stashed)
    assert names(moved) == ["breast", "colon", "lung"]


def test_stash_of_a_contribution_that_is_not_committed_yet(moved: Path, contributions: Files) -> None:
    write_contribution(moved, "colon", contributions["colon"])
    git_ok(moved, "stash", "--quiet", "--include-untracked")
    git_ok(moved, "merge", "--quiet", "--no-edit", "lung")
    git_ok(moved, "stash", "pop", "--quiet")
    forge_ok(moved, "commit")
    assert names(moved) == ["breast", "colon", "lung"]
    assert_whole(moved)


def test_a_stash_that_does_not_fit_stays_a_stash(moved: Path) -> None:
    git_ok(moved, "merge", "--squash", "lung")
    git_ok(moved, "stash", "--quiet")
    write_contribution(moved, "lung", other_lung())
    forge_ok(moved, "commit")
    before = head(moved)
    assert_stopped(git(moved, "stash", "pop"), "contribution 'lung' was added differently", "stash entry is kept")
    assert_given_up(moved, before, "reset", "--quiet", "--hard")
    assert len(git_ok(moved, "stash", "list").splitlines()) == 1


def test_patches_by_mail(moved: Path, tmp_path: Path) -> None:
    patches = tmp_path / "patches"
    git_ok(moved, "format-patch", "--quiet", "--output-directory", str(patches), "start..two")
    mails = sorted(str(path) for path in patches.iterdir())
    before = head(moved)
    assert_stopped(git(moved, "am", *mails), "patch does not apply")  # as text, the digest stands in the way
    assert_given_up(moved, before, "am", "--abort")
    git_ok(moved, "am", "--quiet", "--3way", *mails)
    assert_merge(moved, "start", before, "lung", "HEAD^")
    assert_merge(moved, "lung", "HEAD^", "two")
    assert_clean(moved)
    git_ok(moved, "switch", "--quiet", "-c", "fresh", "start")
    git_ok(moved, "am", "--quiet", *mails)  # where they were made they fit as they are
    assert blob(moved) == blob(moved, "two")
    assert git_ok(moved, "rev-parse", "HEAD^{tree}") == git_ok(moved, "rev-parse", "two^{tree}")


def test_patches_by_mail_that_collide(moved: Path, tmp_path: Path) -> None:
    git_ok(moved, "format-patch", "--quiet", "--output-directory", str(tmp_path), "start..lung")
    write_contribution(moved, "lung", other_lung())
    forge_ok(moved, "commit")
    before = head(moved)
    done = git(moved, "am", "--3way", str(tmp_path / "0001-Add-lung.patch"))
    assert_stopped(done, "contribution 'lung' was added differently")
    assert_given_up(moved, before, "am", "--abort")


def test_bisect_finds_the_version_that_was_not_forged(merged: Merged, quick: Path, tmp_path: Path) -> None:
    """Every commit is a whole model, so the first that is none is to be found."""
    top = copy_repository(merged("breast", "colon"), tmp_path / "model")
    for number in range(4):
        if number == 2:
            card = top / "contributions" / "breast" / "adapter_config.json"
            card.write_text(card.read_text().replace('"lora_alpha": 16', '"lora_alpha": 8'))
        (top / "NOTES").write_text(f"{number}\n")
        git_ok(top, "add", "--all")
        git_ok(top, "commit", "--quiet", "-m", f"Commit {number}")
    git_ok(top, "bisect", "start", "HEAD", "breast")
    said = git_ok(top, "bisect", "run", str(quick), "verify", "--no-scores")
    assert "is the first bad commit" in said and "Commit 2" in said
    git_ok(top, "bisect", "reset")
    assert forge(top, "verify", "HEAD~2", "--no-scores").code == 0
    assert sorted(item(top)["contributions"]) == ["breast", "colon"]
    without_driver(top)
    assert_clean(top)
