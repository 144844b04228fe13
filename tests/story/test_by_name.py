"""Classes are matched by name in every verb, each data set finds its own task, and what was read is said."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from story.hospitals import LABELS, Merged, Said, copy_repository, forge, forge_ok, git_ok
from story.snapshots import assert_refused, snapshot

COLOURS = {"benign": (60, 60, 200), "malignant": (200, 60, 60)}
LIGHT = ("--epochs", "1", "--rank", "2", "--learning-rate", "0.0001")


def paint(top: Path, classes: dict[str, str], count: int = 4, depth: int = 8, first: int = 0) -> Path:
    """An image folder: the name of each class, and what its images show, benign or malignant."""
    random = np.random.default_rng(0)
    for name, shows in classes.items():
        (top / name).mkdir(parents=True)
        for number in range(count):
            noise = random.integers(-40, 40, (32, 32, 3))
            pixels = np.clip(np.array(COLOURS[shows]) + noise, 0, 255).astype(np.uint8)
            if depth == 12:
                grey = pixels[..., 0].astype(np.uint16) * 16 + 8
                Image.fromarray(grey).save(top / name / f"P{first + number // 2}_{number}.png")
            else:
                Image.fromarray(pixels).save(top / name / f"P{first + number // 2}_{number}.png")
    return top


def card(top: Path, name: str = "mine") -> dict[str, Any]:
    return tomllib.loads((top / "contributions" / name / "card.toml").read_text())


@pytest.fixture(scope="module")
def trained(hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a model repository in which `mine` was trained, the data), not to be changed."""
    folder = tmp_path_factory.mktemp("by name")
    top, data = copy_repository(hospitals, folder / "model"), folder / "data"
    paint(data, {"benign": "benign", "malignant": "malignant"})
    (data / "benign" / ".ipynb_checkpoints").mkdir()
    (data / "benign" / ".ipynb_checkpoints" / "P0_0-checkpoint.png").write_bytes(b"")
    texts = ("--label", "malignant=a red image", "--label", "benign=a blue image")
    said = forge_ok(top, "train", "mine", "--data", data, *LIGHT, *texts, "--group-by", r"^(P\d)_")
    assert said.err.splitlines()[:5] == [
        f"Read 8 images of {data}:",
        "  class      label         images",
        "  benign     a blue image       4",
        "  malignant  a red image        4",
        "  not read: 1 file, in .ipynb_checkpoints",
    ]
    assert "patients: 2, each on one side" in said.err
    return top, data


@pytest.fixture
def model(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    return copy_repository(trained[0], tmp_path / "model")


def test_the_card_names_the_classes_and_what_was_read(trained: tuple[Path, Path]) -> None:
    found = card(trained[0])
    assert found["task"] == {
        "name": "mine",
        "labels": ["a blue image", "a red image"],
        "classes": ["benign", "malignant"],
    }
    assert found["data"] == {
        "images": [4, 4],
        "validation_split": "patient",
        "not_read": {"in folders of programs": 1},
        "patients": 2,
    }
    assert found["training"]["group_by"] == r"^(P\d)_"


def test_training_again_on_other_names(model: Path, tmp_path: Path) -> None:
    data = paint(tmp_path / "renamed", {"adenocarcinoma": "malignant", "normal": "benign"})
    before = snapshot(model)
    said = forge(model, "train", "mine", "--data", data, *LIGHT)
    assert_refused(said, "adenocarcinoma, normal", "a blue image (class benign)", "--label CLASS=TEXT")
    assert_refused(forge(model, "distill", "mine", "--data", data, "--steps", "1"), "adenocarcinoma, normal")
    assert snapshot(model) == before
    forge_ok(model, "train", "mine", "--data", data, *LIGHT, "--label", "adenocarcinoma=a red image",
             "--label", "normal=a blue image")  # fmt: skip
    assert card(model)["task"]["classes"] == ["adenocarcinoma", "normal"]
    assert card(model)["task"]["labels"] == ["a red image", "a blue image"]
    assert_refused(forge(model, "distill", "mine", "--data", data, "--labels", "x", "--labels", "y"), "was trained for")


def test_held_out_images_are_checked_before_and_matched_by_name(model: Path, tmp_path: Path, trained: Any) -> None:
    again = ("train", "mine", "--data", trained[1], *LIGHT)
    fruits = paint(tmp_path / "fruits", {"apples": "benign", "pears": "malignant"})
    before = snapshot(model)
    assert_refused(forge(model, *again, "--test", fruits), "apples, pears", "--label CLASS=TEXT")
    assert_refused(forge(model, *again, "--test", tmp_path / "typo"), "no such data")
    assert snapshot(model) == before
    same = paint(tmp_path / "same", {"benign": "benign", "malignant": "malignant"})
    assert_refused(forge(model, *again, "--test", same), "2 patient(s) have images in", "P0, P1")
    swapped = paint(tmp_path / "swapped", {"a red image": "malignant", "benign": "benign"}, 3, first=5)
    forge_ok(model, *again, "--test", swapped)
    both = card(model)["metrics"]
    one = paint(tmp_path / "one", {"malignant": "malignant"}, 3, first=5)
    forge_ok(model, *again, "--test", one)
    metrics = card(model)["metrics"]
    assert metrics["test_images"] == 3 and "test_auc" not in metrics and "test_auc" in both
    # The red images alone have the share of right answers that they have among both.
    assert both["test_images"] == 6 and abs(2 * both["test_accuracy"] - metrics["test_accuracy"]) <= 1


def rows_of(said: Said) -> list[dict[str, Any]]:
    rows = json.loads(said.out)
    assert isinstance(rows, list)
    return rows


def test_each_data_set_finds_its_own_task(hospitals: Path, tmp_path: Path) -> None:
    top = copy_repository(hospitals, tmp_path / "model")
    breast = paint(tmp_path / "breast", dict(zip(LABELS["breast"], COLOURS, strict=True)))
    lung = paint(tmp_path / "lung", dict.fromkeys(LABELS["lung"][:2], "benign"))
    other = paint(tmp_path / "other", {"apples": "benign", "pears": "malignant"})
    data = ("--data", breast, "--data", other, "--data", lung)
    said = forge_ok(top, "evaluate", "breast", "lung", "--contribution", "lung", *data, "--json")
    rows = rows_of(said)
    assert [(row["model"], Path(row["data"]).name) for row in rows] == [
        ("breast", "breast"),
        ("breast", "lung"),
        ("lung", "breast"),
        ("lung", "lung"),
        ("lung alone", "breast"),
        ("lung alone", "lung"),
    ]
    assert sorted(rows[1]["labels"]) == sorted(LABELS["lung"])  # a class without images still has its label
    assert "left empty" in said.err and "apples, pears" in said.err
    table = forge_ok(top, "evaluate", "breast", "lung", *data).out.splitlines()
    assert table[0].split()[3:6] == ["breast", "other", "lung"] and table[1].count(" / ") == 3  # and the average
    before = snapshot(top)
    for alone in ((), ("--contribution", "breast")):
        said = forge(top, "evaluate", "breast", *alone, "--data", other)
        assert_refused(said, "apples, pears", LABELS["breast"][0], "--label CLASS=TEXT")
    assert snapshot(top) == before
    texts = [f"apples={LABELS['breast'][1]}", f"pears={LABELS['breast'][0]}"]
    (row,) = rows_of(
        forge_ok(top, "evaluate", "breast", "--data", other, *(w for t in texts for w in ("--label", t)), "--json")
    )
    assert row["labels"] == [LABELS["breast"][1], LABELS["breast"][0]]


def test_predict_on_folders_and_tables(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast"), tmp_path / "model")
    data = paint(tmp_path / "data", {"a": "benign", "b": "malignant"}, 2)
    said = forge_ok(top, "predict", data, "--csv")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [row["image"] for row in rows] == sorted(map(str, data.rglob("*.png")))
    assert list(rows[0])[1:] == list(LABELS["breast"])
    alone = json.loads(forge_ok(top, "predict", rows[3]["image"], "--json").out)
    for label, value in alone[0]["probabilities"].items():
        assert float(rows[3][label]) == pytest.approx(value, abs=1e-5)
    (data / "list.csv").write_text("path\na/P0_0.png\nb/P0_1.png\n")
    listed = list(csv.reader(io.StringIO(forge_ok(top, "predict", data / "list.csv", "--csv").out)))
    assert [row[0] for row in listed[1:]] == [str(data / "a/P0_0.png"), str(data / "b/P0_1.png")]
    (data / "a" / "broken.png").write_bytes(b"no picture")
    (data / "a" / "scan.heic").write_bytes(b"no picture")
    said = forge(top, "predict", data)
    assert_refused(said, "scan.heic", "--skip-unreadable")
    assert "remove" not in said.err
    said = forge_ok(top, "predict", data, "--csv", "--skip-unreadable")
    assert said.out.count("\n") == 5
    assert "not read: 1 file, cannot be read" in said.err and ".heic is no known image format" in said.err
    assert_refused(forge(top, "predict", data / "a/P0_0.png", "--labels", "0", "--labels", "1"), "are numbers")


def test_one_grey_range_from_training_to_predicting(model: Path, tmp_path: Path) -> None:
    data = paint(tmp_path / "mr", {"benign": "benign", "malignant": "malignant"}, depth=12)
    deep = ("train", "deep", "--data", data, *LIGHT)
    assert_refused(forge(model, *deep), "more than 8 bits", "--grey 0 4095")
    said = forge_ok(model, *deep, "--grey", "0", "4095")
    assert "grey: 0 is black and 4095 white in 8 of them" in said.err
    assert "validation is split by image" in said.err
    assert card(model, "deep")["data"]["grey"] == [0, 4095]
    said = forge_ok(model, *deep)  # the card's
    assert "4095 white" in said.err
    settings = ("--steps", "1", "--judge-steps", "1", "--points", "2", "--judge-points", "1", "--ipc", "2")
    assert "4095 white" in forge_ok(model, "distill", "deep", "--data", data, *settings).err
    git_ok(model, "switch", "--quiet", "-c", "deep")
    shutil.rmtree(model / "contributions" / "mine")
    forge_ok(model, "commit", "--accept")
    assert "4095 white" in forge_ok(model, "evaluate", "--data", data).err
    picture = data / "benign" / "P0_0.png"
    by_card = forge_ok(model, "predict", picture, "--contribution", "deep", "--json").out
    assert by_card == forge_ok(model, "predict", picture, "--contribution", "deep", "--grey", "0", "4095", "--json").out
    texts = ("--labels", "bone", "--labels", "air")
    assert_refused(forge(model, "predict", picture, *texts), str(picture), "--grey 0 4095")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("H&E benign", "H&amp;E benign"), "the same text to the model"),
        (("0", "1"), "are numbers"),
        (
            ("histological section of the breast stained with haematoxylin and eosin, an invasive ductal carcinoma "
             "of no special type, grade 1",
             "histological section of the breast stained with haematoxylin and eosin, an invasive ductal carcinoma "
             "of no special type, grade 2"),
            "the same text to this base, which reads 32 tokens",
        ),
    ],
    ids=["entities", "numbers", "beyond the context"],
)  # fmt: skip
def test_labels_that_the_model_cannot_tell_apart(
    model: Path, trained: Any, texts: tuple[str, str], words: str, tmp_path: Path
) -> None:
    before = snapshot(model)
    given = ("--labels", texts[0], "--labels", texts[1])
    assert_refused(forge(model, "train", "new", "--data", trained[1], *LIGHT, *given), words)
    assert_refused(forge(model, "evaluate", "--data", trained[1], *given), words)
    assert_refused(forge(model, "predict", trained[1] / "benign" / "P0_0.png", *given), words)
    assert snapshot(model) == before
