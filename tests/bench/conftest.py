"""Consortia of two sizes, for tests that count what looking at a model takes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.bench.consortium import make_consortium
from forge.clone import setup as clone_setup

SIZES = (3, 30)


@pytest.fixture(scope="session")
def consortia(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path) -> dict[int, Path]:
    """The top folders by the number of contributions."""
    folder = tmp_path_factory.mktemp("consortia")
    for size in SIZES:
        make_consortium(folder / str(size), size)
    return {size: folder / str(size) for size in SIZES}


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
    """How often git was started since it was asked last, by verb, whoever started it."""
    monkeypatch.setattr(clone_setup, "ensure_installed", lambda repo: None)
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(trace))

    def count() -> Counter[str]:
        lines = trace.read_text().splitlines() if trace.exists() else []
        trace.unlink(missing_ok=True)
        events = [json.loads(line) for line in lines]
        return Counter(event["name"] for event in events if event["event"] == "cmd_name")

    return count
