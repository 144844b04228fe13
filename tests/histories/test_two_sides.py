"""One contribution changed, removed or renamed on one side or on both: settled by its files, or a conflict."""

from __future__ import annotations

from pathlib import Path

import pytest
from histories.checks import assert_given_up, assert_merge, assert_stopped, head, names
from histories.conftest import Files, contribution_files
from sample_models import adapter, adapter_config
from story.hospitals import (
    ITEM,
    Merged,
    copy_repository,
    forge_ok,
    git,
    git_ok,
    item,
    write_contribution,
)
from story.test_histories import blob

COLON = "contributions/colon"


@pytest.fixture
def sides(merged: Merged, quick: Path, tmp_path: Path) -> Path:
    """main has breast and colon; the branch side is where main is; the branch lung is not merged yet."""
    top = copy_repository(merged("breast", "colon"), tmp_path / "model")
    git_ok(top, "branch", "side")
    return top


def update(top: Path, branch: str, name: str, version: int) -> None:
    """A new adapter and new distilled images of a contribution, folded on a branch; main afterwards."""
    git_ok(top, "switch", "--quiet", branch)
    write_contribution(top, name, contribution_files(name, version))
    forge_ok(top, "commit")
    git_ok(top, "switch", "--quiet", "main")


def remove(top: Path, branch: str, name: str) -> None:
    git_ok(top, "switch", "--quiet", branch)
    git_ok(top, "rm", "-r", "--quiet", f"contributions/{name}")
    forge_ok(top, "commit")
    git_ok(top, "switch", "--quiet", "main")


def rename(top: Path, branch: str, name: str, to: str) -> None:
    git_ok(top, "switch", "--quiet", branch)
    git_ok(top, "mv", f"contributions/{name}", f"contributions/{to}")
    forge_ok(top, "commit")
    git_ok(top, "switch", "--quiet", "main")


def edit_card(top: Path, branch: str, name: str, lines: str) -> None:
    git_ok(top, "switch", "--quiet", branch)
    card = top / "contributions" / name / "card.toml"
    card.write_text(card.read_text() + lines)
    forge_ok(top, "commit", "-m", "Say more")
    git_ok(top, "switch", "--quiet", "main")


def adapter_id(top: Path, rev: str, name: str = "colon") -> str:
    found = item(top, rev)["contributions"][name]["adapter"]
    assert isinstance(found, str)
    return found


def test_the_same_contribution_on_both_sides_is_one(model: Path, contributions: Files) -> None:
    for branch, start in (("one", "breast"), ("two", "colon")):
        git_ok(model, "switch", "--quiet", "-c", branch, start)
        write_contribution(model, "lung", contributions["lung"])
        forge_ok(model, "commit")
    git_ok(model, "merge", "--quiet", "--no-edit", "one")
    assert_merge(model, "main", "HEAD^1", "one")
    assert names(model) == ["breast", "colon", "lung"]


def test_updated_on_one_side(sides: Path) -> None:
    update(sides, "side", "colon", 91)
    git_ok(sides, "merge", "--quiet", "--no-edit", "lung")  # main moves on
    ours = head(sides)
    git_ok(sides, "merge", "--quiet", "--no-edit", "side")
    assert_merge(sides, "side^", ours, "side")
    assert adapter_id(sides, "HEAD") == adapter_id(sides, "side") != adapter_id(sides, ours)
    assert names(sides) == ["breast", "colon", "lung"]


def test_updated_on_both_sides_to_the_same(sides: Path) -> None:
    git_ok(sides, "merge", "--quiet", "--no-edit", "lung")
    for branch in ("main", "side"):
        update(sides, branch, "colon", 91)
    ours = head(sides)
    git_ok(sides, "merge", "--quiet", "--no-edit", "side")
    assert_merge(sides, "side^", ours, "side")
    assert blob(sides) == blob(sides, ours)  # nothing came in


def test_updated_differently_on_both_sides(sides: Path) -> None:
    update(sides, "main", "colon", 91)
    update(sides, "side", "colon", 92)
    before = head(sides)
    done = git(sides, "merge", "side")
    assert_stopped(done, f"{COLON}: contribution 'colon' was replaced differently in ours and in theirs", "hint: ")
    assert_stopped(done, f"CONFLICT (content): Merge conflict in {ITEM}", f"Merge conflict in {COLON}/distilled")
    assert blob(sides) == git_ok(sides, "hash-object", ITEM)  # ours, whole
    assert_given_up(sides, before, "merge", "--abort")


def test_one_side_changes_the_adapter_and_the_other_its_config(sides: Path) -> None:
    """No file was changed twice, and yet the two belong together."""
    for branch, file, content in (
        ("main", "adapter_config.json", adapter_config(lora_alpha=32)),
        ("side", "adapter_model.safetensors", adapter(91)),
    ):
        git_ok(sides, "switch", "--quiet", branch)
        write_contribution(sides, "colon", {file: content})
        forge_ok(sides, "commit")
    git_ok(sides, "switch", "--quiet", "main")
    before = head(sides)
    assert_stopped(git(sides, "merge", "side"), "contribution 'colon' was replaced differently")
    assert_given_up(sides, before, "merge", "--abort")


@pytest.mark.parametrize("remover", ["main", "side"])
def test_removed_on_one_side_and_updated_on_the_other(sides: Path, remover: str) -> None:
    update(sides, "side" if remover == "main" else "main", "colon", 91)
    remove(sides, remover, "colon")
    before = head(sides)
    doer, changer = ("ours", "theirs") if remover == "main" else ("theirs", "ours")
    done = git(sides, "merge", "side")
    assert_stopped(done, f"contribution 'colon' was removed in {doer} and replaced in {changer}", "hint: ")
    assert_stopped(done, "CONFLICT (modify/delete)")
    assert_given_up(sides, before, "merge", "--abort")


def test_removed_on_one_side(sides: Path) -> None:
    remove(sides, "side", "colon")
    git_ok(sides, "merge", "--quiet", "--no-edit", "lung")
    ours = head(sides)
    git_ok(sides, "merge", "--quiet", "--no-edit", "side")
    assert_merge(sides, "side^", ours, "side")
    assert names(sides) == ["breast", "lung"]
    assert not (sides / COLON).exists()
    assert "Forge-Removed: colon" in git_ok(sides, "log", "-1", "--format=%(trailers)")


def test_renamed_on_one_side(sides: Path) -> None:
    rename(sides, "side", "colon", "bowel")
    git_ok(sides, "merge", "--quiet", "--no-edit", "lung")
    ours = head(sides)
    git_ok(sides, "merge", "--quiet", "--no-edit", "side")
    assert_merge(sides, "side^", ours, "side")
    assert names(sides) == ["bowel", "breast", "lung"]


@pytest.mark.parametrize("renamer", ["main", "side"])
def test_renamed_on_one_side_and_updated_on_the_other(sides: Path, renamer: str) -> None:
    """git would carry the update over to the new name; whether it belongs there is not git's to say."""
    rename(sides, renamer, "colon", "bowel")
    update(sides, "side" if renamer == "main" else "main", "colon", 91)
    before = head(sides)
    assert_stopped(git(sides, "merge", "side"), "contribution 'colon' was removed in", "hint: ")
    assert_given_up(sides, before, "merge", "--abort")


def test_renamed_differently_on_both_sides(sides: Path) -> None:
    rename(sides, "main", "colon", "bowel")
    rename(sides, "side", "colon", "gut")
    before = head(sides)
    assert_stopped(git(sides, "merge", "side"), "CONFLICT (rename/rename)")
    assert_given_up(sides, before, "merge", "--abort")


def test_names_that_differ_in_case_only(model: Path, contributions: Files) -> None:
    git_ok(model, "switch", "--quiet", "-c", "other", "main")
    write_contribution(model, "Lung", contributions["colon"])
    forge_ok(model, "commit")
    before = head(model)
    assert_stopped(git(model, "merge", "lung"), "differ only in upper and lower case", "hint: ")
    assert_given_up(model, before, "merge", "--abort")


def test_cards_are_never_blended(sides: Path) -> None:
    """Two edits in different places of one card: each speaks of the adapter that it lay beside."""
    edit_card(sides, "main", "colon", "\n[metrics]\nvalidation_accuracy = 0.9\n")
    git_ok(sides, "switch", "--quiet", "side")
    card = sides / COLON / "card.toml"
    card.write_text("# Trained twice\n" + card.read_text())
    forge_ok(sides, "commit", "-m", "Say how")
    git_ok(sides, "switch", "--quiet", "main")
    before = head(sides)
    assert_stopped(git(sides, "merge", "side"), f"Merge conflict in {COLON}/card.toml")
    assert_given_up(sides, before, "merge", "--abort")


def test_an_edit_of_a_card_never_lands_in_another_contribution_s(sides: Path) -> None:
    """Ours replaced colon by lung, whose files look like colon's to git: theirs' edit must not follow."""
    edit_card(sides, "side", "colon", "\n[metrics]\nvalidation_accuracy = 0.9\n")
    git_ok(sides, "rm", "-r", "--quiet", COLON)
    write_contribution(sides, "thyroid", contribution_files("thyroid", 7))
    forge_ok(sides, "commit")
    before = head(sides)
    assert_stopped(git(sides, "merge", "side"), "CONFLICT")
    assert_given_up(sides, before, "merge", "--abort")


def test_removed_on_both_sides_and_another_put_in_its_place_on_one(sides: Path, contributions: Files) -> None:
    """All configs are alike, so git takes the newcomer for colon renamed: it asks, and what is there is right."""
    remove(sides, "side", "colon")
    git_ok(sides, "rm", "-r", "--quiet", COLON)
    write_contribution(sides, "thyroid", contribution_files("thyroid", 7))
    forge_ok(sides, "commit")
    before = head(sides)
    assert_stopped(git(sides, "merge", "side"), "CONFLICT (rename/delete)", "contributions/thyroid/adapter_config.json")
    assert_given_up(sides, before, "merge", "--abort")
    git(sides, "merge", "side")
    git_ok(sides, "add", "contributions/thyroid")
    git_ok(sides, "commit", "--quiet", "--no-edit")
    assert_merge(sides, "side^", before, "side")
    assert names(sides) == ["breast", "thyroid"]
