"""git forge log, by its whole output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_models import LABELS, SampleModel

from forge.cli import run
from forge.recipe.item import TaskScore
from forge.recipe.layout import ITEM_FILE


def score(task: str, accuracy: float, before: float | None = None) -> TaskScore:
    return TaskScore(task, LABELS, 4, accuracy, 0.5, before)


NO_TASKS: dict[str, dict[str, float]] = {"tasks_before": {}, "tasks_after": {}}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    model = SampleModel(tmp_path_factory.mktemp("original"))
    model.add_contribution("lung", {"lung": 0.5}, [score("lung", 0.75)])
    model.git("checkout", "-q", "-b", "side")
    scores = [score("lung", 0.7, 0.75), score("breast", 1.0)]
    model.add_contribution("breast", {"lung": 0.4, "breast": -0.6}, scores)
    model.git("checkout", "-q", "main")
    model.git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
    model.git("rm", "-q", "-r", "contributions/lung")
    model.write_contribution("breast", version=3)
    model.write_item(model.item({"breast": 0.7}))
    model.commit("Take lung out")
    return model


@pytest.fixture
def model(original: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleModel:
    model = original.copy(tmp_path / "model")
    monkeypatch.chdir(model.top)
    return model


def ids(model: SampleModel, *revs: str) -> list[str]:
    return [model.git("rev-parse", rev)[:10] for rev in revs]


def test_table(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log"]) == 0
    a, b, c, d = ids(model, "main", "main~1", "main~2", "main~3")
    assert capsys.readouterr().out == (
        "Version     Date              Author  Model                      Accuracy        Subject\n"
        f"{a}  2026-01-01 04:00  Ada     *breast 0.700 -lung        -               Take lung out\n"
        f"{b}  2026-01-01 03:00  Ada     +breast -0.600 lung 0.400  0.750 -> 0.850  Merge side\n"
        f"{c}  2026-01-01 02:00  Ada     +lung 0.500                0.750           Add lung\n"
        f"{d}  2026-01-01 01:00  Ada     -                          -               Start the model\n"
    )


def test_all_parents_and_count(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "main~1", "--all-parents", "-n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].endswith("Merge side") and lines[2].endswith("Add breast")


@pytest.mark.parametrize(
    ("args", "lines"),
    [(["-1"], 2), (["-2", "main~1"], 3), (["-n1"], 2), (["-n", "3"], 4), (["--max-count=1"], 2), (["-n", "-1"], 5),
     (["-3", "-n", "1"], 2), (["-n", "0"], 0), (["-0"], 0), (["-12"], 5)],
)  # fmt: skip
def test_counts_are_those_of_git(
    model: SampleModel, capsys: pytest.CaptureFixture[str], args: list[str], lines: int
) -> None:
    assert run(["log", *args]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == lines
    assert len(model.git("log", "--oneline", "--first-parent", *args).splitlines()) == max(lines - 1, 0)


def test_json(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "--json", "main~1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [version["commit"] for version in found] == model.git(
        "log", "--first-parent", "--format=%H", "main~1"
    ).split()
    merge = found[0]
    assert merge["changes"] == [
        {"name": "breast", "kind": "added", "before": None, "after": -0.6, **NO_TASKS},
        {"name": "lung", "kind": "rescaled", "before": 0.5, "after": 0.4, **NO_TASKS},
    ]
    assert (merge["author"], merge["subject"], merge["problem"]) == ("Ada", "Merge side", None)
    assert (merge["accuracy_before"], merge["accuracy"]) == (0.75, 0.85)
    assert merge["model"]["contributions"][0]["name"] == "breast" and merge["model"]["strategy"] == "mixture"


def test_damaged_version(model: SampleModel, capsys: pytest.CaptureFixture[str]) -> None:
    path = model.top / ITEM_FILE
    path.write_text(path.read_text().replace("0.7", "0.8"))
    model.commit("Edit by \x1b[2J hand")
    assert run(["log", "-n", "1"]) == 0
    out = capsys.readouterr().out
    assert "the digest does not match" in out and "\x1b" not in out
    assert run(["log", "-n", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["model"] is None


def test_errors(model: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert run(["log", "nowhere"]) == 128
    assert "error: unknown revision: nowhere\nhint: " in capsys.readouterr().err
    assert run(["log", "-n", "few"]) == 129
    monkeypatch.chdir(tmp_path)
    assert run(["log"]) == 128
    model.git("checkout", "-q", "--orphan", "other")
    model.git("rm", "-q", "-r", "--cached", ".")
    model.git("commit", "-q", "--allow-empty", "-m", "No model here")
    monkeypatch.chdir(model.top)
    capsys.readouterr()
    assert run(["log"]) == 128  # forge.toml is in the work tree, but no commit has a model
    assert "no version of a model in HEAD" in capsys.readouterr().err
    (model.top / "forge.toml").unlink()
    assert run(["log"]) == 128
    err = capsys.readouterr().err
    assert "no forge.toml in" in err and "git forge init" in err


def test_a_commit_that_makes_no_other_model_shows_no_figures_of_before(
    model: SampleModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its forge item says where an earlier fold came from: here that would look like what this commit has reached."""
    scores = [score("breast", 1.0, 0.25)]
    model.write_item(model.item({"breast": 0.7}, scores))
    model.commit("Better")
    model.write("contributions/breast/distilled.safetensors", b"version https://git-lfs.github.com/spec/v1\nand so on")
    model.write_item(model.item({"breast": 0.7}, scores))
    model.commit("Keep payloads in git-lfs")
    assert run(["log", "-n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " 1.000    " in lines[1] and "->" not in lines[1]
    assert " 0.250 -> 1.000 " in lines[2]
    model.write("README", b"words\n")
    model.commit("Words")
    assert run(["show"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("breast  ") and "1.000" in line)
    assert row.split() == ["breast", "4", "-", "1.000", "-", "0.500"]
