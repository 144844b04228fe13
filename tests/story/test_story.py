"""Two hospitals and a maintainer with the real verbs: from private images to one model, and out of it again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from story.hospitals import ITEM, LABELS, coefficients, copy_repository, forge, forge_ok, git, git_ok, item, start_model
from story.test_histories import assert_clean

TRAINING = ("--epochs", "6", "--batch", "8", "--learning-rate", "0.01")
DISTILLING = ("--ipc", "2", "--steps", "10", "--points", "2", "--judge-steps", "5")


def private_images(folder: Path, task: str, seed: int) -> Path:
    """A pattern of colours a class under noise: 10 training and 6 test images of each."""
    patterns = np.random.default_rng(sum(map(ord, task))).integers(40, 216, size=(len(LABELS[task]), 4, 4, 3))
    random = np.random.default_rng(seed)
    for split, count in (("train", 10), ("test", 6)):
        for label, pattern in zip(LABELS[task], patterns, strict=True):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = pattern.repeat(9, 0).repeat(9, 1) + random.normal(0, 25, size=(36, 36, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def hospital_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("private")
    return {task: private_images(folder / task, task, seed) for seed, task in enumerate(("breast", "lung"))}


def as_json(top: Path, *args: str | Path) -> Any:
    return json.loads(forge_ok(top, *args, "--json").out)


def accuracy(top: Path, data: Path, *args: str) -> float:
    (row,) = as_json(top, "evaluate", *args, "--data", data)
    return float(row["accuracy"])


def test_the_story(tmp_path: Path, base_folder: Path, hospital_data: dict[str, Path]) -> None:
    # A maintainer starts the model; two hospitals clone it.
    origin = tmp_path / "origin.git"
    git_ok(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    main = start_model(tmp_path / "main", base_folder, program=Path(sys.executable).with_name("git-forge"))
    git_ok(main, "remote", "add", "origin", str(origin))
    assert "ok" in forge_ok(main, "verify").out  # an empty model is whole, too
    forge_ok(main, "push")

    for task, data in hospital_data.items():
        clone = tmp_path / task
        git_ok(tmp_path, "clone", "--quiet", str(origin), str(clone))
        git_ok(clone, "switch", "--quiet", "-c", f"from-{task}")
        said = forge_ok(clone, "train", task, "--data", data, "--test", data, *TRAINING)
        assert "This clone was not set up" in said.err
        assert "validation accuracy" in said.out and f"Next: git forge distill {task}" in said.out
        status = as_json(clone, "status")
        assert status["contributions"][0]["missing"] == ["distilled.safetensors"]
        refused = forge(clone, "commit")
        assert refused.code == 128 and f"git forge distill {task}" in refused.err
        forge_ok(clone, "distill", task, "--data", data, *DISTILLING)
        said = forge_ok(clone, "commit", "-m", f"{task} from us")
        assert f"Forge-Contribution: {task} 1.000000" in said.out
        assert_clean(clone)
        forge_ok(clone, "push")
        pushed = git_ok(origin, "ls-tree", "-r", "--name-only", f"from-{task}").splitlines()
        assert f"contributions/{task}/distilled.safetensors" in pushed
        assert not [path for path in pushed if path.endswith(".png")]

    # The maintainer merges both with plain git.
    git_ok(main, "fetch", "--quiet")
    for task in hospital_data:
        git_ok(main, "merge", "--no-edit", f"origin/from-{task}")
    assert_clean(main)
    found = item(main)
    assert sorted(found["contributions"]) == ["breast", "lung"]

    # What it has become.
    logged = as_json(main, "log")
    assert logged[0]["subject"] == "Merge remote-tracking branch 'origin/from-lung'"
    assert logged[0]["model"]["search"]["evaluations"] == 4
    shown = forge_ok(main, "show").out
    assert all(f"{value:.6f}" in shown for value in coefficients(found).values())
    assert [each["name"] for each in as_json(main, "status")["contributions"]] == ["breast", "lung"]
    changes = {each["name"]: each["kind"] for each in as_json(main, "diff", "HEAD^", "HEAD")["contributions"]}
    assert changes["lung"] == "added"
    forge_ok(main, "verify")
    patch = git_ok(main, "log", "-1", "-p", "origin/from-lung")
    assert "+labels of lung: benign lung tissues" in patch and "Binary files" not in patch  # textconv

    for task, data in hospital_data.items():
        alone = accuracy(main, data, "--contribution", task)
        assert alone > accuracy(main, data, git_ok(main, "rev-list", "--max-parents=0", "HEAD"))
        assert alone > 0.8
    picture = next((hospital_data["breast"] / "test" / LABELS["breast"][1]).iterdir())
    (predicted,) = as_json(main, "predict", picture, "--contribution", "breast")
    assert sum(predicted["probabilities"].values()) == pytest.approx(1)
    assert tuple(predicted["probabilities"]) == LABELS["breast"]
    forge_ok(main, "export", tmp_path / "peft", "--format", "peft")
    forge_ok(main, "export", tmp_path / "open_clip", "--format", "open_clip")
    assert (tmp_path / "peft" / "adapter_model.safetensors").is_file()

    # An exported model is a base for another repository, and predicts as the recipe does.
    other = tmp_path / "other"
    other.mkdir()
    git_ok(other, "init", "--quiet")
    forge_ok(other, "init", "--base", tmp_path / "open_clip")
    labels = [option for label in LABELS["breast"] for option in ("--labels", label)]
    (same,) = as_json(other, "predict", picture, *labels)
    assert same["probabilities"] == pytest.approx(predicted["probabilities"], abs=1e-4)

    # One hospital takes its consent back.
    git_ok(main, "revert", "-m", "1", "--no-edit", "HEAD")
    assert git_ok(main, "rev-parse", f"HEAD:{ITEM}") == git_ok(main, "rev-parse", f"HEAD~2:{ITEM}")
    assert sorted(item(main)["contributions"]) == ["breast"]
    forge_ok(main, "push")
    assert git_ok(origin, "rev-parse", "main") == git_ok(main, "rev-parse", "HEAD")


def test_a_damaged_model_is_not_pushed(hospitals: Path, tmp_path: Path) -> None:
    top = copy_repository(hospitals, tmp_path / "model")
    origin = tmp_path / "origin.git"
    git_ok(tmp_path, "init", "--quiet", "--bare", str(origin))
    git_ok(top, "remote", "add", "origin", str(origin))
    git_ok(top, "switch", "--quiet", "lung")
    git_ok(top, "rm", "--quiet", "contributions/lung/distilled.safetensors")
    git_ok(top, "commit", "--quiet", "-m", "Save space")
    said = forge(top, "push")
    assert said.code == 128 and "contributions/lung/distilled.safetensors is missing" in said.err
    done = git(top, "push", "origin", "lung")  # plain git push asks the hook
    assert done.returncode != 0 and "contributions/lung/distilled.safetensors is missing" in done.stderr
    assert git_ok(origin, "for-each-ref") == ""
