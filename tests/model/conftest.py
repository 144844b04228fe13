"""A tiny CLIP with random weights and random adapters on it, made by open_clip and PEFT themselves."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from forge.model.adapters import PAPER_MODULES, Adapter, read_adapter
from forge.model.attention import VisualTower
from forge.model.base import BaseModel, load_base
from forge.model.scoring import TaskImages

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {
        "size": 32,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.25, 0.2, 0.3],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}

MakeAdapter = Callable[..., Path]
ReadAdapter = Callable[[Path], Adapter]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, and no fight for the cores with whatever else runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_base(folder: Path, config: dict[str, Any], seed: int = 0) -> Path:
    """An open_clip folder with random weights."""
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = open_clip.CLIP(**config["model_cfg"])
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> dict[str, Any]:
    return copy.deepcopy(CONFIG)


@pytest.fixture(scope="session")
def make_base() -> Callable[..., Path]:
    return write_base


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "tiny clip", CONFIG)


@pytest.fixture(scope="session")
def base(base_folder: Path) -> BaseModel:
    return load_base(str(base_folder))


@pytest.fixture
def untouched(base: BaseModel) -> Iterator[None]:
    """The base's weights and module names are the same bits after the test as before."""
    before = {name: value.clone() for name, value in base.tower.state_dict().items()}
    yield
    after = base.tower.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not base.tower.training
    assert not any(parameter.requires_grad for parameter in base.tower.parameters())


@pytest.fixture(scope="session")
def open_clip_model(base_folder: Path) -> Any:
    """The same base as open_clip itself loads it."""
    model = open_clip.create_model(f"local-dir:{base_folder}")
    return model.eval()


@pytest.fixture
def fresh_tower(base_folder: Path) -> Callable[[], VisualTower]:
    """A split tower of its own, which PEFT may change."""

    def make() -> VisualTower:
        return VisualTower(open_clip.create_model(f"local-dir:{base_folder}").visual).eval()

    return make


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Ten normalised images."""
    return torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def make_adapter(tmp_path: Path, fresh_tower: Callable[[], VisualTower]) -> MakeAdapter:
    """make_adapter(seed, rank=4, alpha=8, modules=..., **PEFT settings): the folder that PEFT saves, B not zero."""

    def make(
        seed: int, rank: int = 4, alpha: float = 8, modules: str | list[str] = PAPER_MODULES, **settings: Any
    ) -> Path:
        folder = tmp_path / f"adapter-{seed}-{rank}-{alpha}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, **settings)
            model = get_peft_model(fresh_tower(), config)
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=0.05)
                if "lora_magnitude_vector" in name:
                    parameter.data *= 0.5 + torch.rand(parameter.shape)
        model.save_pretrained(folder, save_embedding_layers=False)
        return folder

    return make


@pytest.fixture
def read(base: BaseModel) -> ReadAdapter:
    """The adapter in a PEFT folder, as git forge reads it."""

    def read_folder(folder: Path) -> Adapter:
        config = json.loads((folder / "adapter_config.json").read_text())
        return read_adapter(config, load_file(folder / "adapter_model.safetensors"), base.tower, source=folder.name)

    return read_folder


@pytest.fixture(scope="session")
def bright_or_dark() -> Callable[..., TaskImages]:
    """bright_or_dark(count, seed): noisy images, half of them brighter, as an easy task of two labels."""

    def make(count: int, seed: int = 0, task: str = "light") -> TaskImages:
        generator = torch.Generator().manual_seed(seed)
        targets = torch.arange(count) % 2
        light = (targets * 2.0 - 1).view(-1, 1, 1, 1)
        pixels = 0.5 * torch.randn(count, 3, 32, 32, generator=generator) + light
        return TaskImages(task, ("a dark image", "a bright image"), pixels, targets)

    return make
