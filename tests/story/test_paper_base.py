"""The paper's own base, ViT-B-16 of open_clip, with random weights: it runs, and adapters are the paper's size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from story.hospitals import change_settings, distilled_bytes, forge_ok, git_ok, item
from story.test_bad_places import pictures

# MedForge (2025), section 4: rank 16 on W_q and W_v of 12 layers of width 768, and on the 768 x 512 projection.
PARAMETERS = 12 * 2 * 16 * (768 + 768) + 16 * (768 + 512)
TRAINING = ("--epochs", "1", "--batch", "2")
DISTILLING = ("--steps", "1", "--ipc", "1", "--judge-steps", "1", "--real-batch", "1")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ViT-B-16 as fp16 safetensors, seeded."""
    import logging

    import open_clip
    import torch
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("ViT-B-16") / "weights.safetensors"
    logging.disable(logging.WARNING)  # "randomly initialised": yes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model("ViT-B-16", load_weights=False)
    logging.disable(logging.NOTSET)
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, path)
    return path


def test_the_papers_base_from_init_to_merge(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    assert PARAMETERS == 610_304
    top = tmp_path / "model"
    top.mkdir()
    git_ok(top, "init", "--quiet", "--initial-branch=main")
    forge_ok(top, "init", "--base", f"ViT-B-16={checkpoint}", "--settings", "paper")
    change_settings(top, "evaluations = 40", "evaluations = 2")
    git_ok(top, "commit", "--quiet", "-am", "Search quickly")
    git_ok(top, "switch", "--quiet", "-c", "breast", "main")
    data = pictures(tmp_path / "breast", {"breast, benign": 2, "breast, malignant": 2})
    forge_ok(top, "train", "breast", "--data", data, *TRAINING)
    forge_ok(top, "distill", "breast", "--data", data, *DISTILLING)
    folder = top / "contributions" / "breast"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"], config["bias"]) == (16, 16, 0.1, "none")
    tensors = load_file(folder / "adapter_model.safetensors")
    assert sum(math.prod(tensor.shape) for tensor in tensors.values()) == PARAMETERS
    assert len(tensors) == 2 * (12 * 2 + 1)
    distilled = load_file(folder / "distilled.safetensors")
    assert (distilled["images"].shape, distilled["images"].dtype.name) == ((2, 3, 224, 224), "uint8")
    assert 'optimizer = "sgd"' in (folder / "card.toml").read_text()  # the paper's settings by default
    forge_ok(top, "commit")

    # The other hospital has trained elsewhere: the same kind of adapter and images, with other values.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "adapter_config.json").write_text(json.dumps(config))
    save_file({name: -tensor for name, tensor in tensors.items()}, elsewhere / "adapter_model.safetensors")
    images = {**distilled, "images": 255 - distilled["images"]}
    (elsewhere / "distilled.safetensors").write_bytes(
        distilled_bytes(images, "lung", ("lung, benign", "lung, malignant"))
    )
    git_ok(top, "switch", "--quiet", "-c", "lung", "main")
    forge_ok(top, "add", "lung", "--adapter", elsewhere, "--distilled", elsewhere / "distilled.safetensors")
    forge_ok(top, "commit")
    git_ok(top, "switch", "--quiet", "main")
    git_ok(top, "merge", "--quiet", "breast")
    git_ok(top, "merge", "--quiet", "--no-edit", "lung")
    found = item(top)
    assert sorted(found["contributions"]) == ["breast", "lung"]
    assert found["search"]["evaluations"] == 2
    assert found["base"]["reference"] == f"ViT-B-16={checkpoint.name}"
    forge_ok(top, "verify")
