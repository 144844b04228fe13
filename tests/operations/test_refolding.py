"""`git forge refold`, for what was merged but not forged, and the gate; nothing is searched here."""

from __future__ import annotations

import json

import pytest
from operations.settled_models import (
    OURS,
    THEIRS,
    SettledModel,
    assert_whole,
    coefficients,
    go_on,
    item,
    ok,
    run,
    snapshot,
)
from story.snapshots import assert_refused
from story.snapshots import snapshot as snapshot_of

from forge.recipe.item_text import to_json
from forge.recipe.layout import ITEM_FILE

MERGED = {"breast": OURS * 0.8, "lung": THEIRS * 0.4}


@pytest.mark.parametrize("left", ["markers", "ours", "theirs"])
def test_a_merge_that_was_committed_without_being_forged(settled: SettledModel, left: str) -> None:
    assert settled.run("merge", "lung").returncode == 1
    if left != "markers":
        settled.git("checkout", f"--{left}", "--", ITEM_FILE)
    settled.git("add", ITEM_FILE)
    go_on(settled, "commit", "--no-edit")
    said = run(settled, "verify", "--no-scores")
    assert said.code == (0 if left == "theirs" else 1)
    if left == "theirs":  # lung's own recipe names all that is there: it is a model, though not this merge's
        return
    assert "git forge refold" in said.err
    assert_refused(run(settled, "commit"), "git forge refold")
    assert "\nNext:\n  git forge refold\n  git commit\n" in ok(settled, "status")
    assert ok(settled, "refold").endswith("\nNext: git commit\n")
    assert "\nNext:\n  git commit\n" in ok(settled, "status")
    assert_refused(run(settled, "refold"), "right already", "git commit")
    go_on(settled, "commit", "-m", "Forge it")
    assert coefficients(settled) == pytest.approx(MERGED)
    assert_whole(settled)


def test_an_edited_forge_item_is_made_again(settled: SettledModel) -> None:
    right = settled.blob(f"HEAD:{ITEM_FILE}")
    text = (settled.top / ITEM_FILE).read_bytes()
    settled.write(ITEM_FILE, text.replace(b"0.8", b"0.9"))
    assert "the forge item is that of HEAD again" in ok(settled, "refold")
    assert settled.git("status", "--porcelain") == ""
    settled.commit("A version between")
    settled.write(ITEM_FILE, text.replace(b"0.8", b"0.9"))
    settled.commit("Edited")
    ok(settled, "refold")
    go_on(settled, "commit", "-m", "As it was")
    assert settled.blob(f"HEAD:{ITEM_FILE}") == right  # of the last whole version, whose contributions are these
    assert_whole(settled)


def test_a_contribution_committed_by_hand(settled: SettledModel) -> None:
    settled.write_contribution("skin")
    settled.commit("Forgot git forge")
    ok(settled, "refold")
    go_on(settled, "commit", "-m", "Fold")
    assert coefficients(settled) == pytest.approx({"breast": OURS * 0.8, "skin": THEIRS})
    assert_whole(settled)


def test_refold_in_the_middle_of_a_merge(settled: SettledModel) -> None:
    settled.stop("merge", "lung")
    stopped = snapshot_of(settled.top)
    assert_refused(run(settled, "refold"), "a merge is in progress", "git forge resolve")
    assert snapshot_of(settled.top) == stopped


# The gate.


def test_the_gate_stops_what_wrecks_a_task(settled: SettledModel) -> None:
    settled.stop("merge", "wrecked")
    stopped = snapshot(settled)
    lost = "breast: accuracy 0.900 -> 0.400, cross-entropy 0.250 -> 0.500"
    assert_refused(run(settled, "resolve"), lost, "gate", "--accept", "git merge --abort", code=1)
    assert snapshot(settled) == stopped
    assert "Forge-Accepted: breast" in ok(settled, "resolve", "--accept")
    go_on(settled, "merge", "--continue")
    assert item(settled, "HEAD").accepted == ("breast",)
    assert "breast" in json.loads(ok(settled, "show", "--json"))["accepted"]
    assert_whole(settled)


def test_a_gate_that_is_off(settled: SettledModel) -> None:
    text = (settled.top / "forge.toml").read_text()
    (settled.top / "forge.toml").write_text(text.replace("gate = 0.2", "gate = 1.0"))
    settled.commit("No gate")
    settled.stop("merge", "wrecked")
    ok(settled, "resolve")
    go_on(settled, "merge", "--continue")
    assert item(settled, "HEAD").accepted == ()


def test_a_commit_has_the_gate_too(settled: SettledModel) -> None:
    settled.write_contribution("wrecked")
    before = snapshot(settled)
    assert_refused(run(settled, "commit"), "breast: accuracy 0.900 -> 0.400", "git forge commit --accept", code=1)
    assert snapshot(settled) == before
    assert "Forge-Accepted: breast" in ok(settled, "commit", "--accept")
    assert item(settled, "HEAD").accepted == ("breast",)
    assert_whole(settled)


def test_the_next_version_has_nothing_to_accept(settled: SettledModel) -> None:
    settled.write_contribution("wrecked")
    ok(settled, "commit", "--accept")
    settled.write_contribution("skin")
    ok(settled, "commit")
    assert item(settled, "HEAD").accepted == ()
    assert to_json(item(settled, "HEAD")).count("accepted") == 0
