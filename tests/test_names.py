"""A value's name says what it is, not how it was come by."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import forge

PACKAGE = Path(forge.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
COME_BY = ("found", "wanted", "told", "made", "mine", "said")


def names_given(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of every variable, field and parameter that a module gives a value."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def names_of_coming_by(text: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in names_given(ast.parse(text)) if name in COME_BY]


def file_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=file_of)
def test_no_value_is_named_after_how_it_was_come_by(path: Path) -> None:
    assert names_of_coming_by(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "found = files",
        "found: list[str]",
        "found += files",
        "mine, other = entries",
        "for said in lines: pass",
        "with opened as made: pass",
        "known = [found for found in files]",
        "if (found := files): pass",
        "self.found = files",
        "def read(wanted): pass",
        "def read(*, told=None): pass",
        "read = lambda made: made",
        "try: pass\nexcept OSError as said: pass",
        "match files:\n    case [*found]: pass",
        "import files as found",
    ],
)
def test_such_a_name_is_seen(text: str) -> None:
    assert len(names_of_coming_by(text)) == 1


@pytest.mark.parametrize("text", ["read(found)", "files = found.files", "files = read(wanted=1)", "'found'"])
def test_a_name_that_is_used_is_not_given(text: str) -> None:
    assert names_of_coming_by(text) == []
