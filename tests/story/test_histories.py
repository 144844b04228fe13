"""Histories made by plain git through the installed driver: each commit of each of them is a whole model."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from story.conftest import Files
from story.hospitals import (
    EVALUATIONS,
    ITEM,
    NAMES,
    Merged,
    coefficients,
    contribution_files,
    copy_repository,
    forge,
    forge_ok,
    git,
    git_ok,
    item,
    write_contribution,
)

from forge.model.base import BaseModel


def without_driver(top: Path) -> None:
    """A driver that fails: what still merges has not called it."""
    git_ok(top, "config", "merge.forge.driver", "false")


def blob(top: Path, rev: str = "HEAD") -> str:
    return git_ok(top, "rev-parse", f"{rev}:{ITEM}")


def folders(top: Path) -> list[str]:
    return sorted(path.name for path in (top / "contributions").iterdir())


def assert_clean(top: Path) -> None:
    assert git_ok(top, "status", "--porcelain") == ""


def assert_follows(after: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """MedForge (2025), Eq. 3 and 4: c_k <- w c_k for what ours has, w' c_k for what theirs brings."""
    scales = after["search"]["scales"]
    mine, other = coefficients(ours), coefficients(theirs)
    wanted = {name: scales["ours"] * value for name, value in mine.items()}
    wanted |= {name: scales["theirs"] * value for name, value in other.items() if name not in mine}
    assert coefficients(after) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("order", list(permutations(NAMES)), ids="-".join)
def test_any_order_of_merges_gives_a_whole_model(merged: Merged, order: tuple[str, ...]) -> None:
    first = merged(order[0])
    assert git_ok(first, "rev-parse", "main") == git_ok(first, "rev-parse", order[0])  # fast-forward
    assert coefficients(item(first)) == {order[0]: 1.0}
    for count in (2, 3):
        top = merged(*order[:count])
        assert_clean(top)
        after, before, theirs = item(top), item(top, "HEAD^1"), item(top, "HEAD^2")
        assert_follows(after, before, theirs)
        assert after["search"]["evaluations"] == EVALUATIONS
        assert after["search"]["objective_after"] <= after["search"]["objective_before"]  # "keep ours" competes
        assert sorted(after["contributions"]) == sorted(after["scores"]) == folders(top) == sorted(order[:count])
    said = forge(top, "verify")
    assert (said.code, said.out) == (0, f"ok: {git_ok(top, 'show', '-s', '--format=%h %s')}\n")


def test_the_same_merge_is_the_same_commit(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast"), tmp_path / "again")
    git_ok(top, "merge", "--no-edit", "colon")
    assert git_ok(top, "rev-parse", "HEAD") == git_ok(merged("breast", "colon"), "rev-parse", "HEAD")


def test_a_merge_of_one_changed_side_needs_no_driver(model: Path) -> None:
    without_driver(model)
    git_ok(model, "merge", "--no-ff", "--no-edit", "lung")
    assert len(git_ok(model, "show", "-s", "--format=%P").split()) == 2
    assert blob(model) == blob(model, "lung")
    assert "Forge-Contribution: lung 1.000000" in git_ok(model, "log", "-1", "--format=%(trailers)")
    forge_ok(model, "verify")


def test_revert_of_the_last_merge_is_the_model_before_it_byte_for_byte(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast", "colon", "lung"), tmp_path / "model")
    without_driver(top)
    git_ok(top, "revert", "-m", "1", "--no-edit", "HEAD")
    assert blob(top) == blob(top, "HEAD~2")
    assert git_ok(top, "rev-parse", "HEAD^{tree}") == git_ok(top, "rev-parse", "HEAD~2^{tree}")
    assert folders(top) == ["breast", "colon"]
    assert_clean(top)
    forge_ok(top, "verify")

    git_ok(top, "revert", "--no-edit", "HEAD")  # and back in
    assert blob(top) == blob(top, "HEAD~2")
    assert folders(top) == ["breast", "colon", "lung"]


def test_revert_of_an_earlier_merge_takes_exactly_that_contributor_out(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast", "colon", "lung"), tmp_path / "model")
    before = item(top)
    git_ok(top, "revert", "-m", "1", "--no-edit", "HEAD^")
    after = item(top)
    assert folders(top) == sorted(after["contributions"]) == sorted(after["scores"]) == ["breast", "lung"]
    assert after["search"]["scales"].keys() == {"ours"}
    scale = after["search"]["scales"]["ours"]
    wanted = {name: scale * value for name, value in coefficients(before).items() if name != "colon"}
    assert coefficients(after) == pytest.approx(wanted, abs=1e-6)
    for name in wanted:
        assert after["contributions"][name]["adapter"] == before["contributions"][name]["adapter"]
    assert "Forge-Removed: colon" in git_ok(top, "log", "-1", "--format=%(trailers)")
    assert_clean(top)
    forge_ok(top, "verify")

    without_driver(top)
    git_ok(top, "revert", "--no-edit", "HEAD")
    assert blob(top) == blob(top, "HEAD~2")


@pytest.mark.parametrize("how", ["rebase", "cherry-pick", "squash"])
def test_rebase_cherry_pick_and_squash_make_the_model_that_a_merge_makes(
    merged: Merged, tmp_path: Path, how: str
) -> None:
    top = copy_repository(merged("breast"), tmp_path / "model")
    if how == "rebase":
        git_ok(top, "rebase", "main", "lung")
    elif how == "cherry-pick":
        git_ok(top, "cherry-pick", "lung")
    else:
        git_ok(top, "merge", "--squash", "lung")
        git_ok(top, "commit", "-m", "Take in lung")
    assert git_ok(top, "rev-parse", "HEAD^@") == git_ok(top, "rev-parse", "breast")  # one parent
    assert blob(top) == blob(merged("breast", "lung"))
    assert git_ok(top, "rev-parse", "HEAD^{tree}") == git_ok(merged("breast", "lung"), "rev-parse", "HEAD^{tree}")
    assert_clean(top)
    found = coefficients(item(top))
    trailers = git_ok(top, "log", "-1", "--format=%(trailers:key=Forge-Contribution,valueonly)").split("\n")
    assert trailers == [f"{name} {value:.6f}" for name, value in found.items()]


def test_merge_tree_calls_the_driver_and_leaves_the_work_tree_alone(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast"), tmp_path / "model")
    before = blob(top)
    tree = git_ok(top, "merge-tree", "--write-tree", "main", "lung")
    assert tree == git_ok(merged("breast", "lung"), "rev-parse", "HEAD^{tree}")
    assert blob(top) == before
    assert_clean(top)


def test_a_criss_cross_unites_the_ancestors_and_keeps_both_contributions(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast", "colon"), tmp_path / "model")
    git_ok(top, "fetch", "--quiet", str(merged("colon", "breast")), "main:other")
    assert len(git_ok(top, "merge-base", "--all", "main", "other").split()) == 2
    union = tmp_path / "union-called"
    driver = git_ok(top, "config", "merge.forge-union.driver")
    git_ok(top, "config", "merge.forge-union.driver", f"touch '{union}' && {driver}")
    git_ok(top, "merge", "--no-edit", "other")
    assert union.exists()
    assert coefficients(item(top)) == coefficients(item(top, "HEAD^1"))  # nothing new came in: ours stays
    assert folders(top) == ["breast", "colon"]
    forge_ok(top, "verify")


def test_the_same_name_twice_is_a_conflict_that_says_what_to_do(
    model: Path, base: BaseModel, contributions: Files
) -> None:
    git_ok(model, "switch", "--quiet", "-c", "other", "main")
    write_contribution(model, "lung", contribution_files(base, "colon", rank=8, seed=77))
    forge_ok(model, "commit")
    head, tree = git_ok(model, "rev-parse", "HEAD"), git_ok(model, "rev-parse", "HEAD^{tree}")
    done = git(model, "merge", "lung")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "error: contributions/lung: contribution 'lung' was added differently in ours and in theirs" in said
    assert "hint: take one side's with `git forge resolve --ours`" in said
    assert f"CONFLICT (content): Merge conflict in {ITEM}" in said
    assert blob(model) == git_ok(model, "hash-object", ITEM)  # ours, whole: no text merge, no markers
    status = forge(model, "commit")
    assert status.code == 128 and "a merge is in progress" in status.err
    git_ok(model, "merge", "--abort")
    assert git_ok(model, "rev-parse", "HEAD") == head
    assert git_ok(model, "write-tree") == tree
    assert_clean(model)
    forge_ok(model, "verify")


def test_two_bases_do_not_merge(model: Path, tmp_path: Path, contributions: Files) -> None:
    """Somebody changed forge.toml and the forge item to another base on a branch."""
    from forge.recipe.item import Base
    from forge.recipe.item_text import from_json, to_json

    for branch, start in (("one", "main"), ("two", "main")):
        git_ok(model, "switch", "--quiet", "-c", branch, start)
        found = from_json((model / ITEM).read_text())
        fresh = Base(f"ViT-B-16/{branch}", f"sha256:{branch}")
        (model / ITEM).write_text(to_json(type(found)(fresh, found.strategy)))
        git_ok(model, "commit", "--quiet", "-am", f"Another base: {branch}")
    tree = git_ok(model, "write-tree")
    done = git(model, "merge", "one")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "error: the two sides are built on different base models" in said
    assert "ViT-B-16/one" in said and "ViT-B-16/two" in said and "hint: " in said
    git_ok(model, "merge", "--abort")
    assert git_ok(model, "write-tree") == tree
    assert_clean(model)


def test_an_octopus_fails_and_loses_nothing(model: Path) -> None:
    head, tree = git_ok(model, "rev-parse", "HEAD"), git_ok(model, "write-tree")
    done = git(model, "merge", "--no-edit", "breast", "colon", "lung")
    assert done.returncode != 0
    assert ITEM in done.stdout + done.stderr
    git(model, "merge", "--abort")
    git_ok(model, "reset", "--quiet", "--merge")
    assert git_ok(model, "rev-parse", "HEAD") == head
    assert git_ok(model, "write-tree") == tree
    assert_clean(model)
