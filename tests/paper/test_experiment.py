"""A whole experiment on a tiny base: every kind of row, kept results, and going on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from composed import merged_delta

from examples.paper import experiment as experiments
from examples.paper import rows
from examples.paper.distilled import as_task
from examples.paper.experiment import Experiment, ExperimentSettings, Row, run_adapters, run_distilled, shrunk
from examples.paper.methods import METHODS
from examples.paper.rows import planned, run_merged, run_row
from examples.paper.scenarios import Scenario
from forge.model.adapters import plain_delta
from forge.model.base import BaseModel
from forge.model.scoring import evaluate
from forge.recipe.settings import SearchSettings

SETTINGS = ExperimentSettings(
    epochs=1,
    distill=(("steps", 2), ("points", 1), ("ipc", 2), ("real_batch", 4)),
    distilled_steps=2,
    distillations=("teacher-points", "dm"),
    search=SearchSettings(evaluations=4),
)
FAST = (
    "zero-shot",
    "single",
    "pooled",
    "distilled",
    "soup",
    "peft-svd-one",
    "mixture-joint-contribution-cross-entropy",
)

pytestmark = pytest.mark.usefixtures("untouched")
Make = Callable[[], Experiment]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def make(work: Path, base: BaseModel, small_scenario: Scenario) -> Make:
    """An experiment as a new process would start it: it knows nothing but what is kept."""
    return lambda: Experiment(work, base, small_scenario, SETTINGS)


def rows_kept(work: Path) -> dict[Row, dict[str, object]]:
    notes = [json.loads(path.read_text())["notes"] for path in sorted(work.glob("row-*.json"))]
    return {Row(**each["row"]): each for each in notes}


def test_stages_make_rows_and_find_them_again(
    make: Make, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make()
    run_adapters(experiment)
    run_distilled(experiment)
    run_merged(experiment, FAST)
    said = capsys.readouterr().err.splitlines()
    kept = rows_kept(work)
    plan = planned(experiment.scenario, SETTINGS, FAST)
    assert set(kept) == {row for row, _ in plan}
    assert len(said) == len(plan)
    assert said[0].startswith(f"multi-task 0 [1/{len(plan)}] zero-shot lora: ACC ")

    before = {path: path.stat().st_mtime_ns for path in work.iterdir()}
    for module, name in ((experiments, "pooled_adapter"), (rows, "evaluate"), (rows, "merge_in_order")):
        monkeypatch.setattr(module, name, None)  # calling it would fail
    run_merged(make(), FAST)
    assert capsys.readouterr().err == ""
    assert {path: path.stat().st_mtime_ns for path in work.iterdir()} == before


def test_an_interrupted_run_goes_on(make: Make, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    def stop_at_the_third(*arguments: object) -> object:
        done.append(arguments)
        if len(done) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    real = rows.evaluate
    monkeypatch.setattr(rows, "evaluate", stop_at_the_third)
    simple = ("mean", "sum")
    with pytest.raises(KeyboardInterrupt):
        run_merged(make(), simple)
    assert not [row for row in rows_kept(work) if row.method in simple]  # half a row is none
    monkeypatch.setattr(rows, "evaluate", real)
    run_merged(make(), simple)
    assert [row.method for row in rows_kept(work) if row.method in simple] != []


def test_a_rows_figures_are_those_of_the_model(make: Make, base: BaseModel) -> None:
    experiment = make()
    row = Row("multi-task", 0, "mean")
    notes, _ = run_row(experiment, row, METHODS["mean"])
    changes = [plain_delta(adapter) for adapter in experiment.adapters().values()]
    mean = {name: (changes[0][name] + changes[1][name]) / 2 for name in changes[0]}
    for seen, test in zip(experiment.scenario.validation, experiment.scenario.test, strict=True):
        for split, images in (("validation", seen), ("test", test)):
            expected = evaluate(base, mean, images)
            assert notes["tasks"][test.task][split]["accuracy"] == expected.accuracy
            assert notes["tasks"][test.task][split]["cross_entropy"] == pytest.approx(expected.cross_entropy)


def test_an_adapter_alone_is_measured_on_its_own_task(make: Make) -> None:
    experiment = make()
    notes, _ = run_row(experiment, Row("multi-task", 0, "single", "shade"), METHODS["single"])
    assert list(notes["tasks"]) == ["shade"]


def test_a_merge_in_order(make: Make, base: BaseModel) -> None:
    experiment = make()
    name = "fusion-exact-contribution-cross-entropy"
    row = Row("multi-task", 0, name, "shade > light", "teacher-points")
    notes, _ = run_row(experiment, row, METHODS[name])
    found = notes["made"]
    assert set(found["coefficients"]) == {"light", "shade"}
    # The first joins an empty model at 1, so its coefficient after the merge is the scale of ours.
    assert found["coefficients"]["shade"] == pytest.approx(found["scales"]["ours"], abs=2e-6)
    assert found["coefficients"]["light"] == pytest.approx(found["scales"]["theirs"], abs=2e-6)
    adapters = experiment.adapters()
    delta = merged_delta("fusion", [(adapters[who], c) for who, c in sorted(found["coefficients"].items())])
    test = experiment.scenario.test[0]
    assert notes["tasks"]["light"]["test"]["cross_entropy"] == pytest.approx(
        evaluate(base, delta, test).cross_entropy, rel=1e-4
    )


def test_task_aware_coefficients_are_used_for_their_labels(make: Make, base: BaseModel) -> None:
    experiment = make()
    name = "mixture-joint-contribution-cross-entropy-task-aware"
    row = Row("multi-task", 0, name, "light > shade", "teacher-points")
    notes, _ = run_row(experiment, row, METHODS[name])
    assert set(notes["made"]["by_task"]) == {"light", "shade"}
    adapters = experiment.adapters()
    for test in experiment.scenario.test:
        found = notes["made"]["by_task"][test.task]
        delta = merged_delta("mixture", [(adapters[who], c) for who, c in found.items()])
        expected = evaluate(base, delta, test).cross_entropy
        assert notes["tasks"][test.task]["test"]["cross_entropy"] == pytest.approx(expected, rel=1e-4)


def test_another_distilled_set_is_another_row(make: Make) -> None:
    experiment = make()
    sets = {method: experiment.distilled(method)["light"].images for method in ("teacher-points", "dm")}
    assert not torch.equal(sets["teacher-points"], sets["dm"])
    light = experiment.participants[0]
    images = as_task(experiment.base, experiment.distilled("dm")["light"], light.train)
    assert images.labels == light.train.labels and len(images.targets) == 4


def test_planned_rows(small_scenario: Scenario) -> None:
    plan = [row for row, _ in planned(small_scenario, SETTINGS, ["*"])]
    assert len(set(plan)) == len(plan)
    paper = "mixture-shiwa-contribution-cross-entropy"
    assert {row.variant for row in plan if row.method == paper} == {"light > shade", "shade > light"}
    assert {row.distillation for row in plan if row.method == "distilled"} == {"teacher-points", "dm"}
    assert {row.adapter for row in plan if row.method == "soup"} == {"lora", "dora"}
    assert all(row.distillation for row in plan if "-" in row.method and row.method.startswith("mixture"))
    assert not any(row.distillation for row in plan if row.method in ("soup", "single", "lorahub-raw"))


def test_shrunk(small_scenario: Scenario) -> None:
    small = shrunk(small_scenario, 10)
    assert [len(each.train.targets) for each in small.participants] == [10, 10]
    assert [len(each.targets) for each in (*small.validation, *small.test)] == [8, 8, 10, 10]
    assert torch.equal(small.test[1].pixels, small_scenario.test[1].pixels[:10])
