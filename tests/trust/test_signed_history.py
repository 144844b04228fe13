"""What each commit of a history does of its own, merges above all; against git's own merges."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from trust.consortium import ADA, BREAST, LUNG, Consortium

from forge.errors import ForgeError
from forge.git import running as git_side
from forge.trust import signed_history as module
from forge.trust.rights import CommitFacts
from forge.trust.signed_history import signed_history

CARD = "contributions/breast/card.toml"
WEIGHTS = "contributions/breast/adapter_model.safetensors"
OTHER = "contributions/lung/card.toml"


def history(consortium: Consortium, head: str = "HEAD", target: str | None = None) -> dict[str, CommitFacts]:
    start = consortium.start if target is None else consortium.git("rev-parse", target)
    facts = signed_history(consortium.repo, start, consortium.git("rev-parse", head), consortium.allowed)
    return {each.id: each for each in facts}


def last(consortium: Consortium) -> Mapping[str, str]:
    """The changes of HEAD."""
    return history(consortium)[consortium.git("rev-parse", "HEAD")].changes


def test_plain_commits_in_order(consortium: Consortium) -> None:
    one = consortium.commit(BREAST, {CARD: "two\n", "contributions/breast/a b\nc": "new"})
    two = consortium.commit(None, {})
    three = consortium.commit(LUNG, {OTHER: None, "forge-item.json": "two\n"})
    assert list(history(consortium).values()) == [
        CommitFacts(one, BREAST, "good", {CARD: "modified", "contributions/breast/a b\nc": "added"}),
        CommitFacts(two, None, "none"),
        CommitFacts(three, LUNG, "good", {OTHER: "deleted", "forge-item.json": "modified"}, frozenset({"lung"})),
    ]
    assert list(history(consortium, target=two)) == [three]
    assert history(consortium, target=three) == {}


def test_a_contribution_is_gone_when_no_file_is_left(consortium: Consortium) -> None:
    consortium.commit(None, {WEIGHTS: "x"})
    consortium.commit(None, {CARD: None})
    assert history(consortium)[consortium.git("rev-parse", "HEAD")].removed == frozenset()
    consortium.commit(None, {WEIGHTS: None})
    assert history(consortium)[consortium.git("rev-parse", "HEAD")].removed == {"breast"}


def test_modes(consortium: Consortium) -> None:
    (consortium.top / "link").symlink_to("forge.toml")
    (consortium.top / CARD).unlink()
    (consortium.top / CARD).symlink_to("/etc/passwd")
    (consortium.top / OTHER).chmod(0o755)
    consortium.git("update-index", "--add", "--cacheinfo", f"160000,{consortium.start},module")
    (consortium.top / ".gitmodules").write_text('[submodule "module"]\n\tpath = module\n\tignore = all\n')
    consortium.git("add", "link", CARD, OTHER, ".gitmodules")
    consortium.git("config", "diff.ignoreSubmodules", "all")
    consortium.git("config", "diff.renames", "true")
    consortium.git("commit", "--quiet", "-m", "Modes")
    assert last(consortium) == {
        "link": "mode", CARD: "mode", "module": "mode", ".gitmodules": "added", OTHER: "modified",
    }  # fmt: skip


def test_a_history_of_its_own_brings_all_that_is_in_it(consortium: Consortium) -> None:
    consortium.git("checkout", "--quiet", "--orphan", "own")
    consortium.commit(None, {}, "2026-03-02T12:00:00+00:00")
    assert last(consortium)[CARD] == "added" and last(consortium)[".forge/sites.toml"] == "added"
    consortium.git("merge", "--quiet", "--allow-unrelated-histories", "-m", "Join", "main")
    assert last(consortium) == {}
    consortium.switch("main")
    consortium.git("merge", "--quiet", "--allow-unrelated-histories", "--no-ff", "-m", "Join", "own")
    assert last(consortium) == {}


def two_sides(consortium: Consortium, ours: Mapping[str, str | None], theirs: Mapping[str, str | None]) -> None:
    """On main what `ours` says; on side what `theirs` does; main is checked out."""
    consortium.branch("side")
    consortium.commit(BREAST, theirs)
    consortium.switch("main")
    consortium.commit(LUNG, ours)


def test_an_honest_merge_has_no_change_of_its_own(consortium: Consortium) -> None:
    two_sides(consortium, {OTHER: "two\n", "README": "new"}, {CARD: "two\n", WEIGHTS: "new", "forge.toml": None})
    consortium.merge("side")
    assert last(consortium) == {}
    assert not (consortium.top / "forge.toml").exists()
    assert history(consortium)[consortium.git("rev-parse", "HEAD")].signature == "none"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({CARD: "one\n"}, "modified"),  # what the side had changed is rolled back
        ({CARD: "three\n"}, "modified"),
        ({CARD: None}, "deleted"),
        ({OTHER: "one\n"}, "modified"),  # so is what main had changed
        ({"forge.toml": "two\n"}, "modified"),  # nobody had
        ({"workflow": "new"}, "added"),
        ({"gone": "one\n"}, "added"),  # taken out by one side, back again
    ],
)
def test_what_a_merge_slips_in(consortium: Consortium, changes: Mapping[str, str | None], kind: str) -> None:
    consortium.commit(None, {"gone": "one\n"})
    two_sides(consortium, {OTHER: "two\n", "gone": None}, {CARD: "two\n"})
    consortium.merge("side", changes=changes)
    assert last(consortium) == dict.fromkeys(changes, kind)


def test_where_both_have_changed_a_file_the_merger_decides(consortium: Consortium) -> None:
    two_sides(consortium, {CARD: "ours\n", OTHER: "same\n"}, {CARD: "theirs\n", OTHER: "same\n"})
    for content in ("ours\n", "theirs\n", "both\n"):
        consortium.merge("side", changes={CARD: content})
        assert last(consortium) == {CARD: "modified"}, content
        consortium.git("reset", "--quiet", "--hard", "HEAD^")
    consortium.merge("side", changes={CARD: None})
    assert last(consortium) == {CARD: "deleted"}
    assert history(consortium)[consortium.git("rev-parse", "HEAD")].removed == {"breast"}


def test_strategies_that_throw_a_side_away(consortium: Consortium) -> None:
    two_sides(consortium, {"README": "x"}, {CARD: "two\n", "forge.toml": "two\n"})
    consortium.git("merge", "--quiet", "-s", "ours", "-m", "Ours", "side")
    assert last(consortium) == {CARD: "modified", "forge.toml": "modified"}


def test_two_merge_bases(consortium: Consortium) -> None:
    """breast and main have merged each other at the same time; then breast goes on, and both meet again."""
    two_sides(consortium, {OTHER: "two\n"}, {CARD: "two\n"})
    main, side = (consortium.git("rev-parse", name) for name in ("main", "side"))
    consortium.merge("side")
    consortium.git("checkout", "--quiet", "-B", "side", side)
    consortium.git("merge", "--quiet", "--no-ff", "-m", "The other way round", main)
    consortium.commit(BREAST, {CARD: "three\n"})
    consortium.switch("main")
    assert len(consortium.git("merge-base", "--all", "main", "side").split()) == 2
    consortium.merge("side")
    assert all(not each.changes for each in history(consortium).values() if each.signature == "none")
    for content in ("one\n", "two\n"):
        consortium.git("reset", "--quiet", "--hard", "HEAD^")
        consortium.merge("side", changes={CARD: content})
        assert last(consortium) == {CARD: "modified"}


def test_an_octopus(consortium: Consortium) -> None:
    two_sides(consortium, {"README": "x"}, {CARD: "two\n"})
    consortium.branch("third", consortium.start)
    consortium.commit(LUNG, {OTHER: "two\n"})
    consortium.switch("main")
    consortium.git("merge", "--quiet", "-m", "All", "side", "third")
    assert len(consortium.git("rev-parse", "HEAD^@").split()) == 3
    assert last(consortium) == {}
    consortium.write({OTHER: "one\n"})
    consortium.git("commit", "--quiet", "--amend", "--no-edit")
    assert last(consortium) == {OTHER: "modified"}


def test_no_driver_runs(consortium: Consortium, tmp_path: Path) -> None:
    two_sides(consortium, {CARD: "ours\n", ".gitattributes": "* merge=spy diff=spy filter=spy\n"}, {CARD: "theirs\n"})
    consortium.merge("side", changes={CARD: "both\n"})
    for key in ("merge.spy.driver", "diff.spy.command", "diff.spy.textconv", "filter.spy.smudge", "diff.external"):
        consortium.git("config", key, f"touch '{tmp_path}/ran'")
    assert last(consortium) == {CARD: "modified"}
    assert not (tmp_path / "ran").exists()


def pointer(content: str) -> str:
    oid = hashlib.sha256(content.encode()).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("x" * 3000, pointer("x" * 3000), "stored otherwise"),
        (pointer("x" * 3000), "x" * 3000, "stored otherwise"),
        (pointer("short"), "short", "stored otherwise"),
        ("x" * 3000, pointer("y" * 3000), "modified"),
        (pointer("y" * 3000), "x" * 3000, "modified"),
        (pointer("y" * 2999), "x" * 3000, "modified"),
        (pointer("x"), pointer("y"), "modified"),
        ("x" * 3000, "y" * 3000, "modified"),
    ],
)
def test_a_payload_that_is_stored_otherwise(consortium: Consortium, old: str, new: str, kind: str) -> None:
    consortium.commit(None, {WEIGHTS: old, "contributions/breast/notes": old})
    consortium.commit(None, {WEIGHTS: new, "contributions/breast/notes": new})
    assert last(consortium) == {WEIGHTS: kind, "contributions/breast/notes": "modified"}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_history_of_honest_people(consortium: Consortium, seed: int) -> None:
    """git merges without a word where one side alone has changed a file, and so does the rule; else both say so."""
    chance = random.Random(seed)
    names = ["main", "one", "two"]
    for name in names[1:]:
        consortium.git("branch", name)
    conflicts: dict[str, set[str]] = {}
    for step in range(36):
        consortium.switch(chance.choice(names))
        if chance.random() < 0.5:
            path = chance.choice([CARD, OTHER, "forge.toml"])
            gone = (consortium.top / path).exists() and chance.random() < 0.2
            consortium.commit(None, {path: None if gone else f"{chance.randrange(4)}\n"})
            continue
        done = subprocess.run(
            ["git", "merge", "--quiet", "--no-ff", "--no-commit", "-X", "no-renames", chance.choice(names)],
            cwd=consortium.top, capture_output=True, check=False,
        )  # fmt: skip
        unmerged = set(consortium.git("diff", "--name-only", "--diff-filter=U").splitlines())
        assert bool(unmerged) == (done.returncode != 0)
        if unmerged or (consortium.top / ".git" / "MERGE_HEAD").exists():
            consortium.write(dict.fromkeys(unmerged, f"settled in {step}\n"))
            consortium.git("commit", "--quiet", "-m", "Merge")
            conflicts[consortium.git("rev-parse", "HEAD")] = unmerged
    for name in names:
        for commit, facts in history(consortium, name).items():
            if commit in conflicts:
                assert set(facts.changes) == conflicts[commit], commit
    assert any(conflicts.values()) and not all(conflicts.values())


def test_the_number_of_processes_does_not_grow(consortium: Consortium, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    real = subprocess.run

    def run(command: list[str], **others: object) -> object:
        started.append(command)
        return real(command, **others)  # type: ignore[call-overload]

    def count(head: str) -> int:
        started.clear()
        assert len(signed_history(consortium.repo, consortium.start, head, consortium.allowed)) > 0
        return len(started)

    commits = [consortium.commit(ADA if number < 3 else None, {"README": str(number)}) for number in range(12)]
    monkeypatch.setattr(git_side.subprocess, "run", run)
    assert count(commits[2]) == count(commits[-1])


def test_what_is_too_much_is_refused(consortium: Consortium, monkeypatch: pytest.MonkeyPatch) -> None:
    consortium.commit(None, {CARD: "two\n", OTHER: "two\n"})
    consortium.commit(None, {CARD: "three\n"})
    monkeypatch.setattr(module, "MAX_CHANGES", 2)
    with pytest.raises(ForgeError, match="change more than 2 files"):
        history(consortium)
    two_sides(consortium, {"README": "x"}, {"NEWS": "x"})
    consortium.merge("side")
    monkeypatch.setattr(module, "MAX_PARENTS", 1)
    with pytest.raises(ForgeError, match="has 2 parents, more than 1"):
        history(consortium)
    monkeypatch.setattr(module, "MAX_COMMITS", 1)
    with pytest.raises(ForgeError, match="more than 1 commits are to be judged"):
        history(consortium)


def test_a_shallow_clone_says_so(consortium: Consortium, tmp_path: Path) -> None:
    for number in range(4):
        consortium.commit(None, {"README": str(number)})
    consortium.git("clone", "--quiet", "--depth", "2", f"file://{consortium.top}", str(tmp_path / "shallow"))
    consortium.git("-C", str(tmp_path / "shallow"), "fetch", "--quiet", "--depth", "1", "origin", consortium.start)
    consortium.top = tmp_path / "shallow"
    with pytest.raises(ForgeError, match="in this shallow clone: what that commit changed cannot be known") as raised:
        history(consortium)
    assert raised.value.hint == "git fetch --unshallow"


def test_replaced_trees_and_commits_are_not_looked_at(consortium: Consortium) -> None:
    bad = consortium.commit(None, {"forge.toml": "two\n"})
    good = consortium.git("commit-tree", "-p", consortium.start, "-m", "Nothing", f"{consortium.start}^{{tree}}")
    consortium.git("replace", bad, good)
    consortium.git(
        "replace", consortium.git("--no-replace-objects", "rev-parse", f"{bad}^{{tree}}"), f"{good}^{{tree}}"
    )
    assert history(consortium, bad)[bad].changes == {"forge.toml": "modified"}
