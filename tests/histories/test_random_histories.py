"""Histories that nobody has thought of: hypothesis lets three people do to a model what people do to git.

After every step each commit is a whole model, made by the recursion from those it comes from, or the operation
stands still with a conflict and giving it up brings back exactly what was. Nothing is ever lost.

FORGE_TEST_HISTORIES=500 pytest -s tests/histories/test_random_histories.py runs more of them, other ones each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from histories.forge_server import forge_server
from histories.oracle import PARTS, Recipe, merge_problems, tree_problems
from histories.random_histories import RandomHistories
from histories.workshop import Workshop
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from story.hospitals import make_base

HISTORIES = int(os.environ.get("FORGE_TEST_HISTORIES", "0"))
STEPS = 20


@pytest.fixture(scope="module")
def searching(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path) -> Iterator[Workshop]:
    """Where merges search their coefficients, on a tiny base."""
    base = make_base(tmp_path_factory.mktemp("bases") / "tiny")
    with forge_server(base) as program:
        yield Workshop(program, base, tmp_path_factory.mktemp("starts"))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory, server: Path) -> Workshop:
    """Where merges always find the same scales, so that there is time for many."""
    return Workshop(server, None, tmp_path_factory.mktemp("starts"))


def test_whatever_people_do_every_commit_is_a_whole_model_and_nothing_is_lost(fixed: Workshop, tmp_path: Path) -> None:
    run_histories(fixed, tmp_path, HISTORIES or 5)


def test_whatever_people_do_with_real_searches(searching: Workshop, tmp_path: Path) -> None:
    run_histories(searching, tmp_path, HISTORIES // 5 or 2)


def test_the_quick_git_forge_of_these_tests_makes_the_same_commit_as_the_real_one(
    searching: Workshop, tmp_path: Path
) -> None:
    made = []
    for how in ("quick", "real"):
        alice = searching.start("mixture", tmp_path / how)["alice"]
        if how == "real":
            subprocess.run([sys.executable, "-m", "forge", "install", "--force"], cwd=alice.top, check=True)
            assert not alice.driver_works()  # not by the quick one
        alice.ok("merge", "--quiet", "--no-edit", "north")
        made.append(alice.head)
    assert made[0] == made[1]


def recipe(ours: float | None = None, **coefficients: float) -> Recipe:
    """A recipe of contributions whose files are called as they are; with the scales of a merge, 0.5 for theirs."""
    contributions = {
        name: {"adapter": name, "config": name, "distilled": name, "coefficient": value}
        for name, value in coefficients.items()
    }
    search = {"method": "shiwa", "scales": {"ours": ours, "theirs": 0.5}} if ours is not None else None
    return Recipe(json.dumps({"strategy": "mixture", "contributions": contributions, "search": search}).encode())


def test_what_the_histories_are_judged_by_notices_a_wrong_model() -> None:
    before, ours, theirs = recipe(breast=1.0), recipe(breast=0.5, colon=1.0), recipe(breast=0.25, lung=1.0)
    right = recipe(0.8, breast=0.4, colon=0.8, lung=0.5)
    assert merge_problems(before, ours, theirs, right) == []
    assert merge_problems(before, ours, theirs, recipe(0.8, breast=0.4, colon=0.8, lung=0.8))  # by ours' scale
    assert merge_problems(before, ours, theirs, recipe(0.8, breast=0.4, colon=0.8))  # theirs is missing
    assert merge_problems(before, ours, theirs, ours)
    assert merge_problems(before, before, theirs, right)  # one side changed: its recipe, and nothing else
    blobs = {f"contributions/{name}/{file}": name for name in ours.ids for file in (*PARTS.values(), "card.toml")}
    settings = b'strategy = "mixture"'
    rest = json.dumps(ours.document)[1:].encode()
    text = b'{\n  "digest": "sha256:%s",\n%s' % (hashlib.sha256(b"{\n" + rest).hexdigest().encode(), rest)
    assert tree_problems(text, settings, blobs) == []
    assert tree_problems(text.replace(b"0.5", b"0.6"), settings, blobs) == ["the digest does not match"]
    assert tree_problems(text, b'strategy = "fusion"', blobs) and tree_problems(text, settings, {})
    assert tree_problems(text, settings, blobs | {"contributions/colon/adapter_config.json": "other"})


def run_histories(workshop: Workshop, folder: Path, count: int) -> None:
    chosen = settings(
        max_examples=count,
        stateful_step_count=STEPS,
        derandomize=not HISTORIES,
        database=None,
        deadline=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink] if HISTORIES else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: RandomHistories(workshop, folder), settings=chosen)
    print()
    for what, times in sorted(workshop.counts.items()):
        print(f"{times:6} {what}")
