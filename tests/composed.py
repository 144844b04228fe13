"""Models of one set of weights, for tests."""

from __future__ import annotations

from torch import Tensor

from forge.model.composing import Members
from forge.model.strategies import compose


def merged_delta(strategy: str, members: Members) -> dict[str, Tensor]:
    """dW per module [out, in] of a recipe whose strategy is one set of weights."""
    ((delta, weight),) = compose(strategy, members)
    assert weight == 1.0
    return dict(delta)
