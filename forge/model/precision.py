"""In how many bits the tower computes where gradients are taken: torch's autocast, as accelerate uses it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

MIXED_PRECISIONS = ("no", "bf16")


def precision(mixed: str, device: torch.device) -> AbstractContextManager[Any]:
    """What a forward pass runs in: as it is for "no", with matrix products in bfloat16 for "bf16"."""
    return nullcontext() if mixed == "no" else torch.autocast(device.type, torch.bfloat16)
