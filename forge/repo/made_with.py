"""Which adapter a distilled set was made with: the card names it, for the methods that need one.

A contributor who trains again and forgets to distil again would commit images that stand for an adapter that is gone.
"""

from __future__ import annotations

import hashlib

from forge.git.lfs import parse_pointer
from forge.recipe.card import Card

KEY = "adapter"  # in [distillation]; cards of earlier versions, and of methods without an adapter, have none


def adapter_id(weights: bytes, source: str) -> str:
    """How a card names an adapter: the SHA-256 of its file as git stores it, wherever that is kept."""
    from forge.formats.safetensors import canonicalise

    pointer = parse_pointer(weights)
    if pointer is not None and not pointer.altered:
        return f"sha256:{pointer.oid}"
    digest = hashlib.sha256()
    for piece in canonicalise(weights, source):
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def made_with_another(card: Card, weights: bytes, source: str) -> bool:
    """Whether a card says of the distilled set that it was made with another adapter than `weights`."""
    recorded = card.distillation.get(KEY)
    return isinstance(recorded, str) and recorded != adapter_id(weights, source)
