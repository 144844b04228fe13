"""The command line from nothing to tables and figures, on a tiny scenario; and what it says when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from examples.paper import __main__ as program
from examples.paper import experiment, scenarios
from examples.paper.experiment import Experiment, ExperimentSettings
from examples.paper.figures import embed, features, shares_plot, visible
from examples.paper.rows import run_merged
from examples.paper.scenarios import Scenario
from examples.paper.tables import collect
from forge.model.base import BaseModel
from forge.model.scoring import logits
from forge.recipe.settings import SearchSettings

TINY = ExperimentSettings(
    epochs=1,
    distill=(("steps", 2), ("points", 1), ("ipc", 2), ("real_batch", 4)),
    distilled_steps=2,
    distillations=("teacher-points",),
    dora=False,
    search=SearchSettings(evaluations=4),
    rows=("zero-shot", "single", "distilled", "soup", "mixture-joint-contribution-cross-entropy"),
)


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["bench", *words])
    return program.main()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
def test_from_nothing_to_tables_and_figures(
    tmp_path: Path,
    base_folder: Path,
    small_scenario: Scenario,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(experiment, "QUICK", TINY)
    monkeypatch.setattr(scenarios, "make_scenario", lambda name, seed: small_scenario)
    work, results = tmp_path / "work", tmp_path / "results"
    options = ["--quick", "--scenario", "multi-task", "--seeds", "1", "--base", str(base_folder), "--work", str(work)]
    options += ["--first-seed", "0"]  # that of the made-up scenario
    for stage in ("adapters", "distilled", "merged"):
        assert call(monkeypatch, "paper", *options, "--only-stage", stage) == 0
    assert not results.exists()
    capsys.readouterr()
    assert call(monkeypatch, "report", *options, "--results", str(results)) == 0
    assert capsys.readouterr().out.strip() == str(results / "README.md")
    names = {path.name for path in results.iterdir()}
    assert names >= {"all-rows.csv", "table-1.csv", "targets.csv", "choose.csv", "README.md", "run.json"}
    for name in ("shares.png", "figure-5.png", "distilled-images.png"):
        assert np.asarray(Image.open(results / name).convert("L")).std() > 1
    run = json.loads((results / "run.json").read_text())
    assert run["command"] == "examples/paper/run --scenario multi-task --seeds 1 --first-seed 0 --quick"
    assert run["seeds"] == {"multi-task": [0]} and "torch" in run["packages"]
    text = (results / "README.md").read_text()
    assert "Single-task adapter (upper bound)" in text and "![" in text
    assert str(tmp_path) not in text + json.dumps(run)


def test_nothing_to_report(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--base", str(base_folder), "--work", str(tmp_path / "none"), "--results", str(tmp_path / "results")]
    assert call(monkeypatch, "report", *options) == 128
    assert "holds no finished row" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["paper", "--rows", "nothing-like-it"], 128, "no method is called"),
        (["paper", "--data", "somewhere", "--scenario", "digits"], 128, "real data are those of the scenario"),
        (["paper", "--seeds", "0"], 129, "Invalid value"),
        (["paper", "--only-stage", "all"], 129, "Invalid value"),
    ],
)
def test_mistakes_are_told_before_anything_long(
    words: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *words) == code
    assert said in capsys.readouterr().err


def test_features_are_what_logits_are_made_of(base: BaseModel, small_scenario: Scenario) -> None:
    images = small_scenario.test[0]
    found = torch.from_numpy(features(base, {}, images.pixels))
    expected = logits(base, images.pixels, images.labels)
    torch.testing.assert_close(base.logit_scale * found @ base.text_embeddings(images.labels).T, expected)


@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
def test_places_in_the_plane_keep_groups_apart() -> None:
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.normal(size=(30, 5)), 20 + generator.normal(size=(30, 5))]).astype(np.float32)
    placed = embed(points)
    assert placed.shape == (60, 2)
    assert np.array_equal(placed, embed(points))
    first, second = placed[:30], placed[30:]
    between = np.linalg.norm(first.mean(0) - second.mean(0))
    assert between > max(np.linalg.norm(part - part.mean(0), axis=1).mean() for part in (first, second))


def test_visible_pixels(base: BaseModel) -> None:
    stored = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = visible(base, stored)
    assert plain.shape == (2, 32, 32, 3)
    assert np.allclose(plain, stored.permute(0, 2, 3, 1).numpy() / 255)
    assert np.allclose(visible(base, base.normalise(stored)), plain, atol=1e-6)


def test_a_plot_needs_a_bound(base: BaseModel, small_scenario: Scenario, tmp_path: Path) -> None:
    settings = ExperimentSettings(rows=("zero-shot",))
    run_merged(Experiment(tmp_path, base, small_scenario, settings))
    rows = collect(tmp_path, base.fingerprint, ("multi-task",), (0,))
    shares_plot(rows, "teacher-points", tmp_path / "shares.png")
    assert not (tmp_path / "shares.png").exists()
