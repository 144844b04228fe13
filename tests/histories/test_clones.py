"""Clones in all their shapes: linked, shallow, partial, sparse, bare, inside another repository, half set up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from histories.checks import assert_given_up, assert_merge, assert_stopped, assert_whole, head, names, problems
from histories.conftest import Files, contribution_files
from story.hospitals import (
    ITEM,
    NAMES,
    Merged,
    forge,
    forge_ok,
    git,
    git_ok,
    item,
    write_contribution,
)
from story.test_histories import assert_clean, blob, folders

GONE = "/nowhere/git-forge"


@pytest.fixture
def origin(merged: Merged, quick: Path, tmp_path: Path) -> str:
    """The address of a bare repository that serves main (breast, colon) and the three branches, in part if asked."""
    bare = tmp_path / "origin.git"
    git_ok(tmp_path, "clone", "--quiet", "--bare", str(merged("breast", "colon")), str(bare))
    git_ok(bare, "config", "uploadpack.allowFilter", "true")
    git_ok(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    return f"file://{bare}"


def clone(origin: str, *options: str, install: bool = True) -> Path:
    """A clone beside the origin, set up for git forge."""
    top = Path(origin.removeprefix("file://")).parent / "clone"
    git_ok(top.parent, "clone", "--quiet", *options, origin, str(top))
    if install:
        forge_ok(top, "install")
    return top


def missing(top: Path) -> list[str]:
    """The objects that a partial clone has been promised and has not fetched."""
    lines = git_ok(top, "rev-list", "--objects", "--all", "--missing=print").splitlines()
    return [line[1:] for line in lines if line.startswith("?")]


def break_program(top: Path) -> None:
    """As if git forge had been removed from the machine: settings and hooks name a program that is not there."""
    program = git_ok(top, "config", "filter.forge.process").partition(" filter-process")[0]
    config = top / ".git" / "config"
    config.write_text(config.read_text().replace(program, GONE))
    for hook in ("prepare-commit-msg", "pre-push"):
        path = top / ".git" / "hooks" / hook
        path.write_text(path.read_text().replace(program, GONE))


# Work trees


def test_a_merge_in_a_linked_work_tree(pair: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    git_ok(pair, "worktree", "add", "--quiet", "-b", "side", str(linked), "breast")
    git_ok(linked, "merge", "--quiet", "--no-edit", "lung")
    assert_merge(linked, "lung^", "breast", "lung")
    assert names(linked) == ["breast", "lung"]
    assert "Forge-Contribution: lung" in git_ok(linked, "log", "-1", "--format=%(trailers)")
    assert_clean(linked)
    before = head(pair)
    git_ok(pair, "merge", "--quiet", "--no-edit", "side")  # and from there into the first work tree
    assert_merge(pair, "breast", before, "side")
    assert_clean(pair)
    git_ok(pair, "worktree", "remove", str(linked))
    assert_whole(pair)


# Shallow clones


def test_a_shallow_clone(origin: str, contributions: Files) -> None:
    top = clone(origin, "--depth", "1", "--no-single-branch")
    assert git_ok(top, "rev-list", "--count", "HEAD") == "1"
    assert_whole(top)
    assert "2" in forge_ok(top, "log").out or forge_ok(top, "log").out
    before = head(top)
    assert_stopped(git(top, "merge", "origin/lung"), "refusing to merge unrelated histories")
    assert_given_up(top, before, "reset", "--quiet", "--hard")
    write_contribution(top, "mine", contribution_files("mine"))
    forge_ok(top, "commit")
    git_ok(top, "push", "--quiet", "origin", "HEAD:refs/heads/mine")
    git_ok(top, "reset", "--quiet", "--hard", before)
    git_ok(top, "fetch", "--quiet", "--unshallow")
    git_ok(top, "merge", "--quiet", "--no-edit", "origin/lung")
    assert_merge(top, "origin/lung^", before, "origin/lung")
    assert names(top) == ["breast", "colon", "lung"]
    git_ok(top, "fetch", "--quiet", "origin", "mine")
    assert_whole(top, "FETCH_HEAD")


def test_a_shallow_clone_that_is_deepened_just_enough(origin: str) -> None:
    top = clone(origin, "--depth", "1", "--no-single-branch")
    before = head(top)
    git_ok(top, "fetch", "--quiet", "--depth", "3", "origin", "main", "lung")
    git_ok(top, "merge", "--quiet", "--no-edit", "origin/lung")
    assert_merge(top, "origin/lung^", before, "origin/lung")


# Partial clones


def test_a_partial_clone_fetches_what_a_merge_needs(origin: str, merged: Merged) -> None:
    top = clone(origin, "--filter=blob:none", "--no-checkout")
    assert len(missing(top)) > 12
    git_ok(top, "checkout", "--quiet", "main")
    assert_whole(top)
    lung = [git_ok(top, "rev-parse", f"origin/lung:contributions/lung/{file}") for file in ("distilled.safetensors",)]
    assert set(lung) <= set(missing(top))  # nobody has looked at lung yet
    git_ok(top, "merge", "--quiet", "--no-edit", "origin/lung")
    assert blob(top) == blob(merged(*NAMES))
    assert not set(lung) & set(missing(top))
    assert_merge(top, "origin/lung^", "HEAD^1", "origin/lung")
    assert forge_ok(top, "log").out
    git_ok(top, "push", "--quiet", "origin", "main")


def test_a_partial_clone_whose_origin_is_out_of_reach(origin: str) -> None:
    top = clone(origin, "--filter=blob:none")
    before = head(top)
    away = Path(origin.removeprefix("file://"))
    away.rename(away.with_name("away.git"))
    done = git(top, "merge", "--no-edit", "origin/lung")
    assert_stopped(done)
    git(top, "merge", "--abort")
    assert_given_up(top, before, "reset", "--quiet", "--hard")
    away.with_name("away.git").rename(away)
    git_ok(top, "merge", "--quiet", "--no-edit", "origin/lung")
    assert_merge(top, "origin/lung^", before, "origin/lung")


# Sparse checkouts


@pytest.mark.parametrize("index", ["full", "sparse"])
def test_a_sparse_checkout(origin: str, contributions: Files, index: str) -> None:
    """Contributions that are not in the work tree are in the model all the same."""
    top = clone(origin, "--sparse")
    if index == "sparse":
        git_ok(top, "sparse-checkout", "set", "--cone", "--sparse-index", "contributions/breast")
    else:
        git_ok(top, "sparse-checkout", "set", "--cone", "contributions/breast")
    assert folders(top) == ["breast"]
    said = forge_ok(top, "status")
    assert "removed" not in said.out and "disagree" not in said.out and "In the work tree" not in said.out, said.out
    again = forge(top, "commit")
    assert again.code == 128 and "no contribution changed" in again.err
    before = head(top)
    git_ok(top, "merge", "--quiet", "--no-edit", "origin/lung")
    assert_merge(top, "origin/lung^", before, "origin/lung")
    assert folders(top) == ["breast"] and names(top) == ["breast", "colon", "lung"]
    assert_clean(top)
    git_ok(top, "sparse-checkout", "set", "--cone", "contributions/breast", "contributions/mine")
    write_contribution(top, "mine", contribution_files("mine"))
    forge_ok(top, "commit")
    assert names(top) == ["breast", "colon", "lung", "mine"]
    assert_whole(top)
    assert_clean(top)


def test_a_sparse_checkout_without_any_contribution(origin: str) -> None:
    top = clone(origin, "--sparse")
    assert not (top / "contributions").exists()
    before = head(top)
    said = forge(top, "commit")
    assert said.code == 128 and "no contribution changed" in said.err
    git_ok(top, "merge", "--quiet", "--no-edit", "origin/lung")
    assert_merge(top, "origin/lung^", before, "origin/lung")
    assert_clean(top)


# Bare repositories


def test_merge_tree_in_a_bare_repository(origin: str, merged: Merged) -> None:
    """A server: without attributes of its own git merges as text there, and stops; with them the driver runs."""
    bare = Path(origin.removeprefix("file://"))
    before = git_ok(bare, "for-each-ref")
    done = git(bare, "merge-tree", "--write-tree", "main", "lung")
    assert_stopped(done, f"CONFLICT (content): Merge conflict in {ITEM}")
    forge_ok(bare, "install")
    (bare / "info" / "attributes").write_text(git_ok(bare, "show", "main:.gitattributes") + "\n")
    tree = git_ok(bare, "merge-tree", "--write-tree", "main", "lung")
    assert tree == git_ok(merged(*NAMES), "rev-parse", "HEAD^{tree}")
    assert git_ok(bare, "for-each-ref") == before
    commit = git_ok(bare, "commit-tree", "-p", "main", "-p", "lung", "-m", "Merge on the server", tree)
    git_ok(bare, "update-ref", "refs/heads/main", commit)
    assert_whole(bare, "main")


# A model inside another repository


def test_a_model_as_a_submodule(origin: str, tmp_path: Path, contributions: Files) -> None:
    outer = tmp_path / "outer"
    git_ok(tmp_path, "init", "--quiet", str(outer))
    git_ok(outer, "submodule", "--quiet", "add", origin, "model")
    git_ok(outer, "commit", "--quiet", "-m", "Use the model")
    inner = outer / "model"
    forge_ok(inner, "install")
    before = head(inner)
    git_ok(inner, "merge", "--quiet", "--no-edit", "origin/lung")
    assert_merge(inner, "origin/lung^", before, "origin/lung")
    assert "Forge-Contribution: lung" in git_ok(inner, "log", "-1", "--format=%(trailers)")
    write_contribution(inner, "mine", contribution_files("mine"))
    forge_ok(inner, "commit")
    assert_whole(inner)
    assert_clean(inner)
    git_ok(outer, "commit", "--quiet", "-am", "Use the merged model")
    assert git_ok(outer, "rev-parse", "HEAD:model") == head(inner)

    git_ok(inner, "switch", "--quiet", "--detach", before)  # what the outer repository has is merged by it
    git_ok(inner, "merge", "--quiet", "--no-edit", "origin/lung")
    git_ok(outer, "submodule", "--quiet", "update", "--merge")
    assert names(inner) == ["breast", "colon", "lung", "mine"]
    assert_whole(inner)


# Clones where git forge is not, not any more, or of another version


@pytest.mark.parametrize("favour", [(), ("-X", "ours"), ("-X", "theirs")], ids=["plain", "ours", "theirs"])
def test_a_clone_without_install(origin: str, favour: Sequence[str]) -> None:
    """A text merge: a conflict, or where a side is favoured a forge item that nobody takes for whole."""
    top = clone(origin, install=False)
    before = head(top)
    done = git(top, "merge", "--no-edit", *favour, "origin/lung")
    if not favour:
        assert_stopped(done, f"Merge conflict in {ITEM}")
        assert "<<<<<<<" in (top / ITEM).read_text()
    else:
        assert done.returncode == 0
        assert problems(top)  # the next command notices
        said = forge(top, "status")
        assert "disagree" in said.out or "digest" in said.out
        done = git(top, "push", "origin", "main")
        assert_stopped(done, "the push was refused")
        git_ok(top, "reset", "--quiet", "--hard", before)
    said = forge(top, "status")
    assert ("conflict" in said.out) == (not favour)
    if not favour:
        assert_given_up(top, before, "merge", "--abort")
    git_ok(top, "merge", "--no-edit", "origin/lung")
    assert_merge(top, "origin/lung^", before, "origin/lung")


def test_a_driver_that_is_gone(pair: Path) -> None:
    """The program was removed: git says so and stops, and the next command of another git forge sets it right."""
    break_program(pair)
    git_ok(pair, "config", "--remove-section", "filter.forge")  # with a filter that is gone git would not get this far
    before = head(pair)
    done = git(pair, "merge", "--no-edit", "lung")
    assert_stopped(done, GONE, f"CONFLICT (content): Merge conflict in {ITEM}")
    assert head(pair) == before
    assert blob(pair) == git_ok(pair, "hash-object", ITEM)
    said = forge(pair, "status")
    assert "named a program that is gone or does not start; it was done again" in said.err
    git(pair, "merge", "--abort")
    assert_given_up(pair, before, "reset", "--quiet", "--hard")
    git_ok(pair, "merge", "--quiet", "--no-edit", "lung")
    assert_merge(pair, "lung^", before, "lung")


def test_a_filter_that_is_gone(pair: Path, contributions: Files) -> None:
    """git writes no payload then, and says what helps; following it gets at every version of the model."""
    break_program(pair)
    done = git(pair, "switch", "lung")
    assert_stopped(done, GONE, "git forge install", "git config --remove-section filter.forge")
    assert git_ok(pair, "branch", "--show-current") == "main"
    write_contribution(pair, "mine", contribution_files("mine"))
    assert_stopped(git(pair, "add", "contributions/mine"), GONE, "git forge install")
    git_ok(pair, "config", "--remove-section", "filter.forge")
    git_ok(pair, "reset", "--quiet", "--hard")
    git_ok(pair, "clean", "--quiet", "-d", "--force")
    for rev in ("lung", "main"):
        git_ok(pair, "switch", "--quiet", rev)
        assert_clean(pair)
        assert folders(pair) == names(pair)


def test_a_newer_format_on_one_side(pair: Path) -> None:
    """Somebody has a later git forge: this one touches nothing that it does not understand."""
    import hashlib

    git_ok(pair, "switch", "--quiet", "lung")
    newer = (pair / ITEM).read_text().replace('"format": 1', '"format": 2')
    lines = newer.split("\n")
    digest = hashlib.sha256("\n".join([lines[0], *lines[2:]]).encode()).hexdigest()
    lines[1] = f'  "digest": "sha256:{digest}",'
    (pair / ITEM).write_text("\n".join(lines))
    git_ok(pair, "commit", "--quiet", "-am", "By a later git forge")
    git_ok(pair, "switch", "--quiet", "main")
    before = head(pair)
    done = git(pair, "merge", "lung")
    assert_stopped(done, "format 2 was written by a newer git forge", "hint: update git forge")
    assert blob(pair) == git_ok(pair, "hash-object", ITEM)
    assert_given_up(pair, before, "merge", "--abort")
    assert "written by a newer git forge" in problems(pair, "lung")
    git_ok(pair, "switch", "--quiet", "lung")
    said = forge(pair, "commit")
    assert said.code == 128 and "written by a newer git forge" in said.err and "update" in said.err
    git_ok(pair, "merge", "--quiet", "--no-edit", "-s", "ours", "main")
    assert sorted(item(pair)["contributions"]) == ["lung"]


def test_git_as_it_is_without_a_shell_path(pair: Path, tmp_path: Path) -> None:
    """git forge is named by its place: it need not be on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("git", "sh", "env", "sed", "cat"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    before = head(pair)
    done = subprocess.run(
        ["git", "merge", "--no-edit", "lung"],
        cwd=pair,
        env=os.environ | {"PATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_merge(pair, "lung^", before, "lung")
