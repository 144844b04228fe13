"""git forge train as a user sees it: what the card says of how it went, and what is said of a bad adapter."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from story.hospitals import copy_repository, forge_ok


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Light and dark pictures, which the base tells apart as it is."""
    random = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("data")
    for name, low in (("benign", 150), ("malignant", 0)):
        (folder / name).mkdir()
        for number in range(30):
            pixels = random.integers(low, low + 100, size=(32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def model(hospitals: Path, tmp_path: Path) -> Path:
    return copy_repository(hospitals, tmp_path / "model")


def card_of(top: Path) -> dict[str, Any]:
    return tomllib.loads((top / "contributions" / "mine" / "card.toml").read_text())


def test_the_card_says_how_long_and_on_what(model: Path, data: Path) -> None:
    forge_ok(model, "train", "mine", "--data", data, "--steps", "7", "--batch", "16", "--rank", "2")
    training = card_of(model)["training"]
    assert (training["epochs"], training["best_epoch"]) == (
        3,
        3,
    )  # of 48 images: three steps an epoch, the last is kept
    assert "steps" not in training and "dora" not in training
    assert set(training["augment"].split(", ")) <= {"mirror", "upside-down", "transpose", "stain"}
    forge_ok(model, "train", "mine", "--data", data, "--epochs", "1", "--rank", "2", "--augment", "mirror")
    assert (card_of(model)["training"]["epochs"], card_of(model)["training"]["augment"]) == (1, "mirror")
    forge_ok(model, "train", "mine", "--data", data, "--epochs", "1", "--rank", "2", "--augment", "none")
    assert card_of(model)["training"]["augment"] == "none"


def test_an_adapter_that_does_worse_than_no_training_is_named(model: Path, data: Path) -> None:
    ruined = forge_ok(model, "train", "mine", "--data", data, "--epochs", "1", "--rank", "2", "--learning-rate", "3")
    metrics = card_of(model)["metrics"]
    assert metrics["validation_accuracy"] < metrics["prototype_validation_accuracy"]
    assert "where class means of the untrained base read" in ruined.err
    assert "--learning-rate" in ruined.err
    fine = forge_ok(model, "train", "mine", "--data", data, "--steps", "20", "--rank", "2")
    metrics = card_of(model)["metrics"]
    assert ("class means" in fine.err) == (metrics["validation_accuracy"] < metrics["prototype_validation_accuracy"])
