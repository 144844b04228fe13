"""Histories that nobody has thought of: hypothesis lets three people do to a model what people do to git.

After every step each commit is a whole model, made by the recursion from those it comes from, or the operation
stands still with a conflict and giving it up brings back exactly what was. Nothing is ever lost.

FORGE_TEST_HISTORIES=500 pytest -s tests/histories/test_random_histories.py runs more of them, other ones each time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from histories.random_histories import RandomHistories
from histories.workshop import Workshop
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

HISTORIES = int(os.environ.get("FORGE_TEST_HISTORIES", "0"))
STEPS = 20


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, server: Path, base_folder: Path) -> Workshop:
    return Workshop(server, base_folder, tmp_path_factory.mktemp("starts"))


def test_whatever_people_do_every_commit_is_a_whole_model_and_nothing_is_lost(
    workshop: Workshop, tmp_path: Path
) -> None:
    chosen = settings(
        max_examples=HISTORIES or 4,
        stateful_step_count=STEPS,
        derandomize=not HISTORIES,
        database=None,
        deadline=None,
        print_blob=True,
        verbosity=Verbosity.normal,
        phases=[Phase.generate, Phase.shrink] if HISTORIES else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: RandomHistories(workshop, tmp_path), settings=chosen)
    print_counts(workshop.counts)


def test_the_quick_git_forge_of_these_tests_makes_the_same_commit_as_the_real_one(
    workshop: Workshop, tmp_path: Path
) -> None:
    made = []
    for how in ("quick", "real"):
        alice = workshop.start("mixture", tmp_path / how)["alice"]
        if how == "real":
            subprocess.run([sys.executable, "-m", "forge", "install", "--force"], cwd=alice.top, check=True)
            assert not alice.driver_works()  # not by the quick one
        alice.ok("merge", "--quiet", "--no-edit", "north")
        made.append(alice.head)
    assert made[0] == made[1]


def print_counts(counts: Counter[str]) -> None:
    print()
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
