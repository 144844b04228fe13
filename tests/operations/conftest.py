"""The fixtures of settled_models, for every test here."""

from operations.settled_models import settled, settled_original

__all__ = ["settled", "settled_original"]
