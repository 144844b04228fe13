"""git forge diff, by its whole output."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sample_models import LABELS, SampleModel

from forge.cli import run
from forge.recipe.item import Base, TaskScore

NO_TASKS: dict[str, dict[str, float]] = {"tasks_before": {}, "tasks_after": {}}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    model = SampleModel(tmp_path_factory.mktemp("original"))
    model.add_contribution("lung", {"lung": 0.5}, [TaskScore("lung", LABELS, 4, 0.75, 0.5)])
    scores = [TaskScore("lung", LABELS, 4, 0.5, 0.625), TaskScore("breast", LABELS, 4, 1.0, 0.25)]
    model.add_contribution("breast", {"lung": 0.25, "breast": 0.6}, scores)
    return model


@pytest.fixture
def model(original: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleModel:
    model = original.copy(tmp_path / "model")
    monkeypatch.chdir(model.top)
    return model


TABLES = (
    "Contribution  Change      main~1      main\n"
    "breast        added            -  0.600000\n"
    "lung          rescaled  0.500000  0.250000\n"
    "\n"
    "Task    Accuracy main~1   main  Cross-entropy main~1   main\n"
    "breast                -  1.000                     -  0.250\n"
    "lung              0.750  0.500                 0.500  0.625\n"
)


@pytest.mark.parametrize("arguments", [["main~1", "main"], ["main~1..main"]])
def test_two_versions(model: SampleModel, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(["diff", *arguments]) == 0
    assert capsys.readouterr().out == TABLES
    assert run(["diff", "--exit-code", *arguments]) == 1


def test_the_same_version(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["HEAD", "main"], ["HEAD"], [], ["main.."]):
        assert run(["diff", "--exit-code", *arguments]) == 0
        assert capsys.readouterr().out == ""


def test_work_tree(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    item = model.item({"breast": 0.5}, [TaskScore("breast", LABELS, 4, 1.0, 0.25)])
    model.write_item(replace(item, strategy="fusion", base=Base("other", item.base.fingerprint)))
    assert run(["diff"]) == 0
    assert capsys.readouterr().out == (
        "Model     HEAD      work tree\n"
        "strategy  mixture   fusion\n"
        "base      embedded  other\n"
        "\n"
        "Contribution  Change        HEAD  work tree\n"
        "breast        rescaled  0.600000   0.500000\n"
        "lung          removed   0.250000          -\n"
        "\n"
        "Task    Accuracy HEAD  work tree  Cross-entropy HEAD  work tree\n"
        "breast          1.000      1.000               0.250      0.250\n"
        "lung            0.500          -               0.625          -\n"
    )


def test_json(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "main~1", "main", "--json", "--exit-code"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["differs"] and found["before"]["rev"] == "main~1" and found["after"]["strategy"] == "mixture"
    assert found["contributions"] == [
        {"name": "breast", "kind": "added", "before": None, "after": 0.6, **NO_TASKS},
        {"name": "lung", "kind": "rescaled", "before": 0.5, "after": 0.25, **NO_TASKS},
    ]
    assert found["scores"][1] == {
        "task": "lung",
        "accuracy_before": 0.75,
        "accuracy_after": 0.5,
        "cross_entropy_before": 0.5,
        "cross_entropy_after": 0.625,
    }
    assert run(["diff", "main", "main", "--json", "--exit-code"]) == 0
    assert json.loads(capsys.readouterr().out)["differs"] is False


def test_errors(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "nowhere"]) == 128
    assert "unknown revision: nowhere" in capsys.readouterr().err
    (model.top / "forge-item.json").unlink()
    assert run(["diff"]) == 128
    assert "no forge-item.json in the work tree" in capsys.readouterr().err
    assert run(["diff", "a", "b", "c"]) == 129
