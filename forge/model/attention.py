"""open_clip's visual tower with every adaptable weight in a Linear of its own.

open_clip packs W_q, W_k and W_v of a layer into one parameter and keeps the visual projection as a bare
matrix; PEFT adapts Linear modules. The tower is rewritten once, exactly to float rounding, and can be
written back into open_clip's own layout (`packed_state`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forge.errors import ForgeError


class SplitAttention(nn.Module):
    """Self-attention with q, k, v and output as separate Linear modules; replaces nn.MultiheadAttention."""

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        width, self.heads = packed.embed_dim, packed.num_heads
        weight, bias = packed.in_proj_weight, packed.in_proj_bias
        if weight is None or packed.bias_k is not None:
            raise ForgeError("this base's attention has key and value widths of its own, which is not supported")
        if not packed.batch_first:
            raise ForgeError("this base's attention puts tokens before images, which is not supported")
        parts = zip(weight.detach().chunk(3), bias.detach().chunk(3) if bias is not None else [None] * 3, strict=True)
        self.q_proj, self.k_proj, self.v_proj = (_linear(w, b) for w, b in parts)
        self.out_proj = _linear(packed.out_proj.weight.detach(), packed.out_proj.bias)
        self.head_width = width // self.heads

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Attend over [n, tokens, width]; the signature and the pair returned are nn.MultiheadAttention's."""
        q, k, v = (
            projection(x).unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)
            for projection, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2)), None


class VisualTower(nn.Module):
    """An open_clip VisionTransformer as `trunk` followed by `projection`, a Linear: images -> embeddings."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
        projection = getattr(visual, "proj", None)
        if blocks is None or not isinstance(projection, nn.Parameter):
            raise ForgeError(
                f"the visual tower of this base ({type(visual).__name__}) is not open_clip's VisionTransformer",
                hint="choose a ViT base such as ViT-B-16, or the embedded one",
            )
        for block in blocks:
            if not isinstance(getattr(block, "attn", None), nn.MultiheadAttention):
                raise ForgeError(
                    f"the attention of this base ({type(block).__name__}) is of a kind that is not supported",
                    hint="choose a plain ViT base such as ViT-B-16, or the embedded one",
                )
            block.attn = SplitAttention(block.attn)
        visual.proj = None
        if getattr(visual, "output_tokens", False):
            visual.output_tokens = False
        self.trunk: Any = visual
        self.projection = _linear(projection.detach().T, None)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images [n, 3, h, w] as [n, joint width], not yet of unit length."""
        embedded: Tensor = self.projection(self.trunk(images))
        return embedded


def adaptable_modules(tower: VisualTower) -> dict[str, nn.Linear]:
    """Every Linear of the tower by name: what an adapter may change. Out of q, k, v, out, MLP and projection."""
    return {name: module for name, module in tower.named_modules() if isinstance(module, nn.Linear)}


def packed_state(tower: VisualTower, *, prefix: str = "visual.") -> dict[str, Tensor]:
    """The tower's weights under open_clip's own names: the inverse of building it."""
    state: dict[str, Tensor] = {}
    weights = tower.state_dict()
    for name, value in weights.items():
        if name == "projection.weight":
            state[f"{prefix}proj"] = value.T.contiguous()
            continue
        name = name.removeprefix("trunk.")
        stem, _, last = name.rpartition(".")
        if stem.endswith((".attn.k_proj", ".attn.v_proj")):
            continue
        if stem.endswith(".attn.q_proj"):
            stem = stem.removesuffix(".q_proj")
            parts = [weights[f"trunk.{stem}.{part}_proj.{last}"] for part in "qkv"]
            state[f"{prefix}{stem}.in_proj_{last}"] = torch.cat(parts)
        else:
            state[prefix + name] = value
    return state


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    out_width, in_width = weight.shape
    linear = nn.Linear(in_width, out_width, bias=bias is not None)
    linear.weight.data = weight.clone().contiguous()
    if bias is not None:
        linear.bias.data = bias.detach().clone()
    return linear
