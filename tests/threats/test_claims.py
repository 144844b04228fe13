"""Forge items that say what is not so: made again from contributions and settings, and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from story.conftest import Files
from story.hospitals import (
    PAPER,
    change_settings,
    contribute,
    contribution_files,
    copy_repository,
    forge,
    forge_ok,
    git,
    git_ok,
    start_model,
    write_contribution,
)
from threats.attacker import commit, forge_by_hand, read

from forge.git.places import resolve
from forge.git.running import find_repository
from forge.model.base import BaseModel
from forge.operations.reproducing import reproduce
from forge.recipe.item import ForgeItem

SETTINGS = {"joint": ("--settings", "best"), "paper": PAPER, "task-aware": ("--settings", "best", "--task-aware")}


def reviewed(top: Path, *args: str, code: int | None = None) -> dict[str, Any]:
    said = forge(top, "review", *args, "--json")
    found = json.loads(said.out)
    assert isinstance(found, dict) and (code is None or said.code == code), said
    return found


@pytest.fixture(scope="session")
def models(
    tmp_path_factory: pytest.TempPathFactory, isolated_home: Path, base_folder: Path, contributions: Files
) -> Callable[[str], Path]:
    """models("paper"): main with breast, and lung on a branch that is ahead of it; made once, to be copied."""
    made: dict[str, Path] = {}

    def make(settings: str) -> Path:
        if settings not in made:
            top = tmp_path_factory.mktemp(settings) / "model"
            start_model(top, base_folder, "mixture", *SETTINGS[settings])
            git_ok(top, "branch", "start")
            contribute(top, "breast", contributions["breast"])
            git_ok(top, "merge", "--quiet", "breast")
            contribute(top, "lung", contributions["lung"])
            made[settings] = top
        return made[settings]

    return make


@pytest.fixture(params=SETTINGS)
def model(request: pytest.FixtureRequest, models: Callable[[str], Path], tmp_path: Path) -> Path:
    return copy_repository(models(request.param), tmp_path / "model")


@pytest.fixture
def joint(models: Callable[[str], Path], tmp_path: Path) -> Path:
    """With the default settings; on the branch lung."""
    top = copy_repository(models("joint"), tmp_path / "model")
    git_ok(top, "switch", "--quiet", "lung")
    return top


def test_an_honest_branch_comes_out_again(model: Path) -> None:
    found = reviewed(model, "main", "lung", code=0)
    assert (found["consistent"], found["reproduced"], found["problems"]) == (True, "yes", [])
    said = forge_ok(model, "review", "main", "lung").out
    assert "consistent: yes\nreproduced: yes: the forge items of the branch come out again" in said
    assert said.endswith(f"\ngit merge {git_ok(model, 'rev-parse', 'lung')}\n")


def one_coefficient(found: ForgeItem) -> ForgeItem:
    """As a whole, and in one module alone."""
    lung = found.contributions[-1]
    changed = (
        {**lung.coefficient, "projection": 1.4} if isinstance(lung.coefficient, dict) else float(lung.coefficient) + 0.1
    )
    return replace(found, contributions=(*found.contributions[:-1], replace(lung, coefficient=changed)))


def scored(found: ForgeItem, **changes: float) -> ForgeItem:
    return replace(found, scores=(replace(found.scores[0], **changes), *found.scores[1:]))


def own(found: ForgeItem, **changes: float) -> ForgeItem:
    return replace(found, own_scores=(replace(found.own_scores[0], **changes), *found.own_scores[1:]))


def searched(found: ForgeItem, **changes: Any) -> ForgeItem:
    assert found.search is not None
    return replace(found, search=replace(found.search, **changes))


# What a hand can write into a forge item, digest and all; what was accepted is in test_accepted_by_the_branch.
BY_HAND: dict[str, Callable[[ForgeItem], ForgeItem]] = {
    "coefficients": one_coefficient,
    "accuracy": lambda found: scored(found, accuracy=0.0),
    "accuracy before": lambda found: scored(found, accuracy_before=0.0),
    "cross-entropy before": lambda found: scored(found, cross_entropy_before=9.0),
    "own accuracy": lambda found: own(found, accuracy=0.0),
    "own accuracy before": lambda found: own(found, accuracy_before=0.0),
    "objective": lambda found: searched(found, objective_after=0.001),
    "seed": lambda found: searched(found, seed=7),
    "no search": lambda found: replace(found, search=None),
}


@pytest.mark.parametrize("what", BY_HAND)
def test_a_forge_item_by_hand_is_not_reproduced(model: Path, what: str) -> None:
    git_ok(model, "switch", "--quiet", "lung")
    forge_by_hand(model, BY_HAND[what](read(model)))
    assert forge(model, "verify", "--no-scores").code == 0  # it is consistent, and that is another thing
    found = reviewed(model, "main", "lung", code=1)
    assert (found["consistent"], found["reproduced"]) == (True, "no"), found
    assert any(problem.startswith("not reproduced: ") for problem in found["problems"]), found["problems"]


@pytest.mark.parametrize("main_moves", ["elsewhere", "its own forge item"])
def test_of_a_branch_by_hand_that_is_merged_nothing_is_left(model: Path, main_moves: str, contributions: Files) -> None:
    """Joint coefficients are found anew, whatever the branch has weighed; else its own count, and are made again.

    Where only the branch has changed the forge item, git takes it without asking the merge driver.
    """
    if main_moves == "elsewhere":
        git_ok(model, "switch", "--quiet", "main")
        (model / "README").write_text("Words\n")
        commit(model, "Words")
    else:
        contribute(model, "colon", contributions["colon"], start="main")
        git_ok(model, "switch", "--quiet", "main")
        git_ok(model, "merge", "--quiet", "colon")
    honest = reviewed(model, "main", "lung", code=0)
    git_ok(model, "switch", "--quiet", "lung")
    forge_by_hand(model, one_coefficient(read(model)))
    joint = read(model).search is not None and read(model).search.method == "joint"  # type: ignore[union-attr]
    made_here = main_moves == "its own forge item"
    assert honest["reproduced"] == ("made here" if made_here else "yes")
    if joint and made_here:
        found = reviewed(model, "main", "lung", code=0)
        assert [row["after"] for row in found["contributions"]] == [row["after"] for row in honest["contributions"]]
    else:
        assert reviewed(model, "main", "lung", code=1)["reproduced"] == "no"


@pytest.mark.parametrize("wanted", ["gate = 1.0", "accepted"])
def test_neither_gate_nor_acceptance_of_the_branch_counts(joint: Path, base: BaseModel, wanted: str) -> None:
    """A branch that wrecks breast, says that nobody minds, and is right about all its figures."""
    for branch in ("main", "lung"):
        git_ok(joint, "switch", "--quiet", branch)
        change_settings(joint, "gate = 1.0", "gate = 0.2")
        git_ok(joint, "commit", "--quiet", "-am", "A gate")
    git_ok(joint, "switch", "--quiet", "-c", "eve", "main")
    if wanted == "gate = 1.0":
        change_settings(joint, "gate = 0.2", "gate = 1.0")
    wrecked = replace(read(joint), contributions=tuple(replace(e, coefficient=-1.5) for e in read(joint).contributions))
    if wanted == "accepted":
        wrecked = replace(wrecked, accepted=("breast",))
    forge_by_hand(joint, wrecked)
    found = reviewed(joint, "main", "eve", code=1)
    loss = [each for each in found["problems"] if each.startswith("on its own distilled images breast: accuracy 1.000")]
    assert loss and "more than the gate of the target allows (0.2)" in loss[0], found["problems"]
    if wanted == "gate = 1.0":
        assert "forge.toml: [merge] gate: 0.2 -> 1.0" in found["also"]


def test_settings_of_the_branch_make_no_coefficient_come_out(joint: Path) -> None:
    """By settings of one's own nearly any coefficient is what a search finds."""
    change_settings(joint, "bounds = 1.5", "bounds = 0.75")
    forge_ok(joint, "commit")
    found = reviewed(joint, "main", "lung", code=1)
    assert found["reproduced"] == "no" and "forge.toml: [search] bounds: 1.5 -> 0.75" in found["also"]
    assert any("made by other settings ([base], [merge] or [search]) than the target's" in p for p in found["problems"])


def test_an_endless_search_is_not_made_again(joint: Path) -> None:
    """Where there is no target yet that could say by which settings."""
    change_settings(joint, "evaluations = 4", "evaluations = 1000000")
    forged = read(joint)
    assert forged.search is not None
    forge_by_hand(joint, replace(forged, search=replace(forged.search, evaluations=1_000_000)))
    found = reproduce(find_repository(joint), None, resolve(find_repository(joint), "lung"))
    assert any("a search of 1,000,000 evaluations is not made again" in problem for problem in found.problems)


def test_a_consolidation_is_shown_and_trained_again(joint: Path) -> None:
    forge_ok(joint, "commit", "--consolidate", "3", "--accept")
    found = reviewed(joint, "main", "lung", code=0)
    assert found["reproduced"] == "yes" and found["consolidation"].startswith("new: 3 steps, adapter ")
    assert found["also"] == [
        "consolidation/adapter_config.json: added", "consolidation/adapter_model.safetensors: added"
    ]  # fmt: skip
    path = joint / "consolidation" / "adapter_model.safetensors"
    poison(path)
    git_ok(joint, "add", str(path))
    blob = git_ok(joint, "rev-parse", ":consolidation/adapter_model.safetensors")
    forged = read(joint)
    assert forged.consolidation is not None
    forge_by_hand(joint, replace(forged, consolidation=replace(forged.consolidation, adapter=blob)))
    assert forge(joint, "verify", "--no-scores").code == 0
    found = reviewed(joint, "main", "lung", code=1)
    assert any("the consolidation is not the one that training makes" in problem for problem in found["problems"])
    steps = replace(read(joint).consolidation, steps=10**9)  # type: ignore[type-var]
    forge_by_hand(joint, replace(read(joint), consolidation=steps))
    found = reviewed(joint, "main", "lung", code=1)
    assert any("steps is not made again" in problem for problem in found["problems"])


def poison(path: Path) -> None:
    """A residual that adds a little of something else, as a backdoor would."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    random = np.random.default_rng(0)
    tensors = load_file(path)
    for name, value in tensors.items():
        tensors[name] = (value + 0.05 * random.normal(size=value.shape)).astype(value.dtype)
    save_file(tensors, path, {"format": "pt"})


def test_a_contribution_renamed_or_replaced_or_taken_out_does_not_escape_the_gate(
    joint: Path, contributions: Files, base: BaseModel
) -> None:
    for branch in ("main", "lung"):
        git_ok(joint, "switch", "--quiet", branch)
        change_settings(joint, "gate = 1.0", "gate = 0.2")
        git_ok(joint, "commit", "--quiet", "-am", "A gate")
    # Other images, and a task of another name, in the place of breast's: no score of it is left to compare.
    git_ok(joint, "switch", "--quiet", "-c", "replaced", "main")
    labels = ("a calm field", "a stormy sea")
    write_contribution(joint, "breast", contribution_files(base, "breast", labels=labels, seed=9))
    forge_ok(joint, "commit", "--accept")
    found = reviewed(joint, "main", "replaced", code=1)
    assert any(problem.startswith("on the images that it replaces breast: ") for problem in found["problems"])
    assert [score["name"] for score in found["gone"]] == ["breast"]
    assert "breast (as it was)" in forge(joint, "review", "main", "replaced").out
    git_ok(joint, "switch", "--quiet", "-c", "gone", "main")
    git_ok(joint, "rm", "-rq", "contributions/breast")
    write_contribution(joint, "colon", contributions["colon"])
    forge_ok(joint, "commit", "--accept")
    found = reviewed(joint, "main", "gone", code=1)
    assert any(
        problem.startswith("it is taken out, so that its images are lost: breast: ") for problem in found["problems"]
    )
    # Under another name the images are there, and so is the loss: here there is none.
    git_ok(joint, "switch", "--quiet", "-c", "renamed", "main")
    git_ok(joint, "mv", "contributions/breast", "contributions/bosom")
    forge_ok(joint, "commit")
    found = reviewed(joint, "main", "renamed", code=0)
    assert [(row["name"], row["change"]) for row in found["contributions"]] == [
        ("bosom", "added"),
        ("breast", "removed"),
    ]


def test_a_replacement_meets_the_gate_of_the_commit_as_well(joint: Path, base: BaseModel) -> None:
    git_ok(joint, "switch", "--quiet", "main")
    change_settings(joint, "gate = 1.0", "gate = 0.2")
    git_ok(joint, "commit", "--quiet", "-am", "A gate")
    labels = ("a calm field", "a stormy sea")
    write_contribution(joint, "breast", contribution_files(base, "breast", labels=labels, seed=9))
    said = forge(joint, "commit")
    assert said.code == 1 and "  breast: accuracy 1.000 -> " in said.err


def test_a_branch_that_leaves_the_model_alone_shows_no_improvement(joint: Path) -> None:
    """Its forge item is main's, whose "before" is that of an earlier fold."""
    git_ok(joint, "switch", "--quiet", "main")
    git_ok(joint, "merge", "--quiet", "lung")
    git_ok(joint, "switch", "--quiet", "-c", "words")
    (joint / "README.md").write_text("Words.\n")
    commit(joint, "Words")
    for args in ((), ("--no-scores",)):
        found = reviewed(joint, "main", "words", *args, code=0)
        assert all(score["accuracy"] == score["accuracy_before"] for score in found["scores"])
        assert found["also"] == ["README.md: added"]


def test_a_server_that_is_asked_to_makes_forge_items_again(joint: Path, tmp_path: Path) -> None:
    server = tmp_path / "server.git"
    git_ok(joint, "switch", "--quiet", "main")
    git_ok(tmp_path, "clone", "--quiet", "--bare", "--single-branch", str(joint), str(server))
    forge_ok(server, "install", "--server")
    git_ok(joint, "remote", "add", "origin", str(server))
    git_ok(joint, "switch", "--quiet", "-c", "eve", "lung")
    forge_by_hand(joint, one_coefficient(read(joint)))
    assert git(joint, "push", "--quiet", "origin", "eve").returncode == 0  # consistent, and that is all it asks for
    git_ok(server, "config", "forge.reproduce", "true")
    done = git(joint, "push", "--quiet", "origin", "eve:main")
    assert done.returncode == 1 and "not reproduced: " in done.stderr, done.stderr
    assert git(joint, "push", "--quiet", "origin", "lung:main").returncode == 0


# -- what honest people do -------------------------------------------------------------------------------------------


def test_whatever_git_makes_of_honest_commits_comes_out_again(
    models: Callable[[str], Path], tmp_path: Path, contributions: Files
) -> None:
    """Merges, squashes, picks, reverts, replacements, a refold, and payloads moved to git-lfs where that is there."""
    top = copy_repository(models("joint"), tmp_path / "model")
    repo = find_repository(top)
    contribute(top, "colon", contributions["colon"], start="start")
    git_ok(top, "switch", "--quiet", "main")
    git_ok(top, "merge", "--quiet", "--no-edit", "lung")
    git_ok(top, "merge", "--quiet", "--no-edit", "colon")
    git_ok(top, "revert", "--no-edit", "-m", "1", "HEAD")
    git_ok(top, "cherry-pick", "colon")
    git_ok(top, "rm", "-rq", "contributions/lung")
    forge_ok(top, "commit")
    git_ok(top, "revert", "--no-edit", "HEAD")
    git_ok(top, "switch", "--quiet", "-c", "broken")
    git_ok(top, "rm", "-rq", "contributions/colon")
    git_ok(top, "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-m", "Not forged")
    forge_ok(top, "refold")
    git_ok(top, "commit", "--quiet", "-m", "Forged after the fact")
    if shutil.which("git-lfs"):
        git_ok(top, "lfs", "install", "--local", "--skip-repo")
        forge_ok(top, "storage", "lfs")
    found = reproduce(repo, resolve(repo, "start"), resolve(repo, "HEAD"))
    unforged = git_ok(top, "rev-parse", ":/Not forged")[:10]
    assert [problem for problem in found.problems if not problem.startswith(unforged)] == []
    assert found.items > 4


@pytest.mark.parametrize("strategy", ["fusion", "mixture-output"])
def test_other_strategies_come_out_again(
    strategy: str, base_folder: Path, contributions: Files, tmp_path: Path
) -> None:
    top = start_model(tmp_path / "model", base_folder, strategy, "--settings", "best")
    for name in ("breast", "lung"):
        contribute(top, name, contributions[name], start="main")
    git_ok(top, "tag", "start")
    git_ok(top, "merge", "--quiet", "breast")
    git_ok(top, "merge", "--quiet", "--no-edit", "lung")
    repo = find_repository(top)
    assert reproduce(repo, resolve(repo, "start"), resolve(repo, "HEAD")).problems == ()
