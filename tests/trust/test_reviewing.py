"""git forge review where a model asks for rights: by the target's keys, whatever the branch says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sample_models import SampleModel
from story.hospitals import forge
from trust.consortium import ADA, BREAST, LUNG, MAX, STRANGER, Consortium

from forge.recipe.item import TaskScore
from forge.trust.approvals import approve


def reviewed(model: Consortium, *args: str, code: int) -> Mapping[str, Any]:
    said = forge(model.top, "review", "--no-scores", "main", *args, "--json")
    assert said.code == code, said
    found = json.loads(said.out)
    assert isinstance(found, dict)
    return found


def sample(model: Consortium) -> SampleModel:
    found = SampleModel.__new__(SampleModel)
    found.top, found.hour = model.top, 9
    return found


def contribute(model: Consortium, by: str | None, name: str) -> str:
    made = sample(model)
    made.write_contribution(name)
    names = sorted(path.parent.name for path in (model.top / "contributions").glob("*/card.toml"))
    made.write_item(made.item(dict.fromkeys(names, 1.0)))
    model.git("add", "--all")
    return model.commit(by, {})


def test_three_things_apart(model: Consortium) -> None:
    found = reviewed(model, "branch", code=0)
    assert found["consistent"] and found["signatures"]["required"] and found["ok"]
    assert set(found["signatures"]["signers"].values()) == {BREAST}
    assert found["contributions"][0]["by"] == [BREAST]  # by signature, not by the name that a commit gives itself
    text = forge(model.top, "review", "--no-scores", "main", "branch").out
    assert f"signed by: {BREAST}\n" in text and "maintainers behind it: nobody (1 are asked for" in text
    assert text.endswith(f"\ngit merge {model.git('rev-parse', 'branch')}\n")


@pytest.mark.parametrize("by", [STRANGER, LUNG, None])
def test_who_may_not_bring_it(model: Consortium, by: str | None) -> None:
    model.switch("main")
    model.branch("eve")
    contribute(model, by, "breast")
    found = reviewed(model, "eve", code=1)
    assert found["consistent"] and any("contributions/breast" in problem for problem in found["problems"]), found
    assert "git merge " not in forge(model.top, "review", "--no-scores", "main", "eve").out


def test_the_branch_brings_no_keys_of_its_own(model: Consortium) -> None:
    model.switch("main")
    model.branch("eve")
    keys = (model.top / ".forge" / "allowed_signers").read_text() + model.keys.allowed(STRANGER)
    model.commit(STRANGER, {".forge/allowed_signers": keys})
    contribute(model, STRANGER, "breast")
    found = reviewed(model, "eve", code=1)
    assert ".forge/allowed_signers: changed" in found["also"]
    assert sum(".forge/allowed_signers" in p or "contributions/breast" in p for p in found["problems"]) == 2


def test_enough_maintainers_may_pass_what_the_gate_stops(model: Consortium) -> None:
    """And nobody else: what a branch says was accepted is what a branch says."""
    was = TaskScore("breast", ("no tumour", "tumour"), 4, 1.0, 0.1)
    model.switch("branch")
    made = sample(model)
    item = made.item({"breast": 1.0})
    labels = item.scores[0].labels if item.scores else was.labels
    made.write_item(replace(item, scores=(replace(was, labels=labels),)))
    model.git("add", "--all")
    model.commit(ADA, {})
    model.git("branch", "--force", "main", "branch")
    model.branch("worse")
    lost = replace(was, labels=labels, accuracy=0.25, accuracy_before=1.0, cross_entropy_before=0.1)
    made.write_item(replace(made.item({"breast": 0.5}), scores=(lost,), accepted=("breast",)))
    model.git("add", "--all")
    model.commit(BREAST, {})
    found = reviewed(model, "worse", code=1)
    assert any("breast: accuracy 1.000 -> 0.250" in problem for problem in found["problems"]), found["problems"]
    for key, value in (("gpg.format", "ssh"), ("user.signingKey", str(model.keys.private(MAX)))):
        model.git("config", key, value)
    approve(model.repo, model.git("rev-parse", "worse"))
    found = reviewed(model, "worse", code=0)
    assert found["signatures"]["approved_by"] == [MAX]


def test_a_target_that_has_gone_back(model: Consortium) -> None:
    """A clone that has seen main further on takes nothing into an older one: keys may have been withdrawn since."""
    model.git("update-ref", "refs/remotes/origin/main", "main")
    model.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    assert reviewed(model, "branch", code=0)["ok"]
    start = model.git("rev-parse", "main")
    model.switch("main")
    later = model.commit(ADA, {"README.md": "Words\n"})
    assert reviewed(model, "branch", code=0)["ok"]
    model.git("reset", "--quiet", "--hard", start)
    found = reviewed(model, "branch", code=1)
    assert any("has gone back" in problem and later[:10] in problem for problem in found["problems"])
    said = forge(model.top, "verify", "--no-scores", "main")
    assert said.code == 1 and "has gone back" in said.out
