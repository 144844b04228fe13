"""git forge show, by its whole output."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sample_models import BASE, LABELS, SampleModel, adapter_config

from forge.cli import run
from forge.recipe.item import Search, TaskScore

SEARCH = Search(
    "shiwa",
    "contribution",
    "cross-entropy",
    0.0,
    "Shiwa",
    0,
    40,
    0.5,
    1.5,
    0.05,
    {"ours": 0.8, "theirs": 0.6},
    0.81,
    0.52,
)
SCORES = (TaskScore("breast", LABELS, 4, 1.0, 0.25), TaskScore("lung", LABELS, 4, 0.5, 0.75, 0.75, 0.5))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    model = SampleModel(tmp_path_factory.mktemp("original"))
    model.add_contribution("lung", {"lung": 0.5})
    model.git("config", "alias.unused", "x")
    model.write_contribution("breast", labels=("normal", "tumor [a]"))
    model.write_item(model.item({"lung": 0.4, "breast": 0.6}, SCORES, SEARCH))
    model.commit("Add breast")
    return model


@pytest.fixture
def model(original: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleModel:
    model = original.copy(tmp_path / "model")
    monkeypatch.chdir(model.top)
    return model


def test_tables(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show"]) == 0
    lung, breast = (model.git("rev-parse", f"HEAD:contributions/{name}/distilled.safetensors")[:10]
                    for name in ("lung", "breast"))  # fmt: skip
    lungs, breasts = (model.git("rev-parse", f"HEAD:contributions/{name}/adapter_model.safetensors")[:10]
                      for name in ("lung", "breast"))  # fmt: skip
    sizes = [(model.top / f"contributions/{name}/distilled.safetensors").stat().st_size for name in ("breast", "lung")]
    assert capsys.readouterr().out == (
        f"Version   {model.git('rev-parse', 'HEAD')[:10]}  Add breast\n"
        "          2026-01-01 03:00  Ada\n"
        f"Base      embedded  {BASE.fingerprint}\n"
        "Strategy  mixture\n"
        "\n"
        "Contributions\n"
        "Name    Coefficient  Task    Labels                           Author  Kind               Adapter  "
        "Distilled dataset\n"
        "breast     0.600000  breast  normal | tumor [a]               Ada     LoRA r 2  "
        f"280 B {breasts}   {sizes[0]} B {breast}\n"
        "lung       0.400000  lung    benign tissue | malignant tumor  Ada     LoRA r 2  "
        f"280 B {lungs}   {sizes[1]} B {lung}\n"
        "\n"
        "Search             Value\n"
        "method             shiwa, one coefficient per contribution\n"
        "optimizer          Shiwa, seed 0, 40 evaluations\n"
        "start, bounds, L1  0.5, ±1.5, 0.05\n"
        "scale of ours      0.800000\n"
        "scale of theirs    0.600000\n"
        "objective          cross-entropy, 0.810000 -> 0.520000\n"
        "\n"
        "Scores on the distilled images\n"
        "Task    Images  Accuracy before  after  Cross-entropy before  after\n"
        "breast       4                -  1.000                     -  0.250\n"
        "lung         4            0.750  0.500                 0.500  0.750\n"
    )  # fmt: skip


def test_accepted_losses_are_named(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_item(replace(model.item({"lung": 0.4, "breast": 0.6}, SCORES, SEARCH), accepted=("lung",)))
    model.commit("Take it all the same")
    assert run(["show"]) == 0
    said = "Accepted by a person, though the gate stopped it: lung\n"
    assert capsys.readouterr().out.endswith(said)


def test_empty_model(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "HEAD~2"]) == 0
    assert capsys.readouterr().out == (
        f"Version   {model.git('rev-parse', 'HEAD~2')[:10]}  Start the model\n"
        "          2026-01-01 01:00  Ada\n"
        f"Base      embedded  {BASE.fingerprint}\n"
        "Strategy  mixture\n"
        "\n"
        "No contributions: the model is the base.\n"
    )


def test_json(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["commit"] == model.git("rev-parse", "HEAD") and found["subject"] == "Add breast"
    breast = found["contributions"][0]
    assert breast["labels"] == ["normal", "tumor [a]"] and breast["author"] == "Ada"
    assert breast["adapter_bytes"] == 280 and breast["coefficient"] == 0.6
    assert found["search"]["scales"] == {"ours": 0.8, "theirs": 0.6} and found["disagreements"] == []


def test_coefficients_per_module_and_task(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    item = model.item({"lung": 0.4, "breast": 0.6}, SCORES)
    breast, lung = item.contributions
    modules = {"trunk.layer.0.q_proj": 0.25, "projection": 0.75}
    richer = (replace(breast, coefficient=modules, tasks={"lung": 0.5}), replace(lung, tasks={"lung": modules}))
    search = replace(SEARCH, method="joint", per="module", pull=0.01, scales={}, objective_before=None)
    model.write_item(replace(item, contributions=richer, search=search))
    model.write("contributions/breast/adapter_config.json", adapter_config(use_dora=True))
    model.commit("Merge")
    assert run(["show"]) == 0
    out = capsys.readouterr().out
    assert "Strategy  mixture, task-aware\n" in out
    assert "\nbreast  0.500000 (0.250 to 0.750)  breast " in out and "  DoRA r 2  " in out
    assert (
        "\nCoefficients by module\n"
        "Module                  breast      lung\n"
        "projection            0.750000  0.400000\n"
        "trunk.layer.0.q_proj  0.250000  0.400000\n"
        "\nCoefficients by task\n"
        "Task    breast                       lung\n"
        "lung  0.500000  0.500000 (0.250 to 0.750)\n"
        "\nSearch             Value\n"
        "method             joint, one coefficient per module\n"
        "evaluations        at most 40\n"
        "start, bounds, L1  0.5, ±1.5, 0.05\n"
        "pull               0.01\n"
        "objective          cross-entropy, 0.520000\n"
    ) in out
    assert run(["show", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["contributions"]
    assert found[0]["coefficient"] == modules and found[1]["tasks"] == {"lung": modules}
    assert [each["kind"] for each in found] == ["DoRA r 2", "LoRA r 2"]

    assert run(["log", "-n", "1"]) == 0
    assert "breast ~0.500 lung 0.400" in capsys.readouterr().out
    assert run(["diff", "HEAD~1", "HEAD"]) == 0
    out = capsys.readouterr().out
    assert "strategy  mixture  mixture, task-aware\n" in out
    assert "rescaled" in out and "0.500000 (0.250 to 0.750)" in out
    assert run(["status"]) == 0
    assert "breast        0.500000 (0.250 to 0.750)" in capsys.readouterr().out


def test_disagreements_are_shown(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    item = model.item({"lung": 0.4, "breast": 0.6})
    model.write_item(replace(item, contributions=(replace(item.contributions[0], name="gone"), item.contributions[1])))
    model.write("contributions/lung/card.toml", b"not toml \x1b")
    model.commit("Rename by hand")
    assert run(["show"]) == 0
    out = capsys.readouterr().out
    assert "\n\nThe forge item and the tree disagree:\n" in out and "\x1b" not in out
    assert "  contributions/breast is not in the forge item\n" in out
    assert "  the forge item names gone, but there is no contributions/gone\n" in out


def test_errors(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    model.git("rm", "-q", "forge-item.json")
    model.commit("Remove it")
    assert run(["show"]) == 128
    assert "no forge-item.json in HEAD: it is no version of a model" in capsys.readouterr().err
    assert run(["show", "--", "--all"]) == 128
    assert "unknown revision: --all" in capsys.readouterr().err
