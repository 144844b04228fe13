"""Merges by other settings than the paper's: jointly, per module, per task and at the output, with real git."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from story.conftest import Files
from story.hospitals import (
    ITEM,
    LABELS,
    MODULES,
    NAMES,
    change_settings,
    copy_repository,
    distilled_arrays,
    forge,
    forge_ok,
    git,
    git_ok,
    item,
    write_contribution,
)
from story.test_histories import assert_clean

from forge.git.running import find_repository
from forge.model.adapters import plain_delta
from forge.model.base import BaseModel
from forge.model.scoring import TaskImages, probabilities
from forge.operations.loading import LoadedModel, load_model, repository_payloads
from forge.recipe.item_text import from_json, to_json
from forge.recipe.settings import PAPER, LimitSettings, SearchSettings, to_toml
from forge.repo.settings_file import load_settings

QUICK = SearchSettings(evaluations=12)


def choose(top: Path, search: SearchSettings, **merge: Any) -> None:
    """Write other settings into forge.toml; nothing is committed."""
    (top / "forge.toml").write_text(to_toml(replace(load_settings(top), search=search, **merge)))


def loaded(top: Path) -> LoadedModel:
    return load_model(find_repository(top), "HEAD", LimitSettings())


def distilled(base: BaseModel, name: str) -> TaskImages:
    import torch

    arrays = distilled_arrays(len(LABELS[name]), NAMES.index(name) + 1)
    pixels = base.normalise(torch.from_numpy(arrays["images"]))
    return TaskImages(name, LABELS[name], pixels, torch.from_numpy(arrays["labels"]))


def blended(base: BaseModel, labels: Sequence[str], found: Mapping[str, Any]) -> dict[str, Any]:
    """The tasks' coefficients, each counting e^(20 s): s is how near the task's labels are, by cosines."""

    def cosine(one: str, other: str) -> float:
        texts = base.text_embeddings((one, other)).double().numpy()
        return float(texts[0] @ texts[1] / np.sqrt((texts[0] @ texts[0]) * (texts[1] @ texts[1])))

    def near(task: str) -> float:
        there = sum(max(cosine(a, b) for b in LABELS[task]) for a in labels) / len(labels)
        back = sum(max(cosine(a, b) for a in labels) for b in LABELS[task]) / len(LABELS[task])
        return (there + back) / 2

    entries = found["contributions"]
    tasks = sorted({task for entry in entries.values() for task in entry["tasks"]})
    counts = np.array([np.exp(near(task) / 0.05) for task in tasks])

    def mean(values: Sequence[float]) -> float:
        return float(counts @ np.array(values) / counts.sum())

    return {
        name: {m: mean([entry["tasks"][t][m] for t in tasks]) for m in MODULES}
        if isinstance(entry["coefficient"], dict)
        else mean([entry["tasks"][t] for t in tasks])
        for name, entry in entries.items()
    }


def answers(model: LoadedModel) -> list[list[int]]:
    """What the model decides on every distilled image, one list a task."""
    tasks = [distilled(model.base, name) for name in NAMES]
    return [probabilities(model.base, model.model, each.pixels, each.labels).argmax(-1).tolist() for each in tasks]


def all_at_once(hospitals: Path, target: Path, contributions: Files, *names: str) -> Path:
    """A copy of `hospitals` on whose main these contributions lie, not yet committed."""
    top = copy_repository(hospitals, target)
    for name in names:
        write_contribution(top, name, contributions[name])
    return top


def test_the_order_of_joint_merges_does_not_matter(hospitals: Path, tmp_path: Path) -> None:
    found = []
    for number, order in enumerate((NAMES, NAMES[::-1])):
        top = copy_repository(hospitals, tmp_path / str(number))
        choose(top, QUICK)
        git_ok(top, "commit", "--quiet", "-am", "Search jointly")
        for name in order:
            git_ok(top, "merge", "--quiet", "--no-edit", name)
        assert_clean(top)
        forge_ok(top, "verify")
        found.append(top)
    one, other = (item(top) for top in found)
    for name in NAMES:
        mine, theirs = (each["contributions"][name]["coefficient"] for each in (one, other))
        assert sorted(mine) == sorted(theirs) == sorted(MODULES)
        assert mine == pytest.approx(theirs, abs=1e-3)
        assert len(set(mine.values())) > 1
    assert answers(loaded(found[0])) == answers(loaded(found[1]))
    assert (one["search"]["method"], one["search"]["per"], one["search"]["scales"]) == ("joint", "module", {})
    assert (one["search"]["pull"], one["search"]["objective"]) == (QUICK.pull, QUICK.objective)
    assert {name: score["accuracy"] for name, score in one["scores"].items()} == {
        name: score["accuracy"] for name, score in other["scores"].items()
    }
    message = git_ok(found[0], "log", "-1", "--format=%(trailers)").splitlines()
    assert len(message) == 7 and max(map(len, message)) < 100
    assert "(" in message[1] and " to " in message[1]


def test_a_joint_model_depends_on_nothing_but_its_contributions(
    hospitals: Path, tmp_path: Path, contributions: Files
) -> None:
    """Three come and one goes again: the same as two; a lone one has 1, as if no other had ever been there."""
    search = replace(QUICK, per="contribution")
    two = all_at_once(hospitals, tmp_path / "two", contributions, "breast", "lung")
    choose(two, search)
    forge_ok(two, "commit")
    three = all_at_once(hospitals, tmp_path / "three", contributions, *NAMES)
    choose(three, search)
    forge_ok(three, "commit")
    assert item(three)["contributions"] != item(two)["contributions"]
    git_ok(three, "rm", "-r", "--quiet", "contributions/colon")
    forge_ok(three, "commit")
    one, other = (item(top)["contributions"] for top in (two, three))
    assert {name: entry["coefficient"] for name, entry in one.items()} == pytest.approx(
        {name: entry["coefficient"] for name, entry in other.items()}, abs=1e-3
    )
    git_ok(three, "rm", "-r", "--quiet", "contributions/lung")
    forge_ok(three, "commit")
    assert item(three)["contributions"]["breast"]["coefficient"] == 1.0 and item(three)["search"] is None


def test_a_task_aware_model_answers_each_task_with_its_own_coefficients(
    hospitals: Path, tmp_path: Path, contributions: Files
) -> None:
    top = all_at_once(hospitals, tmp_path / "model", contributions, "breast", "lung")
    choose(top, QUICK, task_aware=True)
    said = forge_ok(top, "commit")
    assert "Forge-Strategy: mixture, task-aware" in said.out
    found = item(top, "HEAD")
    for entry in found["contributions"].values():
        assert sorted(entry["tasks"]) == ["breast", "lung"]
        assert sorted(entry["tasks"]["lung"]) == sorted(entry["coefficient"]) == sorted(MODULES)
    assert_clean(top)
    forge_ok(top, "verify")
    assert "Coefficients by task" in forge_ok(top, "show").out

    # The parts of a label set are those of its task, in whatever order the labels come; others are blended.
    model = loaded(top)
    adapters = repository_payloads(find_repository(top), LimitSettings()).adapters(model.base, model.item.contributions)
    for labels, coefficients in (
        (LABELS["lung"][::-1], {name: entry["tasks"]["lung"] for name, entry in found["contributions"].items()}),
        (LABELS["colon"], blended(model.base, LABELS["colon"], found)),
    ):
        ((delta, weight),) = model.model.parts_for(labels)
        assert weight == 1.0
        for module in MODULES:
            wanted = sum(c[module] * plain_delta(adapters[name])[module].numpy() for name, c in coefficients.items())
            assert delta[module].numpy() == pytest.approx(wanted, abs=1e-6)

    # Where forge.toml wants no such coefficients any more, the next commit takes them out.
    choose(top, QUICK, task_aware=False)
    said = forge_ok(top, "commit")
    assert "Search the coefficients again" in said.out and "task-aware" not in said.out
    after = item(top, "HEAD")
    assert all("tasks" not in entry for entry in after["contributions"].values())
    for name, entry in after["contributions"].items():
        assert entry["coefficient"] == pytest.approx(found["contributions"][name]["coefficient"], abs=1e-3)
    assert git_ok(top, "show", "--format=", "--name-only", "HEAD").split() == [ITEM, "forge.toml"]
    assert_clean(top)
    again = forge(top, "commit")
    assert again.code == 128 and "no contribution changed since HEAD" in again.err

    # Coefficients for modules that the adapter has not are found without the model.
    damaged = from_json((top / ITEM).read_text())
    entry = replace(damaged.contributions[0], coefficient={"trunk.nowhere": 1.0})
    (top / ITEM).write_text(to_json(replace(damaged, contributions=(entry, *damaged.contributions[1:]))))
    git_ok(top, "commit", "--quiet", "--no-verify", "-am", "Another module")
    said = forge(top, "verify", "--no-scores")
    assert said.code == 1 and "contribution 'breast': has " in said.out


def test_a_mixture_of_outputs(hospitals: Path, tmp_path: Path, base: BaseModel) -> None:
    """main changed its strategy while the branches were made: the driver brings both together."""
    top = copy_repository(hospitals, tmp_path / "model")
    choose(top, replace(QUICK, per="contribution"), strategy="mixture-output", task_aware=True)
    forge_ok(top, "commit")
    for name in ("colon", "breast"):
        git_ok(top, "merge", "--quiet", "--no-edit", name)
    found = item(top)
    assert found["strategy"] == "mixture-output" and found["search"]["per"] == "contribution"
    entries = found["contributions"]
    assert all(isinstance(entry["coefficient"], float) for entry in entries.values())
    assert_clean(top)
    forge_ok(top, "verify")

    # p(y|x) = sum_k c_k p_k(y|x) / sum_k c_k, with the coefficients of the task that has these labels.
    model = loaded(top)
    adapters = repository_payloads(find_repository(top), LimitSettings()).adapters(base, model.item.contributions)
    images = distilled(base, "breast")
    for labels, key in ((LABELS["breast"], "breast"), (LABELS["colon"], "colon"), (LABELS["lung"], None)):
        known = {name: entry["tasks"].get(key) for name, entry in entries.items()}
        c = known if key else blended(base, labels, found)
        each = {
            name: probabilities(base, plain_delta(adapter), images.pixels, labels) for name, adapter in adapters.items()
        }
        wanted = sum(c[name] * each[name] for name in c) / sum(c.values())
        assert probabilities(base, model.model, images.pixels, labels) == pytest.approx(wanted, abs=1e-5)

    picture = tmp_path / "image.png"
    from PIL import Image

    Image.fromarray(distilled_arrays(2, 1)["images"][0].transpose(1, 2, 0)).save(picture)
    options = [option for label in LABELS["breast"] for option in ("--labels", label)]
    (row,) = json.loads(forge_ok(top, "predict", picture, *options, "--json").out)
    assert sum(row["probabilities"].values()) == pytest.approx(1)


def test_settings_that_change_under_merged_coefficients(hospitals: Path, tmp_path: Path, contributions: Files) -> None:
    """Coefficients per module become one per contribution where the strategy takes no others."""
    top = all_at_once(hospitals, tmp_path / "model", contributions, "breast", "colon")
    choose(top, replace(QUICK, method="exact"))
    forge_ok(top, "commit")
    assert all(isinstance(entry["coefficient"], dict | float) for entry in item(top)["contributions"].values())
    change_settings(top, 'strategy = "mixture"', 'strategy = "mixture-output"')
    refused = forge(top, "commit")
    assert refused.code == 128 and 'set per = "contribution"' in refused.err
    choose_text = (top / "forge.toml").read_text().replace('per = "module"', 'per = "contribution"')
    (top / "forge.toml").write_text(choose_text)
    said = forge_ok(top, "commit")
    assert "Fold by mixture-output" in said.out
    after = item(top, "HEAD")
    assert all(isinstance(entry["coefficient"], float) for entry in after["contributions"].values())
    forge_ok(top, "verify")


def test_a_consolidation_is_added_to_the_model_and_dropped_by_a_merge(
    hospitals: Path, tmp_path: Path, contributions: Files
) -> None:
    top = all_at_once(hospitals, tmp_path / "model", contributions, "breast", "colon")
    choose(top, replace(QUICK, per="contribution"))
    said = forge_ok(top, "commit", "--consolidate", "6")
    assert "Forge-Strategy: mixture, consolidated" in said.out
    found = item(top, "HEAD")
    files = {"adapter": "consolidation/adapter_model.safetensors", "config": "consolidation/adapter_config.json"}
    for part, path in files.items():
        assert found["consolidation"][part] == git_ok(top, "rev-parse", f"HEAD:{path}")
    made = found["consolidation"]
    assert made["steps"] == 6 and made["objective_after"] < made["objective_before"]
    assert_clean(top)
    forge_ok(top, "verify")
    assert "6 at a learning rate of 0.0005" in forge_ok(top, "show").out

    # The model is the contributions with their coefficients and, as it is, the residual: read here without git forge.
    model = loaded(top)
    adapters = repository_payloads(find_repository(top), LimitSettings()).adapters(model.base, model.item.contributions)
    residual = load_file(top / files["adapter"])
    config = json.loads((top / files["config"]).read_text())
    ((delta, _),) = model.model.shared
    for module in MODULES:
        key = f"base_model.model.{module}"
        a, b = residual[f"{key}.lora_A.weight"], residual[f"{key}.lora_B.weight"]
        wanted = config["lora_alpha"] / config["r"] * b @ a + sum(
            entry["coefficient"] * plain_delta(adapters[name])[module].numpy()
            for name, entry in found["contributions"].items()
        )
        assert delta[module].numpy() == pytest.approx(wanted, abs=1e-5)
    assert np.abs(b @ a).max() > 0

    # A merge brings another contribution: the residual is not made of it.
    done = git(top, "merge", "--no-edit", "lung")
    assert done.returncode == 0 and "the consolidation was made of other contributions" in done.stderr
    after = item(top)
    assert "consolidation" not in after and sorted(after["contributions"]) == sorted(NAMES)
    forge_ok(top, "verify")
    git_ok(top, "rm", "-r", "--quiet", "contributions/lung")
    forge_ok(top, "commit")
    assert git_ok(top, "ls-tree", "--name-only", "HEAD").split() == [
        ".gitattributes", "contributions", ITEM, "forge.toml",
    ]  # fmt: skip
    assert_clean(top)

    # Taken out, or damaged.
    git_ok(top, "reset", "--quiet", "--hard", "HEAD~2")
    assert "consolidated" in forge_ok(top, "show").out
    forge_ok(top, "commit", "--consolidate", "0")
    assert "consolidation" not in item(top, "HEAD") and not (top / "consolidation").exists()
    assert item(top, "HEAD")["contributions"] == found["contributions"]
    forge_ok(top, "verify", "--no-scores")
    git_ok(top, "reset", "--quiet", "--hard", "HEAD~1")
    git_ok(top, "rm", "--quiet", files["config"])
    git_ok(top, "commit", "--quiet", "--no-verify", "-m", "Save space")
    said = forge(top, "verify")
    assert said.code == 1 and "consolidation/adapter_config.json is missing" in said.out


@pytest.mark.parametrize("options", [(), ("--settings", "paper"), ("--strategy", "mixture-output", "--task-aware")])
def test_init_writes_the_settings_asked_for(options: tuple[str, ...], base_folder: Path, tmp_path: Path) -> None:
    git_ok(tmp_path, "init", "--quiet")
    said = forge_ok(tmp_path, "init", "--base", base_folder, *options)
    written = load_settings(tmp_path)
    if "paper" in options:
        assert written.search == PAPER and "paper settings" in said.out
    elif options:
        assert (written.strategy, written.task_aware) == ("mixture-output", True)
        assert written.search == replace(SearchSettings(), per="contribution") and ", task-aware, best" in said.out
    else:
        assert written.search == SearchSettings() and (written.strategy, written.task_aware) == ("mixture", False)
    assert item(tmp_path)["strategy"] == written.strategy
    assert np.all([line in (tmp_path / "forge.toml").read_text() for line in ("[merge]", "[search]", "method = ")])
