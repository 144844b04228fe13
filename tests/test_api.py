"""The Python API: what the verbs do, on values; held against the command line, plain git and plain json."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sample_models import LABELS as SAMPLE_LABELS
from sample_models import SampleModel
from story.conftest import base, base_folder, contributions, hospitals, merged, model  # noqa: F401
from story.hospitals import LABELS, Merged, forge_ok, git_ok, item

import forge
from forge.errors import ForgeError

ROOT = Path(__file__).parents[1]
QUICK = {"epochs": 1, "batch": 8}
FEW = {"ipc": 1, "steps": 2, "points": 1, "judge_steps": 1}


@pytest.fixture
def sample(tmp_path: Path) -> SampleModel:
    sample = SampleModel(tmp_path / "model")
    sample.add_contribution("breast", {"breast": 1.0})
    sample.add_contribution("lung", {"breast": 0.75, "lung": 0.5})
    return sample


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten dark and ten bright pictures, in a folder for each class."""
    random = np.random.default_rng(3)
    for name, low in (("dark", 0), ("bright", 150)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(low, low + 90, size=(40, 36, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def mixed_pictures(folder: Path) -> list[Path]:
    """One picture of each kind that is read in a way of its own."""
    random = np.random.default_rng(5)
    colours = Image.fromarray(random.integers(0, 256, size=(50, 34, 3)).astype(np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    deep = Image.fromarray(random.integers(0, 2**16, size=(40, 40)).astype(np.uint16))
    folder.mkdir()
    colours.save(folder / "rgb.png")
    colours.convert("L").save(folder / "grey.png")
    colours.convert("RGBA").save(folder / "alpha.png")
    colours.convert("P").save(folder / "palette.png")
    colours.save(folder / "turned.jpg", exif=turned)
    deep.save(folder / "deep.png")
    return sorted(folder.iterdir())


def contribution_bytes(top: Path, name: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((top / "contributions" / name).iterdir())}


def test_the_package_loads_next_to_nothing() -> None:
    code = "import forge, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "numpy", "click", "rich", "PIL"} & set(done.stdout.split())


def test_opening_a_repository_loads_no_torch(sample: SampleModel) -> None:
    code = f"import forge, sys; [*forge.open({str(sample.top)!r}).versions()]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"


def test_what_is_no_model_repository(tmp_path: Path, run_git: Any) -> None:
    with pytest.raises(ForgeError, match="not in a git repository"):
        forge.open(tmp_path)
    run_git(tmp_path, "init", "--quiet")
    with pytest.raises(ForgeError, match="this is not a model repository"):
        forge.open(tmp_path)


def test_nothing_else_is_an_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'close'"):
        forge.close  # type: ignore[attr-defined]  # noqa: B018


def test_the_versions_are_the_commits_of_the_forge_item(sample: SampleModel) -> None:
    repository = forge.open(sample.top / "contributions")
    versions = list(repository.versions())
    logged = sample.git("log", "--format=%H\t%s\t%aI\t%an", "--", "forge-item.json").splitlines()
    assert [f"{v.commit}\t{v.subject}\t{v.date}\t{v.author}" for v in versions] == logged
    for version in versions:
        recorded = json.loads(sample.git("show", f"{version.commit}:forge-item.json"))["contributions"]
        assert {entry.name: entry.coefficient for entry in version.contributions} == {
            name: entry["coefficient"] for name, entry in recorded.items()
        }
        assert {name: card.labels for name, card in version.cards.items()} == dict.fromkeys(recorded, SAMPLE_LABELS)
    assert versions[0] == repository.version("main")
    assert repository.path == sample.top


def test_a_damaged_version_says_so(sample: SampleModel) -> None:
    sample.write("forge-item.json", b"{}\n")
    sample.commit("Break it")
    newest = next(forge.open(sample.top).versions())
    assert newest.problem is not None
    with pytest.raises(ForgeError, match=r"forge-item\.json"):
        _ = newest.item


def test_a_version_predicts_as_the_command_does(merged: Merged, tmp_path: Path) -> None:  # noqa: F811
    top = merged("lung", "colon")
    paths = mixed_pictures(tmp_path / "mixed")
    module = forge.open(top).version().model()
    assert isinstance(module, torch.nn.Module)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not any(part.training for part in module.train().modules())
    assert module.tasks == {name: LABELS[name] for name in ("colon", "lung")}
    texts = ("a dark picture", "a bright picture")
    choices: list[tuple[dict[str, Any], list[str]]] = [
        ({"task": "lung"}, ["--contribution", "lung"]),
        ({"labels": texts}, [word for text in texts for word in ("--labels", text)]),
    ]
    for options, words in choices:
        said = json.loads(forge_ok(top, "predict", *map(str, paths), *words, "--json").out)
        images = [Image.open(path) for path in paths]
        assert module.predict(images, **options).tolist() == [list(row["probabilities"].values()) for row in said]
    one = module.predict(Image.open(paths[0]), task="colon")
    assert one.shape == (1, 2) and one.dtype == torch.float64
    assert float(one.sum()) == pytest.approx(1.0)
    assert module.predict([], task="colon").shape == (0, 2)


def test_a_contribution_alone(merged: Merged, tmp_path: Path) -> None:  # noqa: F811
    repository = forge.open(merged("lung", "colon"))
    paths = mixed_pictures(tmp_path / "mixed")[:2]
    images = [Image.open(path) for path in paths]
    alone = repository.version().model("lung").predict(images, task="lung")
    branch = forge.open(repository.path).version("lung").model().predict(images)  # of the only task
    torch.testing.assert_close(alone, branch)
    assert not torch.allclose(alone, repository.version().model().predict(images, task="lung"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "which labels"),
        ({"task": "breast"}, "knows no task 'breast'"),
        ({"task": "lung", "labels": ["a", "b"]}, "say the same thing"),
        ({"labels": ["the same", "the same"]}, "the same"),
        ({"labels": "lung"}, "one text"),
        ({"task": "lung", "images": ["no image"]}, "image 0 cannot be read as an image"),
    ],
)
def test_what_cannot_be_predicted(merged: Merged, options: dict[str, Any], message: str) -> None:  # noqa: F811
    module = forge.open(merged("lung", "colon")).version().model()
    images = options.pop("images", [Image.new("RGB", (40, 40))])
    with pytest.raises(ForgeError, match=message):
        module.predict(images, **options)


def test_the_methods_do_what_the_verbs_do(model: Path, tmp_path: Path, pictures: Path) -> None:  # noqa: F811
    """The same bytes in two clones: one made by methods, the other by commands."""
    other = tmp_path / "by commands"
    subprocess.run(["cp", "-a", str(model), str(other)], check=True)
    notes: list[str] = []
    repository = forge.open(model, report=lambda *lines: notes.extend(lines))
    labels = {"dark": "a dark picture", "bright": "a bright picture"}
    words = [word for name, text in labels.items() for word in ("--label", f"{name}={text}")]

    trained = repository.train("shade", pictures, labels=labels, seed=2, **QUICK)
    said = forge_ok(other, "train", "shade", "--data", pictures, *words, "--seed", "2", "--epochs", "1", "--batch", "8")
    assert notes == said.err.splitlines()
    assert contribution_bytes(model, "shade") == contribution_bytes(other, "shade")
    assert (trained.contribution, trained.adapter) == ("shade", "LoRA")

    distilled = repository.distill("shade", pictures, **FEW)
    few = [word for name, value in FEW.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    forge_ok(other, "distill", "shade", "--data", pictures, *few)
    assert contribution_bytes(model, "shade") == contribution_bytes(other, "shade")
    assert distilled.distilled_images == 2

    committed = repository.commit("Add the shade")
    forge_ok(other, "commit", "-m", "Add the shade")
    assert git_ok(model, "rev-parse", "HEAD") == committed.commit
    assert git_ok(model, "rev-parse", "HEAD^{tree}") == git_ok(other, "rev-parse", "HEAD^{tree}")
    assert set(item(model)["contributions"]) == {"shade"}
    assert repository.verify().problems == ()

    rows = repository.evaluate(pictures, "HEAD", contributions=["shade"])
    table = json.loads(forge_ok(other, "evaluate", "HEAD", "--data", pictures, "--contribution", "shade", "--json").out)
    assert [{**vars(row), "data": str(row.data), "labels": list(row.labels)} for row in rows] == table

    exported = repository.export(tmp_path / "one", "peft")
    forge_ok(other, "export", tmp_path / "two", "--format", "peft")
    folders = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert folders[0] == folders[1]
    assert exported.adapter is not None


def test_settings_that_there_are_not(model: Path, pictures: Path) -> None:  # noqa: F811
    repository = forge.open(model)
    with pytest.raises(ForgeError, match="no setting of training called 'epoch'") as caught:
        repository.train("shade", pictures, epoch=1)
    assert "epochs" in (caught.value.hint or "")
    with pytest.raises(ForgeError, match="redraw means nothing to the method teacher-points"):
        repository.distill("shade", pictures, method="teacher-points", redraw=2)
    with pytest.raises(ForgeError, match="one text"):
        repository.train("shade", pictures, labels="dark")
    with pytest.raises(ForgeError, match="no form of an export is called 'onnx'"):
        repository.export(model.parent / "export", "onnx")
    assert not (model / "contributions" / "shade").exists()


def test_a_model_is_started(tmp_path: Path, run_git: Any) -> None:
    (tmp_path / "new").mkdir()
    run_git(tmp_path / "new", "init", "--quiet")
    with pytest.raises(ForgeError, match="no settings are called 'worst'"):
        forge.init(tmp_path / "new", preset="worst")
    repository = forge.init(tmp_path / "new")
    assert [version.subject for version in repository.versions()] == ["Start a model on embedded"]
    assert repository.version().contributions == ()


@pytest.mark.long
def test_the_example_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "api.py", tmp_path], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Merge branch 'colon'" in done.stdout
    assert [line.split(":")[0] for line in done.stdout.splitlines() if " ACC " in line] == ["breast", "colon"]
    assert (tmp_path / "peft" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda opened, data: opened.train("x", data, validation=2.0), "above 0 and below 1, not 2.0"),
        (lambda opened, data: opened.train("x", data, seed=-1), "seed must be a whole number of 0 and more"),
        (lambda opened, data: opened.train("x", data, batch=0), "batch must be a whole number of 1 and more"),
        (lambda opened, data: opened.train("x", data, optimizer="adam"), "must be one of sgd, adamw"),
        (lambda opened, data: opened.train("x", data, dropout=1.0), "at least 0 and below 1"),
        (lambda opened, data: opened.distill("x", data, method="dm", ipc=0), "ipc must be a whole number"),
        (lambda opened, data: opened.distill("x", data, method="dm", optimizer="adamw"), "must be one of sgd, adam"),
        (lambda opened, data: opened.commit(consolidate=-1), "whole number from 0 to"),
    ],
)
def test_values_out_of_range(model: Path, pictures: Path, call: Any, message: str) -> None:  # noqa: F811
    """The command line refuses them by its options; from Python nothing else stands before them."""
    before = sorted(model.rglob("contributions/*"))
    with pytest.raises(ForgeError, match=message):
        call(forge.open(model), pictures)
    assert sorted(model.rglob("contributions/*")) == before
