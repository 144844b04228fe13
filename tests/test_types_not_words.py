"""No message, hint or note decides anything: rewording one changes what people read, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from forge import cli

FORGE = Path(cli.__file__).parent
FILES = sorted(FORGE.rglob("*.py"))
WORDS = ("message", "hint", "text")  # of a ForgeError, and of a problem
OWNERS = ("error", "first", "problem", "caught")
LOOKS = ("startswith", "endswith", "find", "index", "count", "removeprefix", "removesuffix")


def is_wording(node: ast.AST) -> bool:
    """`error.message`, `error.hint`, `problem.text` or `str(error)`."""
    if isinstance(node, ast.Attribute):
        return node.attr in WORDS and isinstance(node.value, ast.Name) and node.value.id in OWNERS
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("str", "repr")
    return called and any(isinstance(arg, ast.Name) and arg.id in OWNERS for arg in node.args)


def decisions(tree: ast.AST) -> list[int]:
    """The lines in which wording is compared, searched, or asked how it begins."""
    lines = []
    for node in ast.walk(tree):
        looked_at: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            looked_at = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "re":
                looked_at = node.args
            elif node.func.attr in LOOKS:
                looked_at = [owner]
                is_note = isinstance(owner, ast.Name) and owner.id == "note"  # of progress
                lines += [node.lineno] if is_note else []
        if any(is_wording(each) for each in looked_at):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FORGE).as_posix())
def test_no_wording_decides(path: Path) -> None:
    assert decisions(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "error.message == 'gone'",
        "'gone' in error.message",
        "error.message in unseen",
        "error.hint.startswith('git ')",
        "'gone' in str(error)",
        "re.search('gone', error.message)",
        "note.startswith('loss')",
        "problem.text in unseen",
    ],
)
def test_the_sign_sees(text: str) -> None:
    assert decisions(ast.parse(text)) == [1]
