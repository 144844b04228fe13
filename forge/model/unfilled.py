"""Building a torch module without filling its weights with random numbers that a checkpoint overwrites at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_FILLS = {
    torch.nn.init.normal_,
    torch.nn.init.uniform_,
    torch.nn.init.trunc_normal_,
    torch.nn.init.kaiming_normal_,
    torch.nn.init.kaiming_uniform_,
    torch.nn.init.xavier_normal_,
    torch.nn.init.xavier_uniform_,
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
}


class Unfilled(TorchFunctionMode):
    """A context in which torch's random fills leave tensors as they are, and torch.randn gives an empty one.

    For models whose every parameter is loaded afterwards; half of the time that loading ViT-B/16 took went into numbers
    that nobody saw. The global generator is not drawn from.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        if func is torch.randn:
            return torch.empty(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
