"""The table of histories in README.md names tests that exist, and every test of a history is in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
TABLE = HERE / "README.md"
# Files whose every test is about a history. Others may be named where they have one.
COVERED = (*sorted(HERE.glob("test_*.py")), TESTS / "story" / "test_histories.py")


def found_in(file: Path) -> set[str]:
    """The tests of a file, those in classes too, as the table names them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    found = {node.name for node in functions if node.name.startswith("test_")}
    found |= {  # a state machine of hypothesis is run by a class attribute of its own
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.startswith("Test")
    }
    return {f"{file.relative_to(TESTS).as_posix()}::{name}" for name in found}


def rows() -> list[list[str]]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if row[0] not in ("History", "") and not set(row[0]) <= {"-", ":"}]


def named(row: list[str]) -> set[str]:
    return set(re.findall(r"`([\w/]+\.py::\w+)`", row[2]))


def test_every_row_names_a_test_that_exists() -> None:
    there = set().union(*(found_in(file) for file in TESTS.rglob("test_*.py")))
    assert len(rows()) > 40
    for row in rows():
        assert len(row) == 3 and all(row), row
        assert named(row), f"no test: {row}"
        assert named(row) <= there, f"no such test: {sorted(named(row) - there)}"


def test_every_test_of_a_history_is_in_the_table() -> None:
    listed = set().union(*(named(row) for row in rows()))
    for file in COVERED:
        if file != Path(__file__):
            assert found_in(file) <= listed, f"not in README.md: {sorted(found_in(file) - listed)}"
