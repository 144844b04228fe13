"""timm's towers against open_clip's own wrapper of them, which computes q, k and v in one Linear."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from open_clip.timm_model import TimmModel
from peft import LoraConfig, get_peft_model

from forge.errors import ForgeError
from forge.model.adapter_names import in_own_names
from forge.model.adapters import lora_config, plain_delta, read_adapter
from forge.model.attention import VisualTower, adaptable_modules, packed_state
from forge.model.composing import folded

# What a small tower of each kind is made from: timm's name, how open_clip pools and projects, and timm's keywords.
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
KINDS: dict[str, tuple[str, str, str | None, dict[str, Any]]] = {
    "BiomedCLIP": ("vit_base_patch16_224", "", "linear", SMALL),
    "SigLIP": ("vit_base_patch16_siglip_224", "map", "none", SMALL),
    "EVA02": ("eva02_base_patch16_clip_224", "token", None, {**SMALL, "ref_feat_shape": (4, 4)}),
    "EVA": ("eva_giant_patch14_224", "token", None, SMALL),
    "PE": ("vit_pe_core_tiny_patch16_384", "map", None, {**SMALL, "embed_dim": 48, "num_heads": 3}),
    "an MLP at the end": ("vit_base_patch16_224", "avg", "mlp", SMALL),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """small(kind): open_clip's wrapper of a small tower with random weights, its embeddings 24 wide."""

    def make(kind: str) -> Any:
        name, pool, proj, keywords = KINDS[kind]
        create = timm.create_model
        with monkeypatch.context() as patch, torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            patch.setattr(timm, "create_model", lambda name, **given: create(name, **given, **keywords))
            visual = TimmModel(name, 24, image_size=32, pool=pool, proj=proj)
            for parameter in visual.parameters():
                torch.nn.init.normal_(parameter, std=0.1)  # biases too, which start at zero
        return visual.eval()

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_split_exactly_and_packed_again_bit_for_bit(small: Any, kind: str, images: torch.Tensor) -> None:
    visual = small(kind)
    before = {f"visual.{name}": value.clone() for name, value in visual.state_dict().items()}
    with torch.no_grad():
        expected = visual(images)
        tower = VisualTower(visual).eval()
        torch.testing.assert_close(tower(images), expected, rtol=1e-5, atol=1e-5)
    names = set(adaptable_modules(tower))
    assert any(name.endswith("q_proj") for name in names)
    assert not any(name.endswith("qkv") for name in names)
    after = packed_state(tower)
    assert sorted(after) == sorted(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_plugin_module_changes(small: Any, kind: str, images: torch.Tensor) -> None:
    """W_q and W_v of both layers, and the last map into the joint space; PEFT's own merge is the oracle."""
    tower = VisualTower(small(kind)).eval()
    twin = copy.deepcopy(tower)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = get_peft_model(twin, lora_config(rank=4, alpha=8, dropout=0.0, modules=tower.plugin_modules))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(model)
    adapter = read_adapter({"r": 4, "lora_alpha": 8}, tensors, tower, source="x")
    last = {"SigLIP": "trunk.trunk.attn_pool.mlp.fc2", "an MLP at the end": "trunk.head.mlp.fc2"}.get(
        kind, "projection"
    )
    assert last in adapter
    assert len([name for name in adapter if name.endswith(("q_proj", "v_proj"))]) == 4
    with torch.no_grad(), folded(tower, plain_delta(adapter)):
        torch.testing.assert_close(tower(images), model.eval()(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_on_timms_packed_attention(small: Any, images: torch.Tensor, dora: bool) -> None:
    """Its rows are those of q, k and v; trained on open_clip's whole model, or on timm's alone."""
    visual = small("BiomedCLIP")
    tower = VisualTower(copy.deepcopy(visual)).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        settings = LoraConfig(r=4, lora_alpha=8, target_modules=r".*(attn\.(qkv|proj)|head\.proj)", use_dora=dora)
        model = get_peft_model(torch.nn.ModuleDict({"visual": visual}), settings)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
            if "lora_magnitude_vector" in name:
                parameter.data *= 0.5 + torch.rand(parameter.shape)
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(model)
    config = {"r": 4, "lora_alpha": 8, "use_dora": dora}
    found = in_own_names(config, tensors, adaptable_modules(tower), source="x")
    assert found is not None
    assert found.spelling == "open_clip"
    adapter = read_adapter(found.config, found.tensors, tower, source="x")
    assert len(adapter) == 2 * 4 + 1
    with torch.no_grad(), folded(tower, plain_delta(adapter)):
        expected = model.eval().base_model.model["visual"](images)
        torch.testing.assert_close(tower(images), expected, rtol=1e-4, atol=1e-5)
    of_timm = {key.replace("visual.trunk.", ""): value for key, value in tensors.items() if "trunk" in key}
    alone = in_own_names(config, of_timm, adaptable_modules(tower), source="x")
    assert alone is not None
    assert alone.spelling == "timm"
    assert all(torch.equal(value, found.tensors[key]) for key, value in alone.tensors.items())


def test_a_tower_without_attention_is_refused() -> None:
    with pytest.raises(ForgeError, match=r"timm's ConvNeXt\) has no attention"):
        VisualTower(TimmModel("convnext_atto", 24, proj="linear", pool=""))


def test_what_a_tower_has_seen_stays_while_an_adapter_is_trained(small: Any) -> None:
    visual = small("BiomedCLIP")
    visual.trunk.fc_norm = torch.nn.BatchNorm1d(48)
    tower = VisualTower(visual).eval()
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    tower.train()
    assert tower.trunk.trunk.training
    tower(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())
