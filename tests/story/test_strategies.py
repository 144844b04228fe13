"""Fusion and Mixture end to end against PEFT's own arithmetic on the same adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from story.conftest import Files
from story.hospitals import (
    ITEM,
    NAMES,
    SEEDS,
    Merged,
    change_settings,
    coefficients,
    contribute,
    copy_repository,
    distilled_arrays,
    forge,
    forge_ok,
    git_ok,
    item,
    start_model,
)
from story.test_histories import assert_clean, assert_follows

PREFIX = "base_model.model."


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory, base_folder: Path, contributions: Files) -> Path:
    """main after breast and, through the driver, colon, by Fusion."""
    top = start_model(tmp_path_factory.mktemp("fused") / "model", base_folder, "fusion")
    for name in ("breast", "colon"):
        contribute(top, name, contributions[name])
    git_ok(top, "merge", "--quiet", "breast")
    git_ok(top, "merge", "--quiet", "--no-edit", "colon")
    return top


def pixels() -> Any:
    """Images as a tower with mean .5 and standard deviation .25 takes them."""
    import torch

    images = np.concatenate([distilled_arrays(2, SEEDS[name])["images"] for name in ("breast", "colon")])
    return (torch.from_numpy(images).float() / 255 - 0.5) / 0.25


def tower(base_folder: Path) -> Any:
    from forge.model.base import load_base

    return load_base(str(base_folder)).tower


def embedded(model: Any) -> np.ndarray[Any, Any]:
    import torch

    with torch.no_grad():
        found: np.ndarray[Any, Any] = model(pixels()).numpy()
    return found


def exported(top: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray[Any, Any]:
    """The embeddings of the exported checkpoint by open_clip alone."""
    import open_clip
    import torch

    forge_ok(top, "export", folder, "--format", "open_clip")
    model = open_clip.create_model(f"local-dir:{folder}")
    with torch.no_grad():
        found: np.ndarray[Any, Any] = model.eval().encode_image(pixels()).numpy()
    return found


def test_a_mixture_is_the_weighted_sum_of_peft_adapters(
    merged: Merged, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel

    top = merged(*NAMES)
    names = list(NAMES)
    model = PeftModel.from_pretrained(tower(base_folder), str(top / "contributions" / names[0]), adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(str(top / "contributions" / name), adapter_name=name)
    model.base_model.set_adapter(names)  # all at once: PEFT adds what each of them does
    for layer in model.modules():
        if hasattr(layer, "lora_A"):
            for name, value in coefficients(item(top)).items():
                layer.scaling[name] *= value
    wanted = embedded(model.eval())
    assert np.abs(wanted - embedded(tower(base_folder))).max() > 1e-2
    assert exported(top, tmp_path / "checkpoint", monkeypatch) == pytest.approx(wanted, abs=2e-5)

    forge_ok(top, "export", tmp_path / "peft", "--format", "peft")
    one = PeftModel.from_pretrained(tower(base_folder), str(tmp_path / "peft")).eval()
    assert embedded(one) == pytest.approx(wanted, abs=2e-5)


def test_a_fusion_is_peft_with_summed_factors(
    fused: Path, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel
    from safetensors.numpy import load_file, save_file

    after = item(fused)
    assert after["strategy"] == "fusion"
    assert_follows(after, item(fused, "HEAD^1"), item(fused, "HEAD^2"))
    forge_ok(fused, "verify")
    by_hand = tmp_path / "by hand"
    by_hand.mkdir()
    total: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in coefficients(after).items():
        folder = fused / "contributions" / name
        (by_hand / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
        for key, tensor in load_file(folder / "adapter_model.safetensors").items():
            total[key] = total.get(key, 0) + np.float32(value) * tensor
    save_file(total, by_hand / "adapter_model.safetensors")
    wanted = embedded(PeftModel.from_pretrained(tower(base_folder), str(by_hand)).eval())
    assert np.abs(wanted - embedded(tower(base_folder))).max() > 1e-2
    assert exported(fused, tmp_path / "checkpoint", monkeypatch) == pytest.approx(wanted, abs=2e-5)

    forge_ok(fused, "export", tmp_path / "peft", "--format", "peft")
    assert json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["r"] == 16
    one = PeftModel.from_pretrained(tower(base_folder), str(tmp_path / "peft")).eval()
    assert embedded(one) == pytest.approx(wanted, abs=2e-5)


def test_another_strategy_in_forge_toml_is_folded_by_git_forge_commit(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast", "colon"), tmp_path / "model")
    before = item(top)
    change_settings(top, '"mixture"', '"fusion"')
    problems = forge(top, "verify", "--no-scores")
    assert problems.code == 0  # HEAD is as it was
    said = forge_ok(top, "commit")
    assert "Fold by fusion" in said.out
    after = item(top, "HEAD")
    assert after["strategy"] == "fusion"
    assert after["search"]["scales"].keys() == {"ours"}
    scale = after["search"]["scales"]["ours"]
    wanted = {name: scale * value for name, value in coefficients(before).items()}
    assert coefficients(after) == pytest.approx(wanted, abs=1e-6)
    assert git_ok(top, "show", "--format=", "--name-only", "HEAD").split() == [ITEM, "forge.toml"]
    assert_clean(top)
    forge_ok(top, "verify")
    again = forge(top, "commit")
    assert again.code == 128 and "no contribution changed since HEAD" in again.err


def test_the_seed_of_the_search_is_recorded(merged: Merged, contributions: Files, tmp_path: Path) -> None:
    from story.hospitals import write_contribution

    items = []
    for seed in (0, 0, 7):
        top = copy_repository(merged("breast"), tmp_path / f"model-{len(items)}")
        change_settings(top, "seed = 0", f"seed = {seed}")
        git_ok(top, "commit", "--quiet", "--allow-empty", "-am", "Choose a seed")
        write_contribution(top, "colon", contributions["colon"])
        forge_ok(top, "commit")
        items.append(item(top))
    assert items[0] == items[1]
    assert [found["search"]["seed"] for found in items] == [0, 0, 7]
    assert coefficients(items[0]) == coefficients(item(merged("breast", "colon")))  # a commit folds as a merge does


def test_a_strategy_that_one_side_changed_is_the_merged_model_s(merged: Merged, tmp_path: Path) -> None:
    top = copy_repository(merged("breast"), tmp_path / "model")
    change_settings(top, '"mixture"', '"fusion"')
    forge_ok(top, "commit")
    git_ok(top, "switch", "--quiet", "colon")
    git_ok(top, "merge", "--no-edit", "main")  # theirs changed it, ours did not
    after = item(top)
    assert after["strategy"] == "fusion"
    assert 'strategy = "fusion"' in (top / "forge.toml").read_text()
    assert_follows(after, item(top, "HEAD^1"), item(top, "HEAD^2"))
    assert_clean(top)
    forge_ok(top, "verify")
