"""timm's visual towers, as open_clip wraps them: W_q, W_k and W_v of each attention in a Linear of its own.

timm computes the three in one Linear called qkv, in whatever kind of attention. That one Linear is exchanged for one
that holds three and puts what they give side by side, exact to float rounding; the attention itself stays timm's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from forge.errors import ForgeError
from forge.model.unfilled import Unfilled

# W_q and W_v of every attention, and the last map into the joint space: a projection, or what stands for one.
_QUERIES_AND_VALUES = r"trunk\.trunk\..*\.(qkv\.)?[qv]_proj"
WITH_PROJECTION = rf"{_QUERIES_AND_VALUES}|projection"
WITHOUT_PROJECTION = rf"{_QUERIES_AND_VALUES}|trunk\.trunk\.attn_pool\.mlp\.fc2|trunk\.head\.mlp\.fc2"
_FROZEN = (nn.modules.batchnorm._BatchNorm,)


class SplitQkv(nn.Module):
    """q_proj, k_proj and v_proj in place of one Linear: [..., width] -> [..., 3 width], side by side.

    separate: q and v have a bias that the attention itself kept, and k has none (EVA).
    """

    def __init__(self, packed: nn.Linear, q_bias: Tensor | None = None, v_bias: Tensor | None = None) -> None:
        super().__init__()
        self.separate = q_bias is not None
        weights = packed.weight.detach().chunk(3)
        biases = packed.bias.detach().chunk(3) if packed.bias is not None else (q_bias, None, v_bias)
        self.q_proj, self.k_proj, self.v_proj = (linear(w, b) for w, b in zip(weights, biases, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)

    def packed(self, prefix: str) -> dict[str, Tensor]:
        """The weights under timm's own names; `prefix` is what this module is called there."""
        parts = (self.q_proj, self.k_proj, self.v_proj)
        state = {f"{prefix}.weight": torch.cat([part.weight.detach() for part in parts])}
        if self.separate:
            attention = prefix.removesuffix(".qkv")
            state[f"{attention}.q_bias"] = self.q_proj.bias.detach().clone()
            state[f"{attention}.v_bias"] = self.v_proj.bias.detach().clone()
        elif self.q_proj.bias is not None:
            state[f"{prefix}.bias"] = torch.cat([part.bias.detach() for part in parts])
        return state


def split_timm(visual: Any) -> nn.Linear | None:
    """Rewrite open_clip's TimmModel in place; the projection that was taken out of it, None where it has none.

    Raises ForgeError for a tower without attention, where there is nothing for an adapter to change.
    """
    attentions = 0
    for _, module in list(visual.trunk.named_modules()):
        qkv = getattr(module, "qkv", None)
        if isinstance(qkv, nn.Linear) and qkv.out_features % 3 == 0:
            q_bias, v_bias = getattr(module, "q_bias", None), getattr(module, "v_bias", None)
            if q_bias is not None and (v_bias is None or qkv.bias is not None):
                raise ForgeError(
                    f"the attention of this base ({type(module).__name__}) has biases of a kind of its own"
                )
            if q_bias is not None:
                module.q_bias = module.v_bias = module.k_bias = None  # the three Linears have them now
            module.qkv = SplitQkv(qkv, q_bias, v_bias)
            attentions += 1
        elif isinstance(getattr(module, "q_proj", None), nn.Linear):
            attentions += 1
    if not attentions:
        raise ForgeError(
            f"the visual tower of this base (timm's {type(visual.trunk).__name__}) has no attention, whose W_q and W_v "
            "an adapter changes",
            hint="choose a ViT base such as ViT-B-16, or the embedded one",
        )
    head = visual.head
    if isinstance(getattr(head, "proj", None), nn.Linear):
        projection: nn.Linear = head.proj
        head.proj = nn.Identity()
    elif isinstance(getattr(visual.trunk, "head", None), nn.Linear):
        projection = visual.trunk.head
        visual.trunk.head = nn.Identity()
    else:
        return None
    return linear(projection.weight.detach(), projection.bias)


def projection_name(visual: Any) -> str:
    """What open_clip calls the projection that split_timm took out."""
    return "head.proj" if hasattr(visual.head, "proj") else "trunk.head"


def keep_statistics(tower: nn.Module) -> None:
    """Keep what a frozen tower has seen of other images from changing while an adapter on it is trained."""
    for module in tower.modules():
        if isinstance(module, _FROZEN):
            module.eval()


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A Linear of its own with copies of these weights."""
    out_width, in_width = weight.shape
    with Unfilled():
        layer = nn.Linear(in_width, out_width, bias=bias is not None, device=weight.device)
    layer.weight.data = weight.clone().contiguous()
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    return layer
