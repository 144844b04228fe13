"""The benchmark of growth: its consortia are what they say, and its rows become exponents and a plot."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.bench import growing
from examples.bench.consortium import make_consortium
from forge.git.running import find_repository, git_text
from forge.repo.items import read_item


def test_versions_beyond_the_contributions_weigh_everybody_anew(tmp_path: Path) -> None:
    make_consortium(tmp_path / "model", 3, versions=6)
    repo = find_repository(tmp_path / "model")
    commits = git_text(repo, "rev-list", "HEAD").split()
    items = [read_item(repo, commit) for commit in commits]
    assert [len(item.contributions) for item in items] == [3, 3, 3, 3, 2, 1, 0]  # the newest first
    assert len({item.contributions for item in items}) == 7


def test_every_command_runs_and_is_drawn(tmp_path: Path) -> None:
    rows = growing.run_all([2, 4], [5, 6], 3)
    assert {row["what"] for row in rows} == {*growing.COMMANDS, "pack"}
    assert len(rows) == 4 * (len(growing.COMMANDS) + 1)
    growing.draw(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_what_doubles_with_the_size_has_an_exponent_of_one() -> None:
    rows: list[dict[str, object]] = [
        {
            "growing": "versions",
            "contributions": 1,
            "versions": size,
            "what": "git clone",
            "value": 2 * size,
            "start": 9,
        }
        for size in (10, 100, 1000)
    ]
    sizes, values, k = growing.fitted(rows, "versions", "git clone")
    assert (sizes, values) == ([10, 100, 1000], [20.0, 200.0, 2000.0])
    assert k == pytest.approx(1)
