"""Mixture at the output, as the paper's released code has it: p(y|x) = sum_k c_k p_k(y|x) / sum_k c_k.

One forward pass per contribution. It is there to be compared with: Mixture at every layer is one set of weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.model.adapters import Adapter, plain_delta
from forge.model.aims import Aim, aim_loss, total_loss
from forge.model.base import BaseModel
from forge.model.composing import BASE_ALONE, Members, Parts
from forge.model.curvature import Quadratic
from forge.model.objectives import Objective
from forge.model.scoring import mix_outputs, outputs
from forge.recipe.catalogue import DEFAULT_STRATEGY, MIXTURE_OUTPUT


class MixtureOutput:
    """Coefficients weigh probabilities: one a contribution, of at least zero; all zero are the base alone."""

    def parts(self, members: Members) -> Parts:
        return tuple((plain_delta(adapter), weight) for adapter, weight in _weighed(members)) or BASE_ALONE

    def as_sum(self, members: Members) -> Members:
        weighed = _weighed(members)
        if len(weighed) > 1:
            raise ForgeError(
                f"{MIXTURE_OUTPUT.name} weighs the predictions of {len(weighed)} models, which no single set of "
                "weights does, so it cannot be exported",
                hint=f'`git forge predict` uses it as it is; strategy = "{DEFAULT_STRATEGY}" in forge.toml makes one '
                "set of weights",
            )
        return [(adapter, 1.0) for adapter, _ in weighed]  # of any weight: weights are relative

    def objective(self, base: BaseModel, adapters: Sequence[Adapter], aims: Sequence[Aim]) -> Objective:
        """C [members, 1] are weights of zero and more.

        softmax(logits_k) does not depend on the coefficients, so every member runs once, here; a call costs next to
        nothing. The mixture is normalised, log sum_k c_k p_k - log sum_k c_k: its likelihood is convex in the shares.
        """
        deltas = [plain_delta(adapter) for adapter in adapters]
        cached = [
            torch.stack([outputs(base, delta, aim.pixels, aim.labels).log_softmax(-1) for delta in deltas])
            for aim in aims
        ]

        def total(coefficients: Tensor) -> Tensor:
            mixtures = [mix_outputs(log_probabilities, coefficients[:, 0]) for log_probabilities in cached]
            return torch.stack([aim_loss(aim, out) for aim, out in zip(aims, mixtures, strict=True)]).sum()

        def value(point: Tensor) -> float:
            if not bool((point > 0).any()):
                return total_loss(base, aims)
            with torch.no_grad():
                return float(total(point.to(base.device)))

        def quadratic(point: Tensor) -> Quadratic:
            weights = point[:, 0].double().to(base.device)
            whole = weights.sum()
            every = sum(aim.share for aim in aims)  # of the log of the sum, by which the mixture is normalised
            gradient = (every / whole).expand(len(weights))
            matrix = (-every / whole.square()).repeat(len(weights), len(weights))
            for aim, each in zip(aims, cached, strict=True):
                p = each.double().exp()
                raised = p / torch.einsum("k,knc->nc", weights, p).clamp_min(1e-300)  # of log sum_k c_k p_k by c_k
                share = aim.share / len(aim.targets) * aim.targets.double()
                gradient = gradient - torch.einsum("nc,knc->k", share, raised)
                matrix += torch.einsum("nc,knc,lnc->kl", share, raised, raised)
            return Quadratic(value(point), gradient.cpu(), matrix.cpu())

        return Objective(value, quadratic)


def _weighed(members: Members) -> list[tuple[Adapter, float]]:
    """The members with a weight above zero."""
    weighed = []
    for adapter, coefficient in members:
        if not isinstance(coefficient, int | float):
            raise ForgeError(
                f"{MIXTURE_OUTPUT.name} weighs whole models, so a coefficient per module has no meaning for it",
                hint=f'use strategy = "{DEFAULT_STRATEGY}" in forge.toml',
            )
        if coefficient < 0:
            raise ForgeError(f"{MIXTURE_OUTPUT.name} weighs probabilities, so no coefficient can be below zero")
        if coefficient > 0:
            weighed.append((adapter, float(coefficient)))
    return weighed


STRATEGY = MixtureOutput()
