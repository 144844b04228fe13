"""Merges of branches that keep their payloads in different places: where they are kept is no part of the model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from sample_models import SampleModel
from storage.conftest import SCORES
from storage.lfs_models import ITEM, PAYLOADS, oid_of, state_of
from story.hospitals import forge, forge_ok, git, git_ok

from forge.clone import setup as clone_setup
from forge.git.running import find_repository, hash_object
from forge.recipe.item import ForgeItem, TaskScore
from forge.recipe.item_text import from_json
from forge.repo.storage import (
    attribute_lines,
    same_file,
    storage_of,
    with_ids_in_common,
    with_ids_of_tree,
    with_storage,
)

COLON = ("contributions/colon/adapter_model.safetensors", "contributions/colon/distilled.safetensors")
COEFFICIENTS = {"breast": 0.3, "lung": 0.125, "colon": 0.5}


@pytest.fixture
def feature(in_lfs: Path, tmp_path: Path) -> SampleModel:
    """main in git-lfs; on the branch feature, which began before that, colon in git. The merge driver is set up."""
    sample = SampleModel.__new__(SampleModel)
    sample.hour = 10
    sample.top = Path(shutil.copytree(in_lfs, tmp_path / "model", symlinks=True))
    for key in ("merge.forge.driver", "merge.forge.name", "merge.forge.recursive", "merge.forge-union.driver"):
        git_ok(sample.top, "config", key, clone_setup.expected()[key])
    git_ok(sample.top, "switch", "--quiet", "-c", "feature", "main~1")
    sample.add_contribution("colon", COEFFICIENTS, (*SCORES, TaskScore("colon", ("a", "b"), 4, 0.5, 0.6)))
    return sample


def item_of(top: Path, rev: str = "HEAD") -> ForgeItem:
    return from_json(git_ok(top, "show", f"{rev}:{ITEM}") + "\n")


def test_the_move_itself_merges_without_a_search(feature: SampleModel) -> None:
    """The driver would need the base to search, and there is none here."""
    top, before = feature.top, item_of(feature.top)
    merged = git(top, "merge", "--quiet", "--no-edit", "main")
    assert merged.returncode == 0
    assert "move them with git forge storage lfs" in merged.stderr
    after = item_of(top)
    assert {entry.name: entry.coefficient for entry in after.contributions} == COEFFICIENTS
    assert (after.scores, after.search) == (before.scores, before.search)
    for name in ("breast", "lung"):
        assert after.entry(name) != before.entry(name)
        assert oid_of(top, f"contributions/{name}/distilled.safetensors")
    assert after.entry("colon") == before.entry("colon")  # still in git itself
    assert forge_ok(top, "verify", "--no-scores").out.startswith("ok: ")

    for path in COLON:  # to git, which asks the filter, they look changed
        os.utime(top / path, (1, 1))
    said = forge_ok(top, "status").out
    assert said.endswith(
        "Not kept in lfs as .gitattributes says (run `git forge storage lfs`):\n"
        + "".join(f"  {path}\n" for path in COLON)
    )
    assert forge_ok(top, "storage").out.splitlines() == [
        "lfs", *(f"  {path}: not kept there (run: git forge storage lfs)" for path in COLON)
    ]  # fmt: skip
    said = forge(top, "commit").err
    assert "contributions/colon is kept otherwise than .gitattributes says" in said
    assert "hint: move them first, which leaves the model as it is: git forge storage lfs" in said
    assert forge_ok(top, "storage", "lfs").err.endswith("2 files moved\n")
    assert git_ok(top, "status", "--porcelain") == ""
    assert {entry.name: entry.coefficient for entry in item_of(top).contributions} == COEFFICIENTS
    assert forge_ok(top, "verify", "--no-scores").out.startswith("ok: ")


def test_both_sides_move_each_by_itself(feature: SampleModel) -> None:
    top = feature.top
    forge_ok(top, "storage", "lfs")
    before = item_of(top)
    git_ok(top, "merge", "--quiet", "--no-edit", "main")
    assert item_of(top) == before
    assert git_ok(top, "status", "--porcelain") == ""
    assert forge_ok(top, "storage").out == "lfs\n"


def test_a_file_that_one_side_moved_and_the_other_replaced_is_a_conflict(feature: SampleModel) -> None:
    top = feature.top
    feature.write_contribution("lung", version=9)
    feature.write_item(feature.item(COEFFICIENTS, (*SCORES, TaskScore("colon", ("a", "b"), 4, 0.5, 0.6))))
    feature.commit("Update lung")
    before = state_of(top)
    done = git(top, "merge", "--no-edit", "main")
    assert done.returncode == 1
    assert f"CONFLICT (content): Merge conflict in {PAYLOADS[2]}" in done.stdout
    assert "contribution 'lung' was replaced differently in ours and in theirs" in done.stderr
    git_ok(top, "merge", "--abort")
    assert state_of(top) == before


def test_recipes_are_alike_only_where_the_file_is_the_same(in_lfs: Path) -> None:
    repo = find_repository(in_lfs)
    git_item, lfs_item = item_of(in_lfs, "HEAD~1"), item_of(in_lfs)
    assert with_ids_in_common(repo, git_item, git_item, lfs_item) == (lfs_item, lfs_item, lfs_item)
    assert with_ids_in_common(repo, git_item, lfs_item, git_item) == (lfs_item, lfs_item, lfs_item)
    assert with_ids_in_common(repo, git_item, lfs_item, lfs_item) == (lfs_item, lfs_item, lfs_item)
    assert with_ids_in_common(repo, lfs_item, git_item, git_item) == (git_item, git_item, git_item)
    assert with_ids_in_common(repo, None, git_item, lfs_item) == (None, git_item, lfs_item)  # git itself conflicts
    assert with_ids_of_tree(repo, git_item, lfs_item.contributions) == lfs_item
    assert with_ids_of_tree(repo, lfs_item, git_item.contributions[:1]).entry("breast") == git_item.entry("breast")
    assert with_ids_of_tree(repo, git_item, ()) == git_item
    one = git_ok(in_lfs, "rev-parse", f"HEAD:{PAYLOADS[0]}")
    for other in (f"HEAD:{PAYLOADS[1]}", f"HEAD~1:{PAYLOADS[1]}"):
        assert not same_file(repo, one, git_ok(in_lfs, "rev-parse", other))
    assert not same_file(repo, one, "0" * 40)
    assert not same_file(repo, one, hash_object(repo, b"text", write=False))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*.png binary",
        "*.png binary\r\n# ours\r\n",
        "\n".join(attribute_lines("git")) + "\n*.bin filter=lfs diff=lfs merge=lfs -text\n",
        "\n".join(reversed(attribute_lines("lfs"))),
    ],
)
def test_the_lines_of_gitattributes(text: str) -> None:
    in_git, in_lfs = with_storage(text, "git"), with_storage(text, "lfs")
    assert with_storage(in_lfs, "git") == in_git and with_storage(in_git, "lfs") == in_lfs
    assert with_storage(in_git, "git") == in_git
    for storage, found in (("git", in_git), ("lfs", in_lfs)):
        lines = found.splitlines()
        assert sorted(set(lines) & set(attribute_lines("git") + attribute_lines("lfs"))) == sorted(
            attribute_lines("git" if storage == "git" else "lfs")
        )
        assert [line for line in lines if "forge" not in line and ".toml" not in line and ".json" not in line] == [
            line for line in text.splitlines() if "forge" not in line and ".toml" not in line and ".json" not in line
        ]


def test_what_git_finds_decides(model: Path) -> None:
    repo = find_repository(model)
    assert storage_of(repo) == "git"
    (model / ".gitattributes").write_text("\n".join(attribute_lines("lfs")))
    assert storage_of(repo) == "lfs"
    with (model / ".gitattributes").open("a") as file:
        file.write("\ncontributions/*/distilled.safetensors -filter\n")
    assert storage_of(repo) == "git"
    (model / ".gitattributes").unlink()
    assert storage_of(repo) == "git"
