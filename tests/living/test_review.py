"""git forge review: what it shows, and that nothing has happened. The driver with its model is in test_review_real."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import sample_models
from living.running import by_name, reviewed
from sample_models import BASE, SampleModel
from story.hospitals import Said, forge

from forge.clone import setup as clone_setup
from forge.recipe import item as recipe
from forge.recipe import settings
from forge.recipe.item import OwnScore, TaskScore
from forge.recipe.item_text import to_json

HOSTILE = "a|b`</td><script>@everyone"
AUTHOR = "a|b`@everyone"


@pytest.fixture
def small(tmp_path: Path) -> SampleModel:
    """main with ada; on `pull-request`, one version ahead, bob, whose author and task have hostile names."""
    model = SampleModel(tmp_path / "small")
    ada = TaskScore("ada", sample_models.LABELS, 4, 0.75, 0.5)
    model.write_contribution("ada")
    item = model.item({"ada": 1.0}, [ada])
    model.write_item(replace(item, own_scores=(OwnScore("ada", 4, 0.75, 0.5),)))
    model.commit("Add ada")
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
    target, branch = small.git("rev-parse", "main"), small.git("rev-parse", "pull-request")
    assert table == (
        "git forge: pull-request into main: consistent, not made again\n"
        "fast-forward: the model of the branch becomes that of the target, as it is\n"
        "\n"
        "consistent: yes\n"
        "reproduced: not checked (--no-scores)\n"
        "signatures: not required\n"
        f"target {target}\n"
        f"branch {branch}\n"
        "\n"
        "Contribution  Coefficient     After      Size  Images  Change    By\n"
        "ada              1.000000  0.500000  0.00 MiB       -  rescaled  -\n"
        f"bob                     -  0.500000  0.00 MiB       4  added     {AUTHOR}\n"
        "\n"
        "Task                        Accuracy  After  Cross-entropy  After  Images\n"
        "ada                            0.750  0.625          0.500  0.500       4\n"
        f"{HOSTILE}         -  0.875              -  0.250       4\n"
        "\n"
        f"git merge {branch}\n"
    )


def test_what_the_branch_brings_cannot_act_in_markdown(small: SampleModel) -> None:
    text = say(small, "main", "pull-request", "--markdown").out
    lines = text.splitlines()
    assert lines[0] == "<!-- git forge review -->"
    assert lines[1] == "### git forge: `pull-request` into `main`: consistent, not made again"
    assert "| `bob` | - | 0.500000 | 0.00 MiB | 4 | `added` | `a\\|b'@everyone` |" in lines
    outside = [part for line in lines for part in line.split("`")[::2]]
    assert not any(sign in part for part in outside for sign in ("@", "<script", "</td"))


def test_in_it_already_ahead_by_two_and_the_first_model(small: SampleModel) -> None:
    assert say(small, "pull-request", "main").out.startswith("git forge: main is in pull-request already\n")
    small.git("switch", "--quiet", "pull-request")
    small.write_contribution("bob", version=2)
    now = TaskScore("ada", sample_models.LABELS, 4, 0.5, 0.5, 0.625, 0.5)
    bob = TaskScore(HOSTILE, sample_models.LABELS, 4, 0.875, 0.25, 0.875, 1.0)
    own = [OwnScore("ada", 4, 0.5, 0.5, 0.5, 0.5), OwnScore("bob", 4, 0.875, 0.25, 0.875, 1.0)]
    small.write_item(replace(small.item({"ada": 0.5, "bob": 0.5}, [now, bob]), own_scores=tuple(own)))
    small.commit("Replace bob")
    found = json.loads(say(small, "main", "pull-request", "--json", code=1).out)
    scores = by_name(found["scores"], "task")
    # Step by step it lost little enough, or so the branch says; from branch to branch it is .75 -> .5.
    assert scores["ada"]["accuracy_before"] == 0.75
    assert found["problems"] == [
        "on its own distilled images ada: accuracy 0.750 -> 0.500, cross-entropy 0.500 -> 0.500, more than the gate of "
        "the target allows (0.2)"
    ]
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


def both_moved(model: SampleModel) -> None:
    """main gets carl, so that a merge of `pull-request` has to weigh; forge items are merged by the driver."""
    model.git("switch", "--quiet", "main")
    model.write(".gitattributes", b"forge-item.json merge=forge\n")
    ada = TaskScore("ada", sample_models.LABELS, 4, 0.75, 0.5)
    model.add_contribution("carl", {"ada": 0.75, "carl": 0.25}, [ada])


def test_a_merge_in_which_both_moved(small: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that knows the answer; whatever hooks the clone or the branch brings, none of them runs."""
    both_moved(small)
    small.git("checkout", "--quiet", "pull-request", "--", "contributions/bob")
    scores = [
        TaskScore("ada", sample_models.LABELS, 4, 0.75, 0.5, 0.75, 0.5),
        TaskScore("bob", sample_models.LABELS, 4, 0.875, 0.25, 0.5, 1.0),
    ]
    answer = tmp_path / "answer.json"
    answer.write_text(to_json(small.item({"ada": 0.5, "bob": 0.375, "carl": 0.125}, scores)))
    small.git("rm", "-rfq", "contributions/bob")
    program = tmp_path / "100% mine" / "git-forge"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" = merge-driver ] && cp \'{answer}\' "$3"\n')
    program.chmod(0o755)
    monkeypatch.setattr(clone_setup, "program", lambda: shlex.quote(str(program)))
    hooks = small.top / "own hooks"
    hooks.mkdir()
    for name in ("post-checkout", "pre-merge-commit", "prepare-commit-msg", "post-merge"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\nexit 1\n")
        (hooks / name).chmod(0o755)
    assert forge(small.top, "install").code == 0
    for key, value in (("core.hooksPath", "own hooks"), ("commit.gpgSign", "true"), ("rerere.enabled", "true")):
        small.git("config", key, value)
    assert forge(small.top, "install").code == 0  # before the review looks, which would do it

    (tmp_path / "ran").unlink(missing_ok=True)
    found = reviewed(small.top, "main", "pull-request", "--no-scores")
    assert reviewed(small.top, "main", "pull-request", "--no-scores") == found  # the same commit
    assert not (tmp_path / "ran").exists()
    assert (found["how"], found["problems"], found["advice"]) == ("merge", [], [])
    rows = by_name(found["contributions"])
    assert {name: (row["change"], row["before"], row["after"]) for name, row in rows.items()} == {
        "ada": ("rescaled", 0.75, 0.5),
        "bob": ("added", None, 0.375),
        "carl": ("rescaled", 0.25, 0.125),
    }
    assert by_name(found["scores"], "task")["bob"]["accuracy_before"] is None  # what an item says of before is a claim
    assert found["reproduced"] == "not checked" and found["computed"] is False
    small.git(
        "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "merge", "-q", "--no-edit", "pull-request"
    )
    assert small.git("rev-parse", "HEAD^{tree}") == small.git("rev-parse", f"{found['merged']}^{{tree}}")
    assert small.git("rev-parse", "HEAD^1", "HEAD^2") == small.git("rev-parse", f"{found['merged']}^@")


def test_a_conflict_says_what_git_forge_says(small: SampleModel) -> None:
    """The real driver, which sees it before it loads anything."""
    assert forge(small.top, "install").code == 0  # any verb would do it
    both_moved(small)
    small.add_contribution("bob", {"ada": 0.5, "carl": 0.25, "bob": 0.25}, version=5)
    found = reviewed(small.top, "main", "pull-request", "--no-scores", code=1)
    assert (found["how"], found["merged"], found["contributions"]) == ("conflict", None, [])
    assert "merge conflict in forge-item.json" in found["problems"]
    assert any("contribution 'bob' was added differently" in problem for problem in found["problems"])
    assert found["advice"]
    said = say(small, "main", "pull-request", "--markdown", code=1).out
    assert "**Not to be merged as it is:**" in said and "**What to do:**" in said
    small.git("checkout", "--quiet", "--orphan", "stranger")
    small.commit("No history in common")
    found = reviewed(small.top, "main", "stranger", "--no-scores", code=1)
    assert found["problems"] == ["refusing to merge unrelated histories"]


def test_neither_the_gate_nor_what_was_accepted_is_the_branch_s_to_say(small: SampleModel) -> None:
    small.git("switch", "--quiet", "pull-request")
    lost = TaskScore("ada", sample_models.LABELS, 4, 0.25, 0.5, 0.25, 0.5)
    bob = TaskScore("bob", sample_models.LABELS, 4, 0.875, 0.25, 0.5, 1.0)
    own = (OwnScore("ada", 4, 0.25, 0.5, 0.25, 0.5), OwnScore("bob", 4, 0.875, 0.25))
    item = replace(small.item({"ada": 0.5, "bob": 0.5}, [lost, bob]), own_scores=own)
    small.write_item(item)
    small.commit("Lose, and say that nothing was lost")
    loss = (
        "  on its own distilled images ada: accuracy 0.750 -> 0.250, cross-entropy 0.500 -> 0.500, more than the gate"
    )
    assert loss in say(small, "main", "pull-request", code=1).out
    small.write_item(replace(item, accepted=("ada",)))
    small.commit("Accept it")
    said = say(small, "main", "pull-request", code=1).out
    assert loss in said and "accepted what the gate stopped, which counts for nothing: ada\n" in said
    toml = small.top / "forge.toml"
    toml.write_text(toml.read_text().replace("gate = 0.2", "gate = 1.0"))
    small.commit("Turn the gate off")
    said = say(small, "main", "pull-request", code=1).out
    assert loss in said and "\nAlso changes:\n  forge.toml: [merge] gate: 0.2 -> 1.0\n" in said
    small.git("switch", "--quiet", "main")
    toml.write_text(toml.read_text().replace("gate = 0.2", "gate = 1.0"))
    small.commit("Turn it off in the target")
    small.git("switch", "--quiet", "pull-request")
    small.git("merge", "--quiet", "--no-edit", "main")
    assert ": consistent, not made again" in say(small, "main", "pull-request").out
