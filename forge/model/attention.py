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
from forge.model.timm_tower import (
    WITH_PROJECTION,
    WITHOUT_PROJECTION,
    SplitQkv,
    keep_statistics,
    linear,
    projection_name,
    split_timm,
)

# W_q and W_v of every visual layer and the visual projection (MedForge (2025), section 4: plugin module).
PAPER_MODULES = r"trunk\.transformer\.resblocks\.\d+\.attn\.[qv]_proj|projection"


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
        self.q_proj, self.k_proj, self.v_proj = (linear(w, b) for w, b in parts)
        self.out_proj = linear(packed.out_proj.weight.detach(), packed.out_proj.bias)
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


class ClassTokenBlock(nn.Module):
    """The last block of a tower that reads its class token alone: open_clip's ResidualAttentionBlock for that token.

    The other tokens are keys and values; what they would become is not computed, unless `every_token` asks for it.
    Exact to float rounding (tests/model/test_attention.py); 6 to 10 % of a forward pass of the embedded base.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = block.ln_1, block.attn, block.ls_1
        self.ln_2, self.mlp, self.ls_2 = block.ln_2, block.mlp, block.ls_2
        self.every_token = False

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """[n, tokens, width] -> [n, 1, width], or [n, tokens, width] of every token."""
        normed = self.ln_1(tokens)
        asked, queries = (tokens, normed) if self.every_token else (tokens[:, :1], normed[:, :1])
        mixed: Tensor = asked + self.ls_1(self.attn(queries, normed, normed, attn_mask=attn_mask)[0])
        out: Tensor = mixed + self.ls_2(self.mlp(self.ln_2(mixed)))
        return out


class VisualTower(nn.Module):
    """A visual tower as `trunk` followed by `projection`: images -> embeddings.

    `trunk` is open_clip's VisionTransformer or its wrapper of timm's models, rewritten. `projection` is a Linear, but
    for towers of timm's that end otherwise. `plugin_modules` is a pattern of what a plugin module adapts.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        from open_clip.timm_model import TimmModel

        self.trunk: Any = visual
        if isinstance(visual, TimmModel):
            projection = split_timm(visual)
            self.plugin_modules = WITHOUT_PROJECTION if projection is None else WITH_PROJECTION
            self.projection: nn.Module = projection or nn.Identity()
            return
        self.plugin_modules = PAPER_MODULES
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
        if _reads_class_token(visual):
            blocks[-1] = ClassTokenBlock(blocks[-1])
        visual.proj = None
        if getattr(visual, "output_tokens", False):
            visual.output_tokens = False
        self.projection = linear(projection.detach().T, None)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images [n, 3, h, w] as [n, joint width], not yet of unit length."""
        embedded: Tensor = self.projection(self.trunk(images))
        return embedded

    def train(self, mode: bool = True) -> VisualTower:
        """As torch's, but what a frozen tower remembers of the images it was trained on stays as it is."""
        super().train(mode)
        keep_statistics(self)
        return self


def _reads_class_token(visual: Any) -> bool:
    """Whether nothing but the class token of the last block is read, and the block is of the plain kind."""
    from open_clip.transformer import ResidualAttentionBlock

    plain = type(visual.transformer.resblocks[-1]) is ResidualAttentionBlock
    return plain and visual.attn_pool is None and visual.pool_type == "tok"


def adaptable_modules(tower: VisualTower) -> dict[str, nn.Linear]:
    """Every Linear of the tower by name: what an adapter may change. Out of q, k, v, out, MLP and projection."""
    return {name: module for name, module in tower.named_modules() if isinstance(module, nn.Linear)}


def packed_state(tower: VisualTower, *, prefix: str = "visual.") -> dict[str, Tensor]:
    """The tower's weights under open_clip's own names: the inverse of building it."""
    state: dict[str, Tensor] = {}
    weights = tower.state_dict()
    attentions = {name for name, module in tower.named_modules() if isinstance(module, SplitAttention)}
    split = {name: module for name, module in tower.named_modules() if isinstance(module, SplitQkv)}
    for name, module in split.items():
        state |= module.packed(prefix + name.removeprefix("trunk."))
    for name, value in weights.items():
        path, _, last = name.rpartition(".")
        parent, _, part = path.rpartition(".")
        if path == "projection" and tower.plugin_modules != PAPER_MODULES:
            state[f"{prefix}{projection_name(tower.trunk)}.{last}"] = value
        elif path == "projection":
            state[f"{prefix}proj"] = value.T.contiguous()
        elif parent in split or (parent in attentions and part in ("k_proj", "v_proj")):
            continue
        elif parent in attentions and part == "q_proj":
            packed = torch.cat([weights[f"{parent}.{each}_proj.{last}"] for each in "qkv"])
            state[f"{prefix}{parent.removeprefix('trunk.')}.in_proj_{last}"] = packed
        else:
            state[prefix + name.removeprefix("trunk.")] = value
    return state
