"""The models of the histories, with a search that always finds the same scales and a git forge that starts at once."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from histories import fixed_scales
from histories.conftest import Files, contributions, hospitals, merged, model, pair, quick, server

from forge.clone import setup as clone_setup

__all__ = ["Files", "contributions", "hospitals", "merged", "model", "pair", "quick", "server"]


@pytest.fixture(scope="module")
def quick_for_all(server: Path) -> Iterator[Path]:
    """As `quick`, for all tests of a file."""
    program = server / "git-forge"
    with fixed_scales.fixed_scales() as patch:
        patch.setattr(clone_setup, "program", lambda: shlex.quote(str(program)))
        yield program
