"""Mixture (MedForge (2025), Eq. 4, at every adapted layer): dW = sum_k c_k dW_k."""

from __future__ import annotations

from forge.model.strategies.one_model import OneModel

STRATEGY = OneModel(lambda members: members)
