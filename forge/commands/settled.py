"""What resolve and refold print: what was staged, and how to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forge.console import note, say

if TYPE_CHECKING:
    from forge.operations.settling import Settled


def print_settled(settled: Settled) -> None:
    """The trailers, what has no effect, and the next command."""
    say("The forge item is staged.")
    for line in settled.trailers:
        say(f"  {line}")
    for line in settled.without_effect:
        note(f"warning: {line}")
    say(f"Next: {settled.next}")
