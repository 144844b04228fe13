"""git forge export of models that are more than one set of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from story.hospitals import ITEM, Merged, copy_repository, forge, forge_ok, git_ok
from story.test_strategies import embedded, tower

from forge.recipe.item import Consolidation, ForgeItem
from forge.recipe.item_text import from_json, to_json


def with_item(top: Path, item: ForgeItem) -> Path:
    """The repository with this recipe committed."""
    (top / ITEM).write_bytes(to_json(item).encode())
    git_ok(top, "commit", "--quiet", "--no-verify", "--allow-empty", "-am", "Another recipe")
    return top


@pytest.fixture
def top(merged: Merged, tmp_path: Path) -> Path:
    return copy_repository(merged("breast", "colon"), tmp_path / "model")


def read_item(top: Path) -> ForgeItem:
    return from_json((top / ITEM).read_bytes())


@pytest.mark.parametrize("form", ["peft", "open_clip"])
def test_an_output_level_mixture_is_refused(top: Path, tmp_path: Path, form: str) -> None:
    item = read_item(top)
    entries = tuple(replace(entry, coefficient=0.5) for entry in item.contributions)
    with_item(top, replace(item, strategy="mixture-output", contributions=entries))
    said = forge(top, "export", tmp_path / "out", "--format", form)
    assert said.code != 0
    assert "mixture-output weighs the predictions of 2 models" in said.err
    assert not (tmp_path / "out").exists()


def test_a_task_aware_model_is_exported_for_a_task(top: Path, base_folder: Path, tmp_path: Path) -> None:
    """Its weights for colon are those of the contribution colon alone at .5."""
    from peft import PeftModel

    item = read_item(top)
    breast, colon = item.contributions
    entries = (
        replace(breast, tasks={"breast": 1.0, "colon": 0.0}),
        replace(colon, tasks={"breast": 0.0, "colon": 0.5}),
    )
    with_item(top, replace(item, contributions=entries))
    said = forge(top, "export", tmp_path / "out", "--format", "peft")
    assert said.code != 0 and "this model is task-aware" in said.err and "--task: breast, colon" in said.err
    said = forge(top, "export", tmp_path / "out", "--format", "peft", "--task", "lung")
    assert said.code != 0 and "no weights of their own for the task 'lung'" in said.err
    forge_ok(top, "export", tmp_path / "peft", "--format", "peft", "--task", "colon")
    forge_ok(top, "export", tmp_path / "checkpoint", "--format", "open_clip", "--task", "colon")
    alone = PeftModel.from_pretrained(tower(base_folder), str(top / "contributions" / "colon")).eval()
    for layer in alone.modules():
        if hasattr(layer, "lora_A"):
            layer.scaling["default"] *= 0.5
    wanted = embedded(alone)
    assert embedded(PeftModel.from_pretrained(tower(base_folder), str(tmp_path / "peft")).eval()) == pytest.approx(
        wanted, abs=2e-5
    )
    assert embedded(tower(tmp_path / "checkpoint")) == pytest.approx(wanted, abs=2e-5)


def test_a_consolidation_belongs_to_what_all_tasks_share(top: Path, tmp_path: Path) -> None:
    """As `git forge evaluate` has it: the weights of a task are without it, in both forms."""
    item = read_item(top)
    breast, colon = item.contributions
    made = Consolidation(breast.adapter, breast.config, 1, 1e-3, 0, 0.5, 0.4)
    tasks = (replace(breast, tasks={"breast": 1.0}), replace(colon, tasks={"breast": 0.5}))
    for name, recipe in (
        ("shared", item),
        ("consolidated", replace(item, consolidation=made)),
        ("task", replace(item, contributions=tasks)),
        ("task-consolidated", replace(item, contributions=tasks, consolidation=made)),
    ):
        with_item(top, recipe)
        options = ("--task", "breast") if name.startswith("task") else ()
        for form in ("peft", "open_clip"):
            forge_ok(top, "export", tmp_path / form / name, "--format", form, *options)
    for form, weights in (("peft", "adapter_model"), ("open_clip", "open_clip_model")):
        found = {path.name: (path / f"{weights}.safetensors").read_bytes() for path in (tmp_path / form).iterdir()}
        assert found["task"] == found["task-consolidated"]
        assert found["shared"] != found["consolidated"]


def test_a_task_of_a_model_that_is_not_task_aware(top: Path, tmp_path: Path) -> None:
    said = forge(top, "export", tmp_path / "out", "--format", "open_clip", "--task", "breast")
    assert said.code != 0 and "it is not task-aware" in said.err
