"""docs/format.md: every rule has a number of its own and names tests that exist; every test of growing is a rule's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from histories.test_table import TESTS, found_in

SPECIFICATION = TESTS.parent / "docs" / "format.md"
SECTIONS = "FIGPCS"


def rows() -> list[list[str]]:
    lines = SPECIFICATION.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines if line[:1] == "|"]
    return [row for row in cells if row[0] != "Rule" and not set(row[0]) <= {"-"}]


def named(row: list[str]) -> set[str]:
    return set(re.findall(r"`([\w/]+\.py::\w+)`", row[-1]))


def test_every_rule_has_a_number_of_its_own_in_order() -> None:
    numbers = [row[0] for row in rows()]
    counted = {letter: sum(number[0] == letter for number in numbers) for letter in SECTIONS}
    assert numbers == [f"{letter}{number}" for letter, count in counted.items() for number in range(1, count + 1)]
    assert min(counted.values()) > 2


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_rule_says_something_and_names_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 3 and len(row[1]) > 20, row
    there = set().union(*(found_in(TESTS / name.partition("::")[0]) for name in named(row)))
    assert named(row) and named(row) <= there, f"no such test: {sorted(named(row) - there)}"


def test_every_test_of_growing_is_a_rule_s() -> None:
    listed = set().union(*map(named, rows()))
    plain = {"recipe/test_growing.py::test_what_the_item_with_everything_says"}
    assert found_in(Path(__file__).with_name("test_growing.py")) - plain <= listed
