"""docs/threats.md names tests that exist, every test of a threat is in it, and every row says what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from histories.test_table import TESTS, found_in

TABLE = TESTS.parent / "docs" / "threats.md"
HERE = Path(__file__)


def rows() -> list[list[str]]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if row[0] not in ("Attack", "What") and not set(row[0]) <= {"-", " "}]


def named(row: list[str]) -> set[str]:
    return set(re.findall(r"`([\w/]+\.py::\w+)`", row[-1]))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:50])
def test_every_row_says_what_happens_and_names_tests_that_exist(row: list[str]) -> None:
    attack, *outcomes, _ = row
    assert attack and (any(outcomes) or not outcomes), row
    assert len(row) in (2, 4), row
    assert named(row), f"no test: {row}"
    files = {name.partition("::")[0] for name in named(row)}
    there = set().union(*(found_in(TESTS / file) for file in files))
    assert named(row) <= there, f"no such test: {sorted(named(row) - there)}"


def test_every_test_of_a_threat_is_in_the_table() -> None:
    listed = set().union(*(named(row) for row in rows()))
    assert len(rows()) > 40
    for file in sorted(HERE.parent.glob("test_*.py")):
        if file != HERE:
            assert found_in(file) <= listed, f"not in docs/threats.md: {sorted(found_in(file) - listed)}"
