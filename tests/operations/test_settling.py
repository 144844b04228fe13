"""`git forge resolve` and `git forge refold` by what they stage, say and leave alone; nothing is searched here.

That what they stage is what the merge driver makes, tests/story/test_settling.py shows with the real search.
"""

from __future__ import annotations

import subprocess
from typing import Any

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
from sample_models import adapter
from story.snapshots import assert_refused
from story.snapshots import snapshot as snapshot_of

from forge.recipe.item import ForgeItem
from forge.recipe.layout import ITEM_FILE

MERGED = {"breast": OURS * 0.8, "lung": THEIRS * 0.4}


@pytest.mark.parametrize("driver", ["gone from PATH", "not set up"])
def test_a_merge_without_the_driver(settled: SettledModel, driver: str) -> None:
    if driver == "not set up":
        assert settled.run("merge", "lung").returncode == 1
        conflict = (settled.top / ITEM_FILE).read_text()
        assert "<<<<<<<" in conflict and "run `git forge resolve`" in conflict
    else:
        settled.stop("merge", "lung")
    status = ok(settled, "status")
    assert "A merge stands still, in conflict:\n  forge-item.json\n" in status
    assert "\nNext:\n  git forge resolve\n  git merge --continue\n" in status
    said = ok(settled, "resolve")
    assert said.startswith(
        "The forge item is staged.\n  Forge-Strategy: mixture\n  Forge-Contribution: breast 0.400000\n"
    )
    assert said.endswith("\nNext: git merge --continue\n")
    assert "A merge stands still.\n" in ok(settled, "status")
    assert_refused(run(settled, "resolve"), "settled already", "git merge --continue")
    go_on(settled, "merge", "--continue")
    assert coefficients(settled) == pytest.approx(MERGED)
    assert_whole(settled)


@pytest.mark.parametrize(
    ("stopped", "next_step"),
    [
        (("cherry-pick", "lung"), ("cherry-pick", "--continue")),
        (("cherry-pick", "--no-commit", "lung"), ("commit", "-m", "Lung")),
        (("rebase", "colon", "lung"), ("rebase", "--continue")),
        (("rebase", "--apply", "colon", "lung"), ("rebase", "--continue")),
        (("merge", "--squash", "lung"), ("commit", "-m", "Lung")),
    ],
    ids=lambda each: " ".join(each),
)
def test_what_else_stands_still(settled: SettledModel, stopped: tuple[str, ...], next_step: tuple[str, ...]) -> None:
    settled.git("switch", "--quiet", "colon")
    settled.stop(*stopped)
    assert f"\nNext: git {' '.join(next_step).partition(' -m')[0]}\n" in ok(settled, "resolve")
    go_on(settled, *next_step)
    assert coefficients(settled) == pytest.approx({"breast": OURS * 0.6, "colon": OURS * 0.5, "lung": THEIRS * 0.4})
    assert_whole(settled)


def test_a_revert_of_an_earlier_merge(settled: SettledModel) -> None:
    for branch in ("lung", "colon"):
        settled.stop("merge", branch)
        ok(settled, "resolve")
        go_on(settled, "merge", "--continue")
    before = coefficients(settled)
    settled.stop("revert", "-m", "1", "--no-edit", "HEAD^")
    said = ok(settled, "resolve")
    assert "Forge-Removed: lung" in said and "\nNext: git revert --continue\n" in said
    go_on(settled, "revert", "--continue")
    assert coefficients(settled) == pytest.approx({name: OURS * before[name] for name in ("breast", "colon")})
    assert_whole(settled)


def test_a_stash(settled: SettledModel) -> None:
    settled.git("switch", "--quiet", "--detach", "main~1")
    settled.git("cherry-pick", "--no-commit", "lung")
    settled.git("stash")
    settled.git("switch", "--quiet", "colon")
    settled.stop("stash", "pop")
    assert "The model is in conflict:\n  forge-item.json\n" in ok(settled, "status")
    assert_refused(run(settled, "commit"), ITEM_FILE, "git forge resolve")
    assert "\nNext: git stash drop" in ok(settled, "resolve")
    settled.git("stash", "drop")
    go_on(settled, "commit", "-m", "Lung after all")
    assert coefficients(settled) == pytest.approx({"breast": OURS * 0.6, "colon": OURS * 0.5, "lung": THEIRS * 0.4})
    assert_whole(settled)


def test_a_patch_by_mail(settled: SettledModel) -> None:
    patch = settled.top.parent / "lung.patch"
    patch.write_text(settled.run("format-patch", "-1", "--binary", "--full-index", "--stdout", "lung").stdout)
    settled.git("switch", "--quiet", "colon")
    settled.stop("am", "-3", str(patch))
    assert "An am stands still" in ok(settled, "status")
    assert "\nNext: git am --continue\n" in ok(settled, "resolve")
    go_on(settled, "am", "--continue")
    assert sorted(coefficients(settled)) == ["breast", "colon", "lung"]
    assert_whole(settled)


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_contribution_that_both_sides_have(settled: SettledModel, side: str) -> None:
    settled.git("switch", "--quiet", "lung")
    settled.stop("merge", "other")
    stopped = snapshot(settled)
    assert_refused(run(settled, "resolve"), "contributions/lung", "--ours", "--theirs", "git add", code=1)
    assert snapshot(settled) == stopped
    ok(settled, "resolve", f"--{side}")
    go_on(settled, "merge", "--continue")
    taken = "HEAD^1" if side == "ours" else "HEAD^2"
    # All of the folder is that side's, its card and its notes too.
    assert settled.blob("HEAD:contributions/lung") == settled.blob(f"{taken}:contributions/lung")
    lung = OURS * 0.4 if side == "ours" else THEIRS * 0.3
    assert coefficients(settled) == pytest.approx({"breast": OURS * 0.7, "colon": THEIRS * 0.5, "lung": lung})
    assert_whole(settled)


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_in_a_rebase_ours_is_what_is_built_upon(settled: SettledModel, side: str) -> None:
    settled.stop("rebase", "lung", "other")
    while settled.git("ls-files", "--unmerged"):
        ok(settled, "resolve", f"--{side}")
        settled.run("-c", "merge.forge.driver=false", "rebase", "--continue")
    taken = "lung" if side == "ours" else "other"
    assert settled.blob("HEAD:contributions/lung") == settled.blob(f"{taken}:contributions/lung")
    assert_whole(settled)


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_stash_of_a_contribution_that_both_sides_have(settled: SettledModel, side: str) -> None:
    settled.git("switch", "--quiet", "--detach", "main~1")
    settled.git("cherry-pick", "--no-commit", "lung")
    settled.git("stash")
    settled.git("switch", "--quiet", "other")
    settled.stop("stash", "pop")
    ok(settled, "resolve", f"--{side}")
    go_on(settled, "commit", "--allow-empty", "-m", "Popped")
    taken = "other" if side == "ours" else "lung"
    assert settled.blob("HEAD:contributions/lung") == settled.blob(f"{taken}:contributions/lung")
    assert_whole(settled)


def test_aborting_after_resolve_brings_back_what_was(settled: SettledModel) -> None:
    settled.git("switch", "--quiet", "lung")
    before = snapshot(settled)
    settled.stop("merge", "other")
    ok(settled, "resolve", "--theirs")
    settled.git("merge", "--abort")
    assert snapshot(settled) == before


def test_a_third_version_is_new(settled: SettledModel) -> None:
    settled.git("switch", "--quiet", "lung")
    settled.stop("merge", "other")
    settled.write_contribution("lung", 7)
    assert_refused(run(settled, "resolve"), "contributions/lung", code=1)  # git is not told yet that this is it
    settled.git("add", "contributions/lung")
    ok(settled, "resolve")
    go_on(settled, "merge", "--continue")
    assert coefficients(settled)["lung"] == THEIRS
    assert_whole(settled)


def test_halves_of_two_sides_are_not_taken_for_a_contribution(settled: SettledModel) -> None:
    """Ours trained again, theirs distilled again: git merges the files, and the contribution is nobody's."""
    settled.git("switch", "--quiet", "-c", "trained", "main")
    settled.write("contributions/breast/adapter_model.safetensors", adapter(9))
    settled.write_item(settled.item({"breast": 0.3}))
    settled.commit("Trained again")
    settled.git("switch", "--quiet", "-c", "distilled", "main")
    settled.git("checkout", "updated", "--", "contributions/breast/distilled.safetensors")
    settled.write_item(settled.item({"breast": 0.2}))
    settled.commit("Distilled again")
    settled.stop("merge", "trained")
    assert settled.git("diff", "--name-only", "--diff-filter=U") == ITEM_FILE
    assert_refused(run(settled, "resolve"), "contributions/breast: both sides changed", code=1)
    ok(settled, "resolve", "--theirs")
    go_on(settled, "merge", "--continue")
    assert settled.blob("HEAD:contributions") == settled.blob("trained:contributions")
    assert coefficients(settled) == {"breast": pytest.approx(THEIRS * 0.3)}
    assert_whole(settled)


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("removed_in", ["ours", "theirs"])
def test_removed_on_one_side_and_updated_on_the_other(settled: SettledModel, side: str, removed_in: str) -> None:
    """The card is the same in all three: git takes its removal without asking, and it comes back with the rest."""
    settled.git("switch", "--quiet", "-c", "removed", "colon")
    settled.git("rm", "-r", "--quiet", "contributions/breast")
    settled.write_item(settled.item({"colon": 0.5}))
    settled.commit("Withdraw breast")
    ours, theirs = ("removed", "updated") if removed_in == "ours" else ("updated", "removed")
    settled.git("switch", "--quiet", ours)
    settled.stop("merge", theirs)
    ok(settled, "resolve", f"--{side}")
    go_on(settled, "merge", "--continue")
    names = ["colon"] if side == removed_in else ["breast", "colon"]
    assert (
        sorted(coefficients(settled))
        == sorted(path.name for path in (settled.top / "contributions").iterdir())
        == names
    )
    if side != removed_in:
        assert settled.blob("HEAD:contributions/breast") == settled.blob("updated:contributions/breast")
    assert_whole(settled)


def test_renamed_differently_on_both_sides(settled: SettledModel) -> None:
    """To git a conflict of two renames. To the model, breast is gone, and each side has added one."""
    for name in ("left", "right"):
        settled.git("switch", "--quiet", "-c", name, "main")
        settled.git("mv", "contributions/breast", f"contributions/{name}")
        settled.write_item(settled.item({name: 0.6}))
        settled.commit(f"Call it {name}")
    settled.stop("merge", "left")
    assert len(settled.git("diff", "--name-only", "--diff-filter=U").splitlines()) > 4
    # The same files under two names would count twice.
    said = run(settled, "resolve")
    assert_refused(said, "the same adapter under several names: left, right", code=1)
    settled.git("rm", "-r", "--quiet", "contributions/left")
    ok(settled, "resolve")
    go_on(settled, "merge", "--continue")
    assert coefficients(settled) == {"right": 0.6}
    assert settled.blob("HEAD:contributions/right") == settled.blob("right:contributions/right")
    assert [path.name for path in (settled.top / "contributions").iterdir()] == ["right"]
    assert_whole(settled)


def test_an_ancestor_that_cannot_be_read(settled: SettledModel) -> None:
    """As of a criss-cross where the driver for virtual ancestors is not set up."""
    settled.git("switch", "--quiet", "lung")
    settled.stop("merge", "other")
    entry = settled.git("ls-files", "--unmerged", ITEM_FILE).splitlines()[0]
    damaged = settled.top.parent / "damaged"
    damaged.write_text("<<<<<<< one\n")
    blob = settled.git("hash-object", "-w", str(damaged))
    lines = settled.git("ls-files", "--unmerged", ITEM_FILE).replace(entry.split()[1], blob, 1)
    done = settled.run("update-index", "--force-remove", ITEM_FILE)
    assert done.returncode == 0
    subprocess.run(
        ["git", "update-index", "--index-info"], cwd=settled.top, input=f"{lines}\n", text=True, check=True,
        env=settled.variables(),
    )  # fmt: skip
    ok(settled, "resolve", "--ours")
    go_on(settled, "merge", "--continue")
    assert sorted(coefficients(settled)) == ["breast", "colon", "lung"]
    assert_whole(settled)


def strategies(model: SettledModel) -> None:
    """On lung, by fusion; colon is by mixture-output."""
    for branch, strategy in (("colon", "mixture-output"), ("lung", "fusion")):
        model.git("switch", "--quiet", branch)
        text = (model.top / "forge.toml").read_text()
        text = text.replace('strategy = "mixture"', f'strategy = "{strategy}"').replace('"module"', '"contribution"')
        (model.top / "forge.toml").write_text(text)
        found = item(model, "HEAD")
        model.write_item(ForgeItem(found.base, strategy, found.contributions, None, found.scores))
        model.commit(f"By {strategy}")


def test_two_strategies(settled: SettledModel) -> None:
    strategies(settled)
    settled.stop("merge", "colon")
    stopped = snapshot(settled)
    assert_refused(run(settled, "resolve"), "forge.toml: merge conflict", "--strategy", code=1)
    assert snapshot(settled) == stopped
    ok(settled, "resolve", "--strategy", "mixture-output")
    go_on(settled, "merge", "--continue")
    assert item(settled, "HEAD").strategy == "mixture-output"
    assert 'strategy = "mixture-output"' in (settled.top / "forge.toml").read_text()
    assert_whole(settled)


def test_two_strategies_and_another_setting_that_both_changed(settled: SettledModel) -> None:
    strategies(settled)
    for branch, value in (("lung", "true"), ("colon", "false\n# not yet")):
        settled.git("switch", "--quiet", branch)
        text = (settled.top / "forge.toml").read_text()
        (settled.top / "forge.toml").write_text(text.replace("task_aware = false", f"task_aware = {value}"))
        settled.commit("Another setting")
    settled.stop("merge", "lung")
    stopped = snapshot(settled)
    assert_refused(run(settled, "resolve", "--strategy", "fusion"), "more than the strategy", code=1)
    assert snapshot(settled) == stopped
    text = settled.git("show", "lung:forge.toml")
    (settled.top / "forge.toml").write_text(text + "\n")
    settled.git("add", "forge.toml")  # settled by hand: it says which strategy, too
    ok(settled, "resolve")
    go_on(settled, "merge", "--continue")
    assert item(settled, "HEAD").strategy == "fusion"
    assert_whole(settled)


@pytest.mark.parametrize("command", ["status", "resolve", "commit"])
def test_an_octopus_is_told_what_works(settled: SettledModel, command: str) -> None:
    settled.git("switch", "--quiet", "-c", "start", "main~1")
    assert settled.run("merge", "--no-edit", "lung", "colon").returncode != 0
    said = run(settled, command)
    assert said.code == (0 if command == "status" else 128)
    shown = said.out if command == "status" else said.err
    for line in ("git merge --abort", "git merge lung", "git merge colon"):
        assert line in shown
    settled.git("merge", "--abort")
    assert_whole(settled)


def test_other_files_in_conflict_are_named_and_left(settled: SettledModel) -> None:
    for branch in ("lung", "main"):
        settled.git("switch", "--quiet", branch)
        settled.write("README.md", branch.encode() + b"\n")
        settled.commit(branch)
    settled.stop("merge", "lung")
    assert ok(settled, "resolve").endswith("\nNext: settle README.md, then: git merge --continue\n")
    assert settled.git("diff", "--name-only", "--diff-filter=U") == "README.md"
    assert "<<<<<<<" in (settled.top / "README.md").read_text()


def test_a_card_alone_that_both_sides_changed(settled: SettledModel) -> None:
    card = settled.top / "contributions" / "breast" / "card.toml"
    for branch in ("side", "main"):
        settled.git("switch", "--quiet", *(["-c"] if branch == "side" else []), branch)
        card.write_text(card.read_text() + f"\n[metrics]\n{branch} = 0.5\n")
        settled.commit(branch)
    settled.stop("merge", "side")
    assert_refused(run(settled, "resolve"), "contributions/breast", code=1)
    ok(settled, "resolve", "--theirs")
    go_on(settled, "merge", "--continue")
    assert "side = 0.5" in card.read_text()
    assert settled.blob(f"HEAD:{ITEM_FILE}") == settled.blob(f"HEAD^:{ITEM_FILE}")  # no card is in a model
    assert_whole(settled)


def test_nothing_to_settle(settled: SettledModel) -> None:
    before = snapshot_of(settled.top)
    assert_refused(run(settled, "resolve"), "nothing waits to be settled", "git forge refold")
    assert_refused(run(settled, "refold"), "agree", "git forge status")
    assert snapshot_of(settled.top) == before


@pytest.mark.parametrize("where", ["contributions/breast/card.toml", "forge.toml"])
def test_changes_that_are_not_staged_are_refused(settled: SettledModel, where: str) -> None:
    settled.stop("merge", "lung")
    settled.write(where, (settled.top / where).read_bytes() + b"# mine\n")
    stopped = snapshot(settled)
    assert_refused(run(settled, "resolve"), f"{where} has changes that are not staged", "git restore")
    assert snapshot(settled) == stopped


def test_a_file_in_the_way_is_not_overwritten(settled: SettledModel) -> None:
    settled.git("switch", "--quiet", "-c", "removed", "colon")
    settled.git("rm", "-r", "--quiet", "contributions/breast")
    settled.write_item(settled.item({"colon": 0.5}))
    settled.commit("Withdraw breast")
    settled.stop("merge", "updated")
    mine = settled.top / "contributions" / "breast" / "card.toml"
    mine.write_text("mine\n")
    stopped = snapshot(settled)
    assert_refused(run(settled, "resolve", "--theirs"), "card.toml is in the way")
    assert snapshot(settled) == stopped


def test_a_failure_while_it_is_staged_puts_everything_back(
    settled: SettledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forge.errors import ForgeError
    from forge.operations import settling

    def fails(*args: Any, **more: Any) -> None:
        raise ForgeError("card.toml: no", hint="mend it")

    settled.git("switch", "--quiet", "lung")
    settled.stop("merge", "other")
    stopped = snapshot(settled)
    monkeypatch.setattr(settling, "check_contribution", fails)
    assert_refused(run(settled, "resolve", "--theirs"), "card.toml: no")
    assert snapshot(settled) == stopped


def test_a_damaged_side_is_named(settled: SettledModel) -> None:
    settled.git("switch", "--quiet", "lung")
    settled.write(ITEM_FILE, (settled.top / ITEM_FILE).read_bytes().replace(b"0.4", b"0.9"))
    settled.commit("Edited by hand")
    settled.git("switch", "--quiet", "main")
    settled.stop("merge", "lung")
    stopped = snapshot_of(settled.top)
    assert_refused(run(settled, "resolve"), f"{ITEM_FILE} of theirs", "git forge refold")
    assert snapshot_of(settled.top) == stopped


def test_a_consolidation_of_both_sides_is_dropped(settled: SettledModel) -> None:
    from forge.recipe.item import Consolidation
    from forge.recipe.layout import consolidation_paths

    for branch in ("lung", "main"):
        settled.git("switch", "--quiet", branch)
        for path in consolidation_paths().values():
            settled.write(path, f"{branch}\n".encode())
        ids = {part: settled.git("hash-object", path) for part, path in consolidation_paths().items()}
        found = item(settled, "HEAD")
        made = Consolidation(**ids, steps=1, learning_rate=0.1, seed=0, objective_before=1.0, objective_after=0.5)
        settled.write_item(ForgeItem(found.base, "mixture", found.contributions, None, found.scores, made))
        settled.commit("Consolidate")
    settled.stop("merge", "lung")
    ok(settled, "resolve")
    go_on(settled, "merge", "--continue")
    assert item(settled, "HEAD").consolidation is None and not (settled.top / "consolidation").exists()
    assert_whole(settled)
