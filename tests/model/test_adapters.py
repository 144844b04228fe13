"""Adapters against PEFT, which made them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file

from forge.errors import ForgeError
from forge.model.adapters import (
    Adapter,
    LowRank,
    lora_config,
    parameter_count,
    plain_config,
    plain_delta,
    read_adapter,
)
from forge.model.attention import VisualTower, adaptable_modules
from forge.model.base import BaseModel
from forge.model.composing import folded

MakeAdapter = Callable[..., Path]
ReadAdapter = Callable[[Path], Adapter]

BLOCK = "trunk.transformer.resblocks.0.attn"


@pytest.fixture
def parts(make_adapter: MakeAdapter) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Configuration and tensors of a good adapter, for a test to spoil."""
    folder = make_adapter(1)
    config = json.loads((folder / "adapter_config.json").read_text())
    return config, load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("rank", [1, 4, 7])
@pytest.mark.parametrize("alpha", [4, 16, 3.5])
@pytest.mark.parametrize("rslora", [False, True])
def test_the_change_of_weights_is_pefts_own(
    fresh_tower: Callable[[], VisualTower],
    make_adapter: MakeAdapter,
    read: ReadAdapter,
    rank: int,
    alpha: float,
    rslora: bool,
) -> None:
    folder = make_adapter(3, rank, alpha, use_rslora=rslora)
    delta = plain_delta(read(folder))
    tower = fresh_tower()
    before = {name: module.weight.clone() for name, module in adaptable_modules(tower).items()}
    model = PeftModel.from_pretrained(tower, str(folder))
    layers = {name.removeprefix("base_model.model."): m for name, m in model.named_modules() if hasattr(m, "lora_A")}
    assert sorted(delta) == sorted(layers)
    for name, layer in layers.items():
        torch.testing.assert_close(delta[name], layer.get_delta_weight("default"), rtol=1e-6, atol=1e-7)
    merged = adaptable_modules(model.merge_and_unload())
    for name, weight in before.items():
        expected = weight + delta[name] if name in delta else weight
        torch.testing.assert_close(merged[name].weight, expected, rtol=1e-5, atol=1e-6)


def test_the_papers_modules(base: BaseModel, make_adapter: MakeAdapter, read: ReadAdapter) -> None:
    adapter = read(make_adapter(1, rank=16))
    q_and_v = {f"trunk.transformer.resblocks.{i}.attn.{part}_proj" for i in (0, 1) for part in "qv"}
    assert set(adapter) == q_and_v | {"projection"}
    assert all(module.rank == 16 for module in adapter.values())
    # r * (in + out): two layers, q and v, of width 64; the projection from 64 to 32
    assert parameter_count(adapter) == 4 * 16 * (64 + 64) + 16 * (64 + 32)


def test_the_embedded_architecture_has_36864_parameters_to_adapt() -> None:
    import open_clip

    config = json.loads((Path(open_clip.__file__).parent / "model_configs" / "ViT-B-32.json").read_text())
    vision = {"image_size": 32, "patch_size": 4, "width": 128, "layers": 4, "head_width": 32}
    text = {**config["text_cfg"], "width": 8, "heads": 1, "layers": 1, "vocab_size": 16}
    tower = VisualTower(open_clip.CLIP(embed_dim=128, vision_cfg=vision, text_cfg=text).visual)
    model = get_peft_model(tower, lora_config(rank=16, alpha=16, dropout=0.1))
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trainable == 36_864 == 9 * 16 * (128 + 128)


def test_the_configuration_is_what_peft_reads_back(
    tmp_path: Path, fresh_tower: Callable[[], VisualTower], make_adapter: MakeAdapter
) -> None:
    from peft import LoraConfig

    config = lora_config(rank=5, alpha=7, dropout=0.1, modules=["projection", "trunk.conv1"])
    plain = plain_config(config)
    assert json.dumps(plain) == json.dumps(
        plain_config(lora_config(rank=5, alpha=7, dropout=0.1, modules=["trunk.conv1", "projection"]))
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps(plain))
    found = LoraConfig.from_pretrained(str(tmp_path))
    assert (found.r, found.lora_alpha, found.lora_dropout, found.bias) == (5, 7, 0.1, "none")
    assert found.target_modules == {"projection", "trunk.conv1"}
    assert found.inference_mode


def test_some_modules_and_other_precisions_are_fine(
    base: BaseModel, parts: tuple[dict[str, Any], dict[str, torch.Tensor]]
) -> None:
    config, tensors = parts
    kept = {name: value.to(torch.bfloat16) for name, value in tensors.items() if "projection" in name}
    adapter = read_adapter(config, kept, base.tower, source="x")
    assert list(adapter) == ["projection"]
    assert adapter["projection"].a.dtype == torch.float32
    expected = kept["base_model.model.projection.lora_A.weight"].float()
    assert torch.equal(adapter["projection"].a, expected)


def rename(tensors: dict[str, torch.Tensor], old: str, new: str) -> None:
    for name in [name for name in tensors if old in name]:
        tensors[name.replace(old, new)] = tensors.pop(name)


A = f"base_model.model.{BLOCK}.q_proj.lora_A.weight"
B = f"base_model.model.{BLOCK}.q_proj.lora_B.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c, t: rename(t, "resblocks.1", "resblocks.7"), r"changes '.*resblocks\.7.*', which this base does not"),
        (lambda c, t: rename(t, "q_proj", "in_proj"), "which this base does not have"),
        (lambda c, t: rename(t, "base_model.model.", "base_model.base_model."), "not part of a LoRA or DoRA"),
        (lambda c, t: rename(t, "base_model.model.", ""), "not part of a LoRA or DoRA"),
        (lambda c, t: rename(t, "lora_A.weight", "lora_A.default.weight"), "not part of a LoRA or DoRA"),
        (
            lambda c, t: t.update({A.replace("lora_A", "lora_magnitude_vector"): torch.ones(64)}),
            "does not set use_dora",
        ),
        (lambda c, t: t.update({B.replace("weight", "bias"): torch.ones(64)}), "not part of a LoRA or DoRA"),
        (lambda c, t: t.update({"base_model.model.trunk.ln_pre.weight": torch.ones(64)}), "LoRA or DoRA"),
        (lambda c, t: t.pop(A), "lora_B alone"),
        (lambda c, t: t.pop(B), "lora_A alone"),
        (lambda c, t: t.update({A: torch.ones(4, 65)}), r"\(4, 65\)"),
        (lambda c, t: t.update({A: torch.ones(5, 64), B: torch.ones(64, 5)}), "rank 4 ask for"),
        (lambda c, t: t.update({B: torch.ones(64)}), r"\(64,\)"),
        (lambda c, t: t.update({B: torch.ones(64, 4, 1)}), r"\(64, 4, 1\)"),
        (lambda c, t: t.update({B: torch.ones(1, 4)}), r"\(1, 4\)"),
        (lambda c, t: c.update(r=8), "rank 8 ask for"),
        (lambda c, t: c.update(r=0), "r=0"),
        (lambda c, t: c.update(r="many"), "usable r or lora_alpha"),
        (lambda c, t: c.update(lora_alpha=float("nan")), "lora_alpha=nan"),
        (lambda c, t: c.update(lora_alpha=None), "usable r or lora_alpha"),
        (lambda c, t: c.pop("r"), "usable r or lora_alpha"),
        (lambda c, t: c.pop("lora_alpha"), "usable r or lora_alpha"),
        (lambda c, t: t.clear(), "holds no weights"),
    ],
)
def test_what_does_not_fit_is_refused(
    base: BaseModel,
    parts: tuple[dict[str, Any], dict[str, torch.Tensor]],
    change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object],
    reason: str,
) -> None:
    config, tensors = parts
    read_adapter(config, tensors, base.tower, source="good")
    change(config, tensors)
    with pytest.raises(ForgeError, match=reason) as caught:
        read_adapter(config, tensors, base.tower, source="contributions/north")
    assert caught.value.message.startswith("contributions/north: ")


def test_an_adapter_of_another_base_is_refused(
    tiny_config: dict[str, Any],
    make_base: Callable[..., Path],
    tmp_path: Path,
    make_adapter: MakeAdapter,
    parts: tuple[dict[str, Any], dict[str, torch.Tensor]],
) -> None:
    from forge.model.base import load_base

    wide = {**tiny_config["model_cfg"], "vision_cfg": {**tiny_config["model_cfg"]["vision_cfg"], "width": 96}}
    other = load_base(str(make_base(tmp_path / "wide", {**tiny_config, "model_cfg": wide})))
    with pytest.raises(ForgeError, match="but this base and rank 4 ask for"):
        read_adapter(*parts, other.tower, source="contributions/north")


def test_reading_leaves_the_tensors_alone(base: BaseModel, make_adapter: MakeAdapter, read: ReadAdapter) -> None:
    adapter: Adapter = read(make_adapter(2))
    before = {name: (module.a.clone(), module.b.clone()) for name, module in adapter.items()}
    plain_delta(adapter)
    assert all(torch.equal(adapter[n].a, a) and torch.equal(adapter[n].b, b) for n, (a, b) in before.items())


# DoRA.


def test_the_change_of_a_dora_by_hand() -> None:
    """W + s B A = [[3, 4], [0, 2]], rows of length 5 and 2; magnitudes 10 and 1 make it [[6, 8], [0, 1]]."""
    weight = torch.tensor([[1.0, 2.0], [-2.0, 0.0]])
    a, b = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0], [1.0]])
    module = LowRank(a, b, 2.0, torch.tensor([10.0, 1.0]), weight)
    assert module.delta().tolist() == [[5.0, 6.0], [2.0, 1.0]]
    assert LowRank(a, b, 2.0).delta().tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert parameter_count({"one": module, "two": LowRank(a, b, 2.0)}) == 4 + 2 + 4


@pytest.mark.parametrize("missing", ["magnitude", "weight"])
def test_a_magnitude_and_the_weight_go_together(missing: str) -> None:
    parts = {"magnitude": torch.ones(2), "weight": torch.ones(2, 2)}
    del parts[missing]
    with pytest.raises(ValueError, match="go together"):
        LowRank(torch.ones(1, 2), torch.ones(2, 1), 1.0, **parts)


@pytest.mark.parametrize(("rank", "alpha", "rslora"), [(1, 16, False), (4, 8, False), (7, 3.5, True)])
@pytest.mark.usefixtures("untouched")
def test_a_dora_does_what_it_does_in_peft(
    base: BaseModel,
    fresh_tower: Callable[[], VisualTower],
    make_adapter: MakeAdapter,
    read: ReadAdapter,
    images: torch.Tensor,
    rank: int,
    alpha: float,
    rslora: bool,
) -> None:
    folder = make_adapter(3, rank, alpha, use_rslora=rslora, use_dora=True)
    adapter = read(folder)
    assert parameter_count(adapter) == 4 * (rank * (64 + 64) + 64) + rank * (64 + 32) + 32
    delta = plain_delta(adapter)
    model = PeftModel.from_pretrained(fresh_tower(), str(folder)).eval()
    with torch.no_grad(), folded(base.tower, delta):
        torch.testing.assert_close(base.tower(images), model(images), rtol=1e-5, atol=1e-5)
    merged = adaptable_modules(model.merge_and_unload())
    for name, module in adaptable_modules(base.tower).items():
        expected = module.weight + delta[name] if name in delta else module.weight
        torch.testing.assert_close(merged[name].weight, expected, rtol=1e-5, atol=1e-6)
    plain = {name: LowRank(module.a, module.b, module.scaling) for name, module in adapter.items()}
    assert all(float((module.delta() - delta[name]).abs().max()) > 1e-3 for name, module in plain.items())


def test_a_dora_refers_to_the_weights_of_the_base(
    base: BaseModel, make_adapter: MakeAdapter, read: ReadAdapter
) -> None:
    """The tower's own memory, and the values of when it was read, whatever is folded in later."""
    adapter = read(make_adapter(3, use_dora=True))
    modules = adaptable_modules(base.tower)
    assert all(module.weight is not None for module in adapter.values())
    assert all(module.weight.data_ptr() == modules[name].weight.data_ptr() for name, module in adapter.items())
    before = plain_delta(adapter)
    with folded(base.tower, before):
        assert all(torch.equal(value, before[name]) for name, value in plain_delta(adapter).items())


def test_a_magnitude_under_the_name_of_pefts_parameter(
    base: BaseModel, make_adapter: MakeAdapter, read: ReadAdapter
) -> None:
    folder = make_adapter(3, use_dora=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    rename(tensors, "lora_magnitude_vector", "lora_magnitude_vector.weight")
    found, expected = read_adapter(config, tensors, base.tower, source="x"), read(folder)
    assert all(torch.equal(found[name].delta(), module.delta()) for name, module in expected.items())


M = f"base_model.model.{BLOCK}.q_proj.lora_magnitude_vector"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c, t: c.update(use_dora=False), "does not set use_dora"),
        (lambda c, t: t.pop(M), "q_proj' has no lora_magnitude_vector"),
        (lambda c, t: t.pop(A), "q_proj' has no lora_A"),
        (lambda c, t: (t.pop(A), t.pop(B)), "lora_magnitude_vector alone"),
        (lambda c, t: t.update({M: torch.ones(63)}), r"magnitude \(63,\), but this base asks for \(64,\)"),
        (lambda c, t: t.update({M: torch.ones(64, 1)}), r"magnitude \(64, 1\)"),
        (lambda c, t: t.update({M: torch.ones(1)}), r"magnitude \(1,\)"),
        (lambda c, t: t.update({f"{M}.weight": torch.ones(64)}), "under two names"),
        (lambda c, t: t.update({f"{M}.default": torch.ones(64)}), "not part of a LoRA or DoRA"),
        (lambda c, t: t.update({M: torch.full((64,), math.nan)}), "no usable length"),
    ],
)
def test_a_dora_that_does_not_fit_is_refused(
    base: BaseModel, make_adapter: MakeAdapter, change: Callable[[dict[str, Any], dict[str, Any]], object], reason: str
) -> None:
    folder = make_adapter(1, use_dora=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    change(config, tensors)
    with pytest.raises(ForgeError, match=f"^north: .*{reason}"):
        read_adapter(config, tensors, base.tower, source="north")


def test_a_row_of_zeros_has_no_direction(fresh_tower: Callable[[], VisualTower], make_adapter: MakeAdapter) -> None:
    folder = make_adapter(1, use_dora=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    tower = fresh_tower()
    tower.projection.weight.data[3] = 0
    tensors["base_model.model.projection.lora_B.weight"][3] = 0
    with pytest.raises(ForgeError, match="'projection' has an output feature whose direction"):
        read_adapter(config, tensors, tower, source="north")
