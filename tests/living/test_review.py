"""git forge review: what a merge would give is what it gives, and nothing has happened."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sample_models
from histories import conftest as histories
from sample_models import BASE, SampleModel
from story.hospitals import Said, change_settings, copy_repository, forge, forge_ok, git_ok
from story.snapshots import snapshot

from forge.repo import recipe, settings
from forge.repo.recipe import TaskScore
from forge.repo.recipe_text import from_json, to_json

# Real merges by the real driver, whose processes share their imports; only this file pays for loading them.
base_folder, base, contributions = histories.base_folder, histories.base, histories.contributions
server, quick, hospitals, merged = histories.server, histories.quick, histories.hospitals, histories.merged
Merged = histories.Merged


def reviewed(top: Path, *args: str, code: int = 0) -> dict[str, Any]:
    """The review as JSON; nothing of the repository has changed but that there are more objects in it."""
    before = snapshot(top, objects=False)
    said = forge(top, "review", *args, "--json")
    assert said.code == code, said
    assert snapshot(top, objects=False) == before
    assert git_ok(top, "worktree", "list").count("\n") == 0
    found = json.loads(said.out)
    assert isinstance(found, dict) and found["ok"] == (code == 0)
    return found


def by_name(rows: list[dict[str, Any]], key: str = "name") -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in rows}


def test_what_a_merge_would_give_is_what_it_gives(merged: Merged, quick: Path, tmp_path: Path) -> None:
    top = copy_repository(merged("breast"), tmp_path / "model")
    git_ok(top, "branch", "pull-request", "lung")
    # Whatever hooks the branch or the clone brings: none of them runs.
    (top / "hooks").mkdir()
    for name in ("post-checkout", "pre-merge-commit", "prepare-commit-msg"):
        (top / "hooks" / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\nexit 1\n")
        (top / "hooks" / name).chmod(0o755)
    git_ok(top, "config", "core.hooksPath", str(top / "hooks"))
    git_ok(top, "config", "commit.gpgSign", "true")
    git_ok(top, "config", "--unset", "merge.forge.driver")

    found = reviewed(top, "main", "pull-request", "--no-scores")
    assert not (tmp_path / "ran").exists()
    assert found["how"] == "merge" and found["problems"] == []
    again = reviewed(top, "main", "pull-request")  # and with scores
    assert again == found

    git_ok(top, "config", "--unset", "core.hooksPath")
    git_ok(top, "config", "commit.gpgSign", "false")
    forge_ok(top, "install")
    git_ok(top, "merge", "--quiet", "--no-edit", "pull-request")
    assert git_ok(top, "rev-parse", "HEAD^{tree}") == git_ok(top, "rev-parse", f"{found['merged']}^{{tree}}")
    item = json.loads((top / "forge-item.json").read_text())
    rows = by_name(found["contributions"])
    assert {name: row["after"] for name, row in rows.items()} == {
        name: entry["coefficient"] for name, entry in item["contributions"].items()
    }
    assert (rows["breast"]["change"], rows["lung"]["change"], rows["lung"]["before"]) == ("rescaled", "added", None)
    assert (rows["lung"]["images"], rows["lung"]["authors"]) == (12, ["Ada Example"])
    files = (top / "contributions" / "lung").iterdir()
    assert rows["lung"]["size"] == sum(file.stat().st_size for file in files)
    scores = by_name(found["scores"], "task")
    for task, score in item["scores"].items():
        for ours, theirs in (("accuracy", "accuracy"), ("accuracy_before", "accuracy_before")):
            assert scores[task][ours] == score[theirs]


def test_a_conflict_says_what_git_forge_says(merged: Merged, quick: Path, tmp_path: Path) -> None:
    top = copy_repository(merged("breast"), tmp_path / "model")
    folder = "contributions/breast"
    git_ok(top, "switch", "--quiet", "-c", "pull-request", "lung")
    git_ok(top, "checkout", "colon", "--", "contributions/colon")
    (top / "contributions" / "colon").rename(top / folder)
    git_ok(top, "rm", "-rq", "--cached", "contributions/colon")
    forge_ok(top, "commit", "-m", "Another breast")
    git_ok(top, "switch", "--quiet", "main")
    found = reviewed(top, "main", "pull-request", "--no-scores", code=1)
    assert (found["how"], found["merged"], found["contributions"]) == ("conflict", None, [])
    assert "merge conflict in forge-item.json" in found["problems"]
    assert any("contribution 'breast'" in problem for problem in found["problems"])
    assert found["advice"]


def test_the_gate_stops_a_fast_forward_that_loses(merged: Merged, quick: Path, tmp_path: Path) -> None:
    top = copy_repository(merged("breast"), tmp_path / "model")
    git_ok(top, "switch", "--quiet", "-c", "ahead")
    path = top / "forge-item.json"
    item = from_json(path.read_text())
    scores = [replace(score, accuracy=0.125, accuracy_before=None) for score in item.scores]
    path.write_text(to_json(replace(item, scores=tuple(scores))))
    git_ok(top, "commit", "--quiet", "--no-verify", "-am", "Lose")
    refused = reviewed(top, "main", "ahead", "--no-scores", code=1)
    assert refused["how"] == "fast-forward"
    assert "more than the gate of forge.toml allows" in refused["problems"][0]
    change_settings(top, "gate = 0.2", "gate = 1.0")
    git_ok(top, "commit", "--quiet", "--no-verify", "-am", "Turn the gate off")
    assert reviewed(top, "main", "ahead", "--no-scores")["problems"] == []
    # Its scores are made up, which computing them shows.
    assert "does not reproduce" in reviewed(top, "main", "ahead", code=1)["problems"][0]


# Branches that need no model to be loaded -------------------------------------------------------------------------

HOSTILE = "a|b`</td><script>@everyone"
AUTHOR = "a|b`@everyone"


@pytest.fixture
def small(tmp_path: Path) -> SampleModel:
    """main with ada; on `pull-request`, one version ahead, bob, whose author and task have hostile names."""
    model = SampleModel(tmp_path / "small")
    ada = TaskScore("ada", sample_models.LABELS, 4, 0.75, 0.5)
    model.add_contribution("ada", {"ada": 1.0}, [ada])
    model.git("switch", "--quiet", "-c", "pull-request")
    model.write_contribution("bob")
    bob = TaskScore(HOSTILE, sample_models.LABELS, 4, 0.875, 0.25, 0.5, 1.0)
    now = TaskScore("ada", sample_models.LABELS, 4, 0.625, 0.5, 0.75, 0.5)
    model.write_item(model.item({"ada": 0.5, "bob": 0.5}, [now, bob]))
    model.git("add", "--all")
    model.git("-c", "user.name=x", "commit", "--quiet", "--author", f"{AUTHOR} <bob@example.org>", "-m", "Add bob")
    model.git("switch", "--quiet", "main")
    return model


def say(model: SampleModel, *args: str, code: int = 0) -> Said:
    said = forge(model.top, "review", "--no-scores", *args)
    assert said.code == code, said
    return said


def test_the_tables_of_a_branch_that_is_ahead(small: SampleModel) -> None:
    table = say(small, "main", "pull-request").out
    assert table == (
        "git forge: pull-request into main: verified\n"
        "fast-forward: the model of the branch becomes that of the target, as it is\n"
        "\n"
        "Contribution  Coefficient     After      Size  Images  Change    By\n"
        "ada              1.000000  0.500000  0.00 MiB       -  rescaled  Ada\n"
        f"bob                     -  0.500000  0.00 MiB       4  added     {AUTHOR}\n"
        "\n"
        "Task                        Accuracy  After  Cross-entropy  After  Images\n"
        "ada                            0.750  0.625          0.500  0.500       4\n"
        f"{HOSTILE}     0.500  0.875          1.000  0.250       4\n"
    )


def test_what_the_branch_brings_cannot_act_in_markdown(small: SampleModel) -> None:
    text = say(small, "main", "pull-request", "--markdown").out
    lines = text.splitlines()
    assert lines[0] == "<!-- git forge review -->"
    assert lines[1] == "### git forge: `pull-request` into `main`: verified"
    assert "| `bob` | - | 0.500000 | 0.00 MiB | 4 | `added` | `a\\|b'@everyone` |" in lines
    outside = [part for line in lines for part in line.split("`")[::2]]
    assert not any(sign in part for part in outside for sign in ("@", "<script", "</td"))


def test_in_it_already_ahead_by_two_and_the_first_model(small: SampleModel) -> None:
    assert say(small, "pull-request", "main").out.startswith("git forge: main is in pull-request already\n")
    small.git("switch", "--quiet", "pull-request")
    small.write_contribution("bob", version=2)
    now = TaskScore("ada", sample_models.LABELS, 4, 0.5, 0.5, 0.625, 0.5)
    bob = TaskScore(HOSTILE, sample_models.LABELS, 4, 0.875, 0.25, 0.875, 1.0)
    small.write_item(small.item({"ada": 0.5, "bob": 0.5}, [now, bob]))
    small.commit("Replace bob")
    found = json.loads(say(small, "main", "pull-request", "--json", code=1).out)
    scores = by_name(found["scores"], "task")
    # Step by step it lost little enough; from branch to branch it is .75 -> .5.
    assert scores["ada"]["accuracy_before"] == 0.75 and "ada: accuracy" in found["problems"][0]
    assert scores[HOSTILE]["accuracy_before"] is None  # nobody has asked main for that
    small.git("checkout", "--quiet", "--orphan", "nothing")
    small.git("rm", "-rfq", ".")
    small.write("README", b"no model yet\n")
    start = small.commit("Start")
    small.git("checkout", "--quiet", "-b", "first")
    small.write("forge.toml", settings.to_toml(settings.Settings(BASE)).encode())
    small.write_item(recipe.empty(BASE, "mixture"))
    small.commit("Start the model")
    assert json.loads(say(small, start, "--json").out)["contributions"] == []


@pytest.mark.parametrize("how", ["ahead", "both moved"])
def test_a_branch_that_does_not_verify_is_not_merged_at_all(small: SampleModel, how: str) -> None:
    small.git("switch", "--quiet", "pull-request")
    item = small.top / "forge-item.json"
    item.write_text(item.read_text().replace("0.5", "0.9", 1))
    small.commit("By hand")
    if how == "both moved":
        small.git("switch", "--quiet", "main")
        small.commit("Something else")
    said = say(small, "main", "pull-request", code=1)
    assert said.out.startswith("git forge: pull-request into main: not ready\n")
    assert "  pull-request: " in said.out and "edited by hand" in said.out
    assert subprocess.run(["git", "worktree", "list"], cwd=small.top, capture_output=True).stdout.count(b"\n") == 1


def test_what_is_not_there_is_an_error(small: SampleModel) -> None:
    for args in (("nowhere",), ("main", "nowhere"), ("--upload-pack=x", "main")):
        said = forge(small.top, "review", *args)
        assert said.code in (128, 129) and "Traceback" not in said.err and said.out == ""
