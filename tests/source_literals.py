"""The texts that the package's code holds, apart from what people read: a name that is spelled twice is found here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import forge

PACKAGE = Path(forge.__file__).parent


def literals(file: Path) -> Iterator[str]:
    """Every text of a module that has no space in it, parts of f-strings too; docstrings and messages are sentences."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if not any(map(str.isspace, text)):
                yield text


def modules_that_spell(*names: str) -> dict[str, set[str]]:
    """Each module of the package with a literal that holds one of the names, and which of them."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        spelled = {name for text in literals(file) for name in names if name in text}
        if spelled:
            found[file.relative_to(PACKAGE).as_posix()] = spelled
    return found
