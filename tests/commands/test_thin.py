"""Signs that a command is thin: it parses, calls its verb's operation, and prints; and an operation prints nothing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import forge.commands
import forge.operations
from forge import cli

FORGE = Path(cli.__file__).parent
VERBS = [verb.replace("-", "_") for verb in (*cli.VERBS, *cli.PLUMBING)]
# What several commands have in common.
SHARED = {"__init__", "group", "model_json", "push_options", "reading", "settled", "several", "tables"}
# A verb without an operation, and why.
WITHOUT_OPERATION = {"textconv": "it is one function of forge.formats, which git calls for a file and not for a model"}
# What a command may import beside its operation: what prints, words for people, and values to hand on.
ALLOWED = (
    "click",
    "forge.commands",
    "forge.console",
    "forge.errors",
    "forge.operations",
    "forge.processes",  # whether others share the work
    "forge.text",
    "forge.recipe.catalogue",  # the choices and their help
    "forge.recipe.layout",  # names of files
    "forge.recipe.item_keys.written",  # a recipe's values as JSON has them
    "forge.recipe.wording",
    "forge.recipe.settings",  # constants
    "forge.data.listing.ReadOptions",
    "forge.data.matching.Given",
)
MOST_STATEMENTS = 14  # of a callback, without imports and docstring; a `with` or `if` counts as one and what is in it
# Who may speak on the way all the same, and why.
SPEAKING = {"bases": "what is to be known of a base is said once, when it is loaded, whoever asked for it"}
LIMIT_FOR_A_FILE = 400


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    """The full names that are imported anywhere in a tree, but for those that only types need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def statements(body: list[ast.stmt]) -> int:
    """How many statements there are, nested ones as well, without imports and docstrings."""
    nodes = [node for statement in body for node in ast.walk(statement) if isinstance(node, ast.stmt)]
    return sum(
        not isinstance(node, ast.Import | ast.ImportFrom)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in nodes
    )


def is_allowed(name: str) -> bool:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return top not in ("subprocess", "shutil", "tempfile")
    return any(name == each or name.startswith(f"{each}.") for each in ALLOWED)


def command_files() -> list[Path]:
    return sorted((FORGE / "commands").glob("*.py"))


@pytest.mark.parametrize("path", command_files(), ids=lambda path: path.stem)
def test_a_command_imports_what_parses_and_prints(path: Path) -> None:
    names = set(imports(tree_of(path)))
    if path.stem in WITHOUT_OPERATION:
        names = {name for name in names if not name.startswith("forge.formats.")}
    assert not [name for name in names if not is_allowed(name)]


@pytest.mark.parametrize("verb", VERBS)
def test_a_callback_is_short_and_calls_its_own_operation(verb: str) -> None:
    tree = tree_of(FORGE / "commands" / f"{verb}.py")
    (callback,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "command"]
    assert statements(callback.body) <= MOST_STATEMENTS
    operations = {name.split(".")[2] for name in imports(callback) if name.startswith("forge.operations.")}
    assert operations - {"opening"} == (set() if verb in WITHOUT_OPERATION else {verb})


def test_every_verb_is_two_files_of_its_name() -> None:
    commands = {path.stem for path in command_files()}
    operations = {path.stem for path in (FORGE / "operations").glob("*.py")}
    assert commands - SHARED == set(VERBS)
    assert set(VERBS) - operations == set(WITHOUT_OPERATION)


@pytest.mark.parametrize("path", sorted((FORGE / "operations").glob("*.py")), ids=lambda path: path.stem)
def test_an_operation_prints_nothing(path: Path) -> None:
    tree = tree_of(path)
    spoken = {"say", "note", "emit_json", "emit_csv", "print_table"}
    from_console = {name.rpartition(".")[2] for name in imports(tree) if name.startswith("forge.console.")}
    assert not from_console & spoken or path.stem in SPEAKING
    called = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert "print" not in called
    assert not [name for name in imports(tree) if name.partition(".")[0] in ("click", "rich")]


@pytest.mark.parametrize("name", ["commands", "operations"])
def test_no_file_is_long(name: str) -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (FORGE / name).glob("*.py")}
    assert not {file for file, lines in lengths.items() if lines > LIMIT_FOR_A_FILE}


def test_a_new_verb_is_two_files_and_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {
        "commands": (
            "import click\n\nfrom forge.console import say\n\n\n"
            '@click.command("greet")\n@click.argument("name")\ndef command(name: str) -> None:\n'
            "    from forge.operations.greet import greet\n\n    say(greet(name))\n"
        ),
        "operations": 'def greet(name: str) -> str:\n    return f"Hello, {name}."\n',
    }
    for package in (forge.commands, forge.operations):
        name = package.__name__.rpartition(".")[2]
        folder = tmp_path / name
        folder.mkdir()
        (folder / "greet.py").write_text(texts[name])
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    monkeypatch.setitem(cli.VERBS, "greet", "Greet somebody.")
    monkeypatch.chdir(tmp_path)
    try:
        assert cli.run(["greet", "Ada"]) == 0
        assert capsys.readouterr().out == "Hello, Ada.\n"
        assert cli.run(["-h"]) == 0
        assert "greet" in capsys.readouterr().out
    finally:
        for name in ("commands", "operations"):
            sys.modules.pop(f"forge.{name}.greet", None)
