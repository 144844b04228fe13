"""The strategies of the catalogue, one file each: how coefficients and adapters become a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from forge.model.adapters import Adapter
from forge.model.aims import Aim
from forge.model.base import BaseModel
from forge.model.composing import Members, Parts
from forge.model.objectives import Objective
from forge.model.strategies import fusion, mixture, mixture_output
from forge.recipe.catalogue import FUSION, MIXTURE, MIXTURE_OUTPUT, look_up


class Strategy(Protocol):
    """What a strategy does with members, adapters with a coefficient each; one_model.OneModel has it by one function.

    All raise ForgeError for members that the strategy has no meaning for.
    """

    def parts(self, members: Members) -> Parts:
        """The model: changes of the base's weights, each a model of its own, and their weights."""

    def as_sum(self, members: Members) -> Members:
        """The adapters and weights whose weighted sum of dW is the model, for an export.

        Computed in the members' own precision. Raises ForgeError where the model is several sets of weights.
        """

    def objective(self, base: BaseModel, adapters: Sequence[Adapter], aims: Sequence[Aim]) -> Objective:
        """The loss of the model on the aims, a differentiable function of coefficients."""


STRATEGIES: dict[str, Strategy] = {
    MIXTURE.name: mixture.STRATEGY,
    MIXTURE_OUTPUT.name: mixture_output.STRATEGY,
    FUSION.name: fusion.STRATEGY,
}


def implementation_of(name: str) -> Strategy:
    """What does the strategy of this name; ForgeError where there is none."""
    return look_up(STRATEGIES, name, "strategy")


def compose(strategy: str, members: Members) -> Parts:
    """The parts of a recipe: one of weight 1, or several models."""
    return implementation_of(strategy).parts(members)
