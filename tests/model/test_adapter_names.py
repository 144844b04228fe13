"""Adapters under other programs' names: transformers, PEFT and open_clip, which trained them, are the oracle."""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from forge.errors import ForgeError
from forge.model.adapter_names import in_own_names
from forge.model.adapters import plain_delta, read_adapter
from forge.model.attention import adaptable_modules
from forge.model.base import BaseModel, load_base
from forge.model.composing import folded

Tensors = dict[str, torch.Tensor]
Parts = tuple[dict[str, Any], Tensors]

# open_clip's name of a block's weight -> transformers'.
OF_TRANSFORMERS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def stir(model: torch.nn.Module) -> None:
    """Factors that do something, as after training."""
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        if "lora_magnitude_vector" in name:
            parameter.data *= 0.5 + torch.rand(parameter.shape)


@pytest.fixture(autouse=True)
def newer_transformers() -> Iterator[None]:
    """PEFT asks transformers by a name that transformers gives another one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


def saved(model: Any, folder: Path) -> Parts:
    model.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    return config, load_file(folder / "adapter_model.safetensors")


def as_open_clip(state: Tensors, layers: int, tower: str, inner: str) -> Tensors:
    """The layers of one of transformers' towers under open_clip's names."""
    found = {}
    for layer in range(layers):
        there, here = f"{tower}.encoder.layers.{layer}", f"{inner}transformer.resblocks.{layer}"
        for last in ("weight", "bias"):
            for ours, theirs in OF_TRANSFORMERS.items():
                found[f"{here}.{ours}.{last}"] = state[f"{there}.{theirs}.{last}"]
            packed = [state[f"{there}.self_attn.{part}_proj.{last}"] for part in "qkv"]
            found[f"{here}.attn.in_proj_{last}"] = torch.cat(packed)
    return found


@pytest.fixture(scope="module")
def of_transformers() -> Any:
    """A CLIP of transformers with random weights."""
    from transformers import CLIPConfig, CLIPModel

    common = {"hidden_act": "quick_gelu", "projection_dim": 24}
    vision = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8, **common}  # fmt: skip
    text = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
            "vocab_size": 49408, "max_position_embeddings": 16, "bos_token_id": 49406, "eos_token_id": 49407,
            **common}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        model.logit_scale.data.fill_(2.0)
    return model


@pytest.fixture(scope="module")
def same_base(of_transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """The same CLIP as a folder in open_clip's layout."""
    state = {name: value.detach().clone() for name, value in of_transformers.state_dict().items()}
    tower, words = "vision_model", "text_model"
    weights = {
        "logit_scale": state["logit_scale"],
        "positional_embedding": state[f"{words}.embeddings.position_embedding.weight"],
        "token_embedding.weight": state[f"{words}.embeddings.token_embedding.weight"],
        "text_projection": state["text_projection.weight"].T,
        "visual.proj": state["visual_projection.weight"].T,
        "visual.class_embedding": state[f"{tower}.embeddings.class_embedding"],
        "visual.conv1.weight": state[f"{tower}.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state[f"{tower}.embeddings.position_embedding.weight"],
        **as_open_clip(state, 2, tower, "visual."),
        **as_open_clip(state, 1, words, ""),
    }
    for last in ("weight", "bias"):
        weights[f"visual.ln_pre.{last}"] = state[f"{tower}.pre_layrnorm.{last}"]
        weights[f"visual.ln_post.{last}"] = state[f"{tower}.post_layernorm.{last}"]
        weights[f"ln_final.{last}"] = state[f"{words}.final_layer_norm.{last}"]
    folder = tmp_path_factory.mktemp("same")
    config = {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    contiguous = {name: value.contiguous().clone() for name, value in weights.items()}
    save_file(contiguous, folder / "open_clip_model.safetensors")
    return load_base(str(folder))


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_of_transformers_says_the_same(
    of_transformers: Any, same_base: BaseModel, tmp_path: Path, images: torch.Tensor, dora: bool
) -> None:
    labels = ("benign lung tissues", "lung squamous cell carcinomas")
    targets = r"vision_model\..*\.(q_proj|v_proj|fc1)|visual_projection"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = get_peft_model(
            copy.deepcopy(of_transformers), LoraConfig(r=4, lora_alpha=8, target_modules=targets, use_dora=dora)
        )
        stir(model)
    config, tensors = saved(model.eval(), tmp_path)
    found = in_own_names(config, tensors, adaptable_modules(same_base.tower), source="x")
    assert found is not None
    assert (found.spelling, len(found.tensors)) == ("transformers", len(tensors))
    assert found.config["target_modules"][0] == "projection"
    assert found.config["auto_mapping"] is None
    adapter = read_adapter(found.config, found.tensors, same_base.tower, source="x")
    tokens = same_base.tokenizer(list(labels))
    with torch.no_grad(), folded(same_base.tower, plain_delta(adapter)):
        embedded = F.normalize(same_base.tower(images), dim=-1)
        ours = (same_base.logit_scale * embedded @ same_base.text_embeddings(labels).T).softmax(-1)
        theirs = model(input_ids=tokens, pixel_values=images).logits_per_image.softmax(-1)
        plain = of_transformers(input_ids=tokens, pixel_values=images).logits_per_image.softmax(-1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert float((plain - theirs).abs().max()) > 0.01


def test_of_the_visual_tower_alone(of_transformers: Any, same_base: BaseModel) -> None:
    """CLIPVisionModel has no vision_model before its layers; PEFT writes down which class it was."""
    key = "base_model.model.encoder.layers.1.self_attn.q_proj.lora_{}.weight"
    tensors = {key.format("A"): torch.ones(4, 32), key.format("B"): torch.ones(32, 4)}
    modules = adaptable_modules(same_base.tower)
    said = {"auto_mapping": {"base_model_class": "CLIPVisionModel"}}
    found = in_own_names(said, tensors, modules, source="x")
    assert found is not None
    assert "base_model.model.trunk.transformer.resblocks.1.attn.q_proj.lora_A.weight" in found.tensors
    with pytest.raises(ForgeError, match=r"'encoder\.layers\.1\.self_attn\.q_proj'") as caught:
        in_own_names({}, tensors, modules, source="x")
    assert "does not say whether that is the visual tower" in (caught.value.hint or "")


@pytest.fixture
def parts(make_adapter: Callable[..., Path]) -> Parts:
    folder = make_adapter(1, use_dora=True)
    return (
        json.loads((folder / "adapter_config.json").read_text()),
        load_file(folder / "adapter_model.safetensors"),
    )


@pytest.mark.parametrize(
    ("old", "new", "spelling"),
    [
        (r"model\.trunk\.transformer", "model.visual.transformer", "open_clip"),
        (r"^base_model\.model\.", "base_model.model._orig_mod.", "what wraps a model"),
        (r"^base_model\.model\.", "_orig_mod.base_model.model.module.", "what wraps a model"),
        (r"^base_model\.model\.", "module.", "what wraps a model"),
        (r"(lora_[AB])\.weight$", r"\1.default.weight", "what wraps a model"),
        (r"^", "", None),
    ],
)
def test_spellings_of_one_adapter(base: BaseModel, parts: Parts, old: str, new: str, spelling: str | None) -> None:
    config, tensors = parts
    if "lora_" in old:
        tensors = {re.sub(r"(vector)$", r"\1.default.weight", key): value for key, value in tensors.items()}
    other = {re.sub(old, new, key): value for key, value in tensors.items()}
    found = in_own_names(config, other, adaptable_modules(base.tower), source="x")
    if spelling is None:
        assert found is None
        return
    assert found is not None
    assert found.spelling == spelling
    assert set(found.tensors) == set(parts[1])
    assert all(torch.equal(found.tensors[key], value) for key, value in parts[1].items())


def test_a_lora_on_pytorchs_packed_attention(base: BaseModel, open_clip_model: Any, tmp_path: Path) -> None:
    """PEFT adapts nn.MultiheadAttention as one, but what that does is not what its factors say."""
    model = get_peft_model(copy.deepcopy(open_clip_model), LoraConfig(r=4, target_modules=r"visual\..*\.attn"))
    config, tensors = saved(model, tmp_path)
    with pytest.raises(ForgeError, match=r"'visual\.transformer\.resblocks\.0\.attn") as caught:
        in_own_names(config, tensors, adaptable_modules(base.tower), source="x")
    assert "counts its out_proj twice" in (caught.value.hint or "")


BLOCK = r"trunk\.transformer\.resblocks\.1"


@pytest.mark.parametrize(
    ("old", "new", "reason", "hint"),
    [
        (BLOCK, "visual.transformer.resblocks.7", "resblocks.7", "this base has 2 layers"),
        (BLOCK + r"\.attn", "vision_model.encoder.layers.7.self_attn", "layers.7", "this base has 2 layers"),
        (BLOCK + r"\.attn", "text_model.encoder.layers.1.self_attn", "text_model", "the visual tower alone"),
        (BLOCK, "text.transformer.resblocks.1", "text.transformer", "the visual tower alone"),
        (
            BLOCK,
            "transformer.resblocks.1",
            "'transformer.resblocks",
            "here called projection, trunk.transformer.resblocks.0",
        ),
        (BLOCK, "someone.visual.transformer.resblocks.1", "more than one model", "save each on its own"),
        (r"^(.*resblocks\.1.*)lora_([AB])", r"\1lora_\2.other", "more than one adapter", "save each on its own"),
    ],
)
def test_what_does_not_fit_is_told_by_what_is_missing(
    base: BaseModel, parts: Parts, old: str, new: str, reason: str, hint: str
) -> None:
    config, tensors = parts
    spoilt = {re.sub(old, new, key): value for key, value in tensors.items()}
    with pytest.raises(ForgeError, match=f"^x: .*{re.escape(reason)}") as caught:
        in_own_names(config, spoilt, adaptable_modules(base.tower), source="x")
    assert hint in (caught.value.hint or "")
    assert "another base" not in f"{caught.value.message} {caught.value.hint}"


def test_what_is_no_factor_is_left_to_whoever_reads_it(base: BaseModel, parts: Parts) -> None:
    config, tensors = parts
    tensors["base_model.model.classifier.weight"] = torch.ones(2, 2)
    assert in_own_names(config, tensors, adaptable_modules(base.tower), source="x") is None
    with pytest.raises(ForgeError, match="classifier"):
        read_adapter(config, tensors, base.tower, source="x")
