"""git forge distill: its methods, what they need, and what the card says of each."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from story.hospitals import copy_repository, forge, forge_ok
from story.snapshots import assert_refused, snapshot
from story.test_bad_places import pictures

QUICK = ("--ipc", "1", "--steps", "2", "--judge-steps", "2")
COLOURS = "mean and deviation of the private training images per colour channel"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("data") / "images", {"benign": 6, "malignant": 6})


@pytest.fixture(scope="module")
def with_adapter(hospitals: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with an adapter in contributions/mine; not to be changed: copy it."""
    top = copy_repository(hospitals, tmp_path_factory.mktemp("trained") / "model")
    forge_ok(top, "train", "mine", "--data", data, "--epochs", "1")
    return top


@pytest.fixture
def trained(with_adapter: Path, tmp_path: Path) -> Path:
    return copy_repository(with_adapter, tmp_path / "trained")


def card_of(top: Path) -> dict[str, Any]:
    return tomllib.loads((top / "contributions" / "mine" / "card.toml").read_text())


def test_the_default_method_needs_the_adapter(model: Path, data: Path) -> None:
    before = snapshot(model)
    refused = forge(model, "distill", "mine", "--data", data, *QUICK)
    assert_refused(refused, "contributions/mine has none", "git forge train mine --data")
    assert snapshot(model) == before
    forge_ok(model, "distill", "mine", "--data", data, *QUICK, "--method", "dm")  # this one does not


def test_the_card_tells_what_each_method_releases(trained: Path, data: Path) -> None:
    forge_ok(trained, "distill", "mine", "--data", data, *QUICK, "--points", "2")
    first = card_of(trained)
    assert first["distillation"]["method"] == "teacher-points"
    assert first["distillation"]["points"] == 2 and "redraw" not in first["distillation"]
    assert COLOURS in first["privacy"]["released"] and COLOURS in first["privacy"]["start"]
    card = trained / "contributions" / "mine" / "card.toml"
    card.write_text(card.read_text().replace("none: no differential privacy was applied", "see our report"))

    for method in ("dm", "dm-dsa", "dc-dsa"):
        forge_ok(trained, "distill", "mine", "--data", data, *QUICK, "--method", method, "--real-batch", "3")
        found = card_of(trained)
        assert found["distillation"]["method"] == method
        assert found["distillation"]["real_batch"] == 3 and "points" not in found["distillation"]
        assert COLOURS not in str(found["privacy"])
        assert found["privacy"]["start"] == "noise, independent of the private images"
        assert found["privacy"]["guarantee"] == "see our report"  # what a contributor wrote stays
        assert 0 <= found["metrics"]["distilled_validation_accuracy"] <= 1
        images = load_file(trained / "contributions" / "mine" / "distilled.safetensors")["images"]
        assert images.shape == (2, 3, 32, 32)
    forge_ok(trained, "commit")


@pytest.mark.parametrize(("method", "option"), [("teacher-points", "--redraw"), ("dm-dsa", "--points")])
def test_options_of_another_method(model: Path, data: Path, method: str, option: str) -> None:
    before = snapshot(model)
    said = forge(model, "distill", "mine", "--data", data, "--method", method, option, "3")
    assert said.code == 129  # a usage error, as git's
    assert f"{option} means nothing to the method {method}" in said.err
    assert snapshot(model) == before


def test_half_an_adapter(trained: Path, data: Path) -> None:
    (trained / "contributions" / "mine" / "adapter_config.json").unlink()
    refused = forge(trained, "distill", "mine", "--data", data, *QUICK)
    assert_refused(refused, "contributions/mine/adapter_config.json is missing", "git forge train mine")


def test_another_adapter_does_not_continue_the_run_of_the_first(
    trained: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forge.model import distillation

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    arguments = ("distill", "mine", "--data", data, "--points", "2", *QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(distillation, "judge", interrupted)
        assert forge(trained, *arguments).code == 130
    saved = trained / ".git" / "forge" / "distilling" / "mine.safetensors"
    state = saved.read_bytes()
    assert "Continuing an interrupted run at step 1 of 2" in forge_ok(trained, *arguments).err
    forge_ok(trained, "train", "mine", "--data", data, "--epochs", "1", "--rank", "2", "--seed", "0")
    saved.write_bytes(state)
    assert "Continuing" not in forge_ok(trained, *arguments).err
