"""A contributor's slips in the work tree: none of them passes in silence, and none loses anything."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from story.hospitals import copy_repository, forge, forge_ok, git_ok, random_adapter, write_contribution
from story.snapshots import assert_refused, snapshot
from story.test_bad_places import pictures

from forge.formats.safetensors import to_bytes

Files = Mapping[str, Mapping[str, bytes]]

QUICK = ("--ipc", "1", "--steps", "2", "--judge-steps", "2", "--points", "2")
ANOTHER = "was made with another adapter"
SAME = "the same adapter under several names: colon, mine"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("data") / "images", {"benign": 6, "malignant": 6})


@pytest.fixture(scope="module")
def with_both(hospitals: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and distilled contribution that nobody has committed; not to be changed: copy it."""
    top = copy_repository(hospitals, tmp_path_factory.mktemp("distilled") / "model")
    forge_ok(top, "train", "mine", "--data", data, "--epochs", "1", "--rank", "2")
    card = top / "contributions" / "mine" / "card.toml"
    card.write_text("# Ours: ask Ada\n" + card.read_text().replace("epochs = 1\n", "epochs = 1  # in a hurry\n"))
    forge_ok(top, "distill", "mine", "--data", data, *QUICK)
    return top


@pytest.fixture
def top(with_both: Path, tmp_path: Path) -> Path:
    return copy_repository(with_both, tmp_path / "model")


def test_images_of_another_adapter(top: Path, data: Path) -> None:
    mine = top / "contributions" / "mine"
    old = (mine / "adapter_model.safetensors").read_bytes()
    again = forge_ok(top, "train", "mine", "--data", data, "--epochs", "1", "--rank", "2")
    warning = "warning: contributions/mine/adapter_model.safetensors is not committed and will be replaced\n"
    assert again.err.startswith(f"{warning}Read ") and again.err.count("warning") == 1  # by the same adapter
    other = forge_ok(top, "train", "mine", "--data", data, "--epochs", "2", "--rank", "2")
    assert f"warning: contributions/mine/distilled.safetensors {ANOTHER}: distil again" in other.err
    replaced = (
        "contributions/mine/adapter_model.safetensors was not committed and is replaced; as it was: git cat-file "
    )
    assert replaced in other.err
    blob = other.err.partition("cat-file blob ")[2].split()[0]
    assert git_ok(top, "cat-file", "-s", blob) == str(len(old))
    text = (mine / "card.toml").read_text()
    assert text.startswith("# Ours: ask Ada\n") and "epochs = 2  # in a hurry\n" in text

    assert f"contributions/mine: the distilled set {ANOTHER}" in forge_ok(top, "status").out
    before = snapshot(top)
    assert_refused(
        forge(top, "commit"), f"contributions/mine/distilled.safetensors {ANOTHER}", "git forge distill mine"
    )
    assert snapshot(top) == before
    assert_refused(forge(top, "add", "else", "--adapter", mine, "--distilled", mine / "distilled.safetensors"), ANOTHER)
    assert "not committed and is replaced" in forge_ok(top, "distill", "mine", "--data", data, *QUICK).err
    forge_ok(top, "commit")

    back = forge_ok(top, "train", "mine", "--data", data, "--epochs", "1", "--rank", "2")
    assert "replaced" not in back.err  # what is committed is not lost
    lines = text.splitlines()
    recorded = tomllib.loads(text)["distillation"]["adapter"]
    (mine / "card.toml").write_text("\n".join(line for line in lines if recorded not in line))
    forge_ok(top, "commit")  # as cards of earlier versions


def test_one_adapter_under_two_names(top: Path, data: Path) -> None:
    mine = top / "contributions" / "mine"
    colon = forge_ok(top, "train", "colon", "--data", data, "--epochs", "1", "--rank", "2")
    assert f"warning: {SAME}, which git forge commit refuses" in colon.err
    forge_ok(top, "distill", "colon", "--data", data, *QUICK, "--seed", "3")
    assert SAME in forge_ok(top, "status").out
    refused = forge(top, "commit")
    assert refused.code == 1 and SAME in refused.err
    for file in (top / "contributions" / "colon").iterdir():
        file.unlink()
    (top / "contributions" / "colon").rmdir()
    forge_ok(top, "commit")
    before = snapshot(top)
    said = forge(top, "add", "colon", "--adapter", mine, "--distilled", mine / "distilled.safetensors")
    assert_refused(said, SAME, "choose the NAME that it has already")
    assert snapshot(top) == before
    forge_ok(top, "add", "mine", "--adapter", mine, "--distilled", mine / "distilled.safetensors", "--replace")


def test_an_adapter_as_before_training(model: Path, contributions: Files) -> None:
    write_contribution(model, "lung", contributions["lung"])
    assert "changes" not in forge_ok(model, "commit").err
    idle = {key: value * ("lora_B" not in key) for key, value in random_adapter(1).items()}
    files = {**contributions["breast"], "adapter_model.safetensors": to_bytes(idle)}
    write_contribution(model, "breast", files)
    assert "warning: contribution 'breast': its adapter changes nothing" in forge_ok(model, "commit").err
