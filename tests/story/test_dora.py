"""A DoRA from training to a merged model in other tools, and a LoRA beside it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from story.conftest import Files
from story.hospitals import (
    LABELS,
    SEEDS,
    contribute,
    copy_repository,
    distilled_arrays,
    distilled_bytes,
    forge,
    forge_ok,
    git_ok,
    item,
    start_model,
    write_contribution,
)
from story.test_strategies import embedded, exported, tower

FOLDER = Path("contributions/breast")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path, base_folder: Path) -> Path:
    """A DoRA of breast made by git forge train, committed on top of nothing."""
    top = start_model(tmp_path_factory.mktemp("dora") / "model", base_folder)
    arrays = distilled_arrays(2, SEEDS["breast"], per_class=8)
    data = top.parent / "breast.npz"
    images, labels = arrays["images"].transpose(0, 2, 3, 1), arrays["labels"]
    order = np.random.default_rng(0).permutation(len(labels))
    np.savez(data, train_images=images[order], train_labels=labels[order])
    texts = [part for text in LABELS["breast"] for part in ("--labels", text)]
    said = forge_ok(top, "train", "breast", "--data", data, *texts, "--dora", "--epochs", "2", "--rank", "4")
    assert "Trained contributions/breast, a DoRA, on " in said.out
    (top / FOLDER / "distilled.safetensors").write_bytes(
        distilled_bytes(distilled_arrays(2, SEEDS["breast"]), "breast", LABELS["breast"])
    )
    forge_ok(top, "commit")
    return top


def test_what_training_wrote(trained: Path) -> None:
    from safetensors.numpy import load_file

    config = json.loads((trained / FOLDER / "adapter_config.json").read_text())
    assert (config["peft_type"], config["use_dora"], config["r"]) == ("LORA", True, 4)
    tensors = load_file(trained / FOLDER / "adapter_model.safetensors")
    assert tensors["base_model.model.projection.lora_magnitude_vector"].shape == (64,)
    card = tomllib.loads((trained / FOLDER / "card.toml").read_text())
    assert card["training"]["adapter"] == "DoRA" and "dora" not in card["training"]
    forge_ok(trained, "verify")


def test_a_mixture_of_a_dora_and_a_lora_is_exported_exactly(
    trained: Path, base_folder: Path, contributions: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel

    top = copy_repository(trained, tmp_path / "model")
    alone = PeftModel.from_pretrained(tower(base_folder), str(top / FOLDER)).eval()
    assert exported(top, tmp_path / "one", monkeypatch) == pytest.approx(embedded(alone), abs=2e-5)
    contribute(top, "colon", contributions["colon"])
    forge_ok(top, "verify", "colon")
    git_ok(top, "merge", "--quiet", "colon")
    wanted = exported(top, tmp_path / "both", monkeypatch)
    said = forge_ok(top, "export", tmp_path / "peft", "--format", "peft")
    assert "one DoRA of rank 20 for the base" in said.out
    one = PeftModel.from_pretrained(tower(base_folder), str(tmp_path / "peft")).eval()
    assert embedded(one) == pytest.approx(wanted, abs=2e-5)


@pytest.mark.parametrize(
    ("use_dora", "message"),
    [(False, "does not set use_dora"), ("yes", "use_dora must be true or false")],
)
def test_a_configuration_that_goes_against_the_tensors(
    trained: Path, tmp_path: Path, use_dora: object, message: str
) -> None:
    top = copy_repository(trained, tmp_path / "model")
    before = item(top)
    config = top / FOLDER / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": use_dora}))
    said = forge(top, "commit")
    assert said.code != 0 and message in said.err and "contributions/breast" in said.err
    assert item(top) == before


def test_a_lora_that_claims_to_be_a_dora(trained: Path, contributions: Files, tmp_path: Path) -> None:
    top = copy_repository(trained, tmp_path / "model")
    files = dict(contributions["colon"])
    config = json.loads(files["adapter_config.json"]) | {"use_dora": True}
    write_contribution(top, "colon", {**files, "adapter_config.json": json.dumps(config).encode()})
    said = forge(top, "commit")
    assert said.code != 0 and "has no lora_magnitude_vector, but adapter_config.json sets use_dora" in said.err
