"""Why files of a data set are left out."""

from __future__ import annotations


class Reason(str):
    """A reason as a person reads it, who may be told names; `general` is the same for the card, without any."""

    general: str

    def __new__(cls, shown: str, general: str | None = None) -> Reason:
        reason = super().__new__(cls, shown)
        reason.general = shown if general is None else general
        return reason


def another_split(name: str) -> Reason:
    return Reason(f"in {name} (another split)", "in another split")
