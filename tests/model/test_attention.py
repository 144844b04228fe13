"""The split tower against open_clip's own, which packs q, k and v in one parameter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from torch import nn

from forge.errors import ForgeError
from forge.model.attention import SplitAttention, VisualTower, adaptable_modules, packed_state
from forge.model.base import BaseModel


@pytest.mark.parametrize("count", [1, 2, 10])
def test_the_split_tower_embeds_as_open_clip_does(
    base: BaseModel, open_clip_model: Any, images: torch.Tensor, count: int
) -> None:
    with torch.no_grad():
        expected = open_clip_model.encode_image(images[:count])
        torch.testing.assert_close(base.tower(images[:count]), expected, rtol=1e-6, atol=1e-6)


def test_gradients_of_the_pixels_are_open_clips(base: BaseModel, open_clip_model: Any, images: torch.Tensor) -> None:
    gradients = []
    for embed in (open_clip_model.encode_image, base.tower):
        pixels = images[:3].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(embed(pixels).square().sum(), [pixels])
        gradients.append(gradient)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pool_type": "avg"},
        {"ls_init_value": 0.1},
        {"no_ln_pre": True},
        {"final_ln_after_pool": True},
        {"image_size": [32, 16]},
        {"head_width": 16, "mlp_ratio": 2.0},
    ],
    ids=str,
)
def test_every_plain_vit_is_split_exactly_and_packed_again_bit_for_bit(
    tiny_config: dict[str, Any], changes: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    vision = {**tiny_config["model_cfg"]["vision_cfg"], **changes}
    clip = open_clip.CLIP(**{**tiny_config["model_cfg"], "vision_cfg": vision}).eval()
    for parameter in clip.visual.parameters():
        nn.init.normal_(parameter, std=0.1)  # biases too, which start at zero
    before = {f"visual.{name}": value.clone() for name, value in clip.visual.state_dict().items()}
    height, width = vision["image_size"] if isinstance(vision["image_size"], list) else (32, 32)
    pixels = torch.randn(2, 3, height, width)
    with torch.no_grad():
        expected = clip.encode_image(pixels)
        tower = VisualTower(clip.visual).eval()
        torch.testing.assert_close(tower(pixels), expected, rtol=1e-5, atol=1e-5)
    after = packed_state(tower)
    assert sorted(after) == sorted(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_attention_alone_is_pytorchs_with_and_without_bias_and_mask() -> None:
    torch.manual_seed(2)
    x = torch.randn(2, 5, 12)
    mask = torch.full((5, 5), float("-inf")).triu(1)
    for bias in (True, False):
        packed = nn.MultiheadAttention(12, 3, bias=bias, batch_first=True).eval()
        if bias:
            nn.init.normal_(packed.in_proj_bias)
        split = SplitAttention(copy.deepcopy(packed))
        with torch.no_grad():
            for attn_mask in (None, mask):
                expected, _ = packed(x, x, x, need_weights=False, attn_mask=attn_mask)
                found, weights = split(x, x, x, need_weights=False, attn_mask=attn_mask)
                torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
                assert weights is None


def test_the_modules_that_an_adapter_may_change(base: BaseModel) -> None:
    shapes = {name: tuple(module.weight.shape) for name, module in adaptable_modules(base.tower).items()}
    block = {
        "attn.q_proj": (64, 64),
        "attn.k_proj": (64, 64),
        "attn.v_proj": (64, 64),
        "attn.out_proj": (64, 64),
        "mlp.c_fc": (256, 64),
        "mlp.c_proj": (64, 256),
    }
    expected = {f"trunk.transformer.resblocks.{i}.{name}": s for i in (0, 1) for name, s in block.items()}
    assert shapes == {**expected, "projection": (32, 64)}


def test_the_split_copies_the_weights(fresh_tower: Callable[[], VisualTower], base: BaseModel) -> None:
    tower = fresh_tower()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.zero_()
    assert float(base.tower.projection.weight.abs().sum()) > 0


def refused(visual: Any, reason: str) -> None:
    with pytest.raises(ForgeError, match=reason):
        VisualTower(visual)


def test_other_kinds_of_towers_are_refused(tiny_config: dict[str, Any]) -> None:
    model = tiny_config["model_cfg"]
    resnet = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
    refused(open_clip.CLIP(**{**model, "vision_cfg": resnet}).visual, "ModifiedResNet.* is not open_clip's")
    refused(SimpleNamespace(trunk=nn.Identity(), head=nn.Identity()), "SimpleNamespace.* is not open_clip's")
    custom = {**model["vision_cfg"], "block_type": "custom", "qk_norm": True}
    refused(open_clip.CLIP(**{**model, "vision_cfg": custom}).visual, "attention .* not supported")


def test_other_kinds_of_attention_are_refused() -> None:
    with pytest.raises(ForgeError, match="key and value widths"):
        SplitAttention(nn.MultiheadAttention(12, 3, kdim=8, vdim=8, batch_first=True))
    with pytest.raises(ForgeError, match="key and value widths"):
        SplitAttention(nn.MultiheadAttention(12, 3, add_bias_kv=True, batch_first=True))
    with pytest.raises(ForgeError, match="tokens before images"):
        SplitAttention(nn.MultiheadAttention(12, 3))
