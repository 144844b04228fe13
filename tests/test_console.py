from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge import console
from forge.console import emit_json, print_table, progress, track
from forge.text import aligned, printable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_in_a_pipe_is_plain_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "c"), [("ada", 0.5), ("a longer one", -1)], right={1}, title="model")
    assert capsys.readouterr().out == "model\nname            c\nada           0.5\na longer one   -1\n"


def test_a_table_on_a_terminal_shows_the_same_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_table(("name", "c"), [("[red]ada", 0.5), ("\x1b]0;title\x07", 1)], right={1})
    shown = terminal.getvalue()
    assert "[red]ada" in shown
    assert "\\x1b]0;title\\x07" in shown and "\x1b]0" not in shown


def test_progress_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("training", 3) as advance:
        advance(loss=0.25)
    assert list(track(range(3), 3, "steps")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_progress_shows_its_figures_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("training", 3) as advance:
        advance(2, loss=0.123456, epoch="[b]1")
        advance()
    assert "training" in terminal.getvalue()
    assert "loss 0.1235  epoch [b]1" in terminal.getvalue()


def test_json_is_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"b": 1, "a": ["ä"]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"b": 1, "a": ["ä"]}
    assert out.endswith("}\n") and "ä" in out
    with pytest.raises(ValueError, match="Out of range"):
        emit_json(float("nan"))


@given(st.text())
def test_what_is_printable_never_moves_the_cursor(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown and "\u202e" not in shown
    shown.encode()
    if text.isascii() and text.isprintable():
        assert shown == text


def test_wide_characters_keep_columns_aligned() -> None:
    assert aligned(("a", "b"), [("腫瘍", 1), ("é", 2)]) == "a     b\n腫瘍  1\né     2\n"


HOSTILE = "a\x1b]0;pwned\x07b\x9bc\u202ed\u200be\nok: fake"


def test_no_line_is_obeyed_or_doubled(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(f"problem: {HOSTILE}", "next")
    console.say("for people", err=True)
    console.say()
    said = capsys.readouterr()
    assert said.out == "problem: a\\x1b]0;pwned\\x07b\\x9bc\\u202ed\\u200be\\nok: fake\nnext\n\n"
    assert said.err == "for people\n"


def test_json_reads_back_and_holds_nothing_that_acts(capsys: pytest.CaptureFixture[str]) -> None:
    value = {HOSTILE: [HOSTILE, "naïve 日本語", 1.5], "emoji": "\U0001f9ea", "half": "\ud800"}
    console.emit_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert all(line.isprintable() for line in out.splitlines())
    assert "naïve 日本語" in out and "\U0001f9ea" in out


def test_text_leaves_the_product_in_one_place() -> None:
    """What is written to a terminal is made printable in forge.console; nothing else writes to one.

    The filter and the textconv answer git on their streams, and the research tools print tables of their own.
    """
    package = Path(console.__file__).parent
    elsewhere = {"console.py", "commands/textconv.py", "clone/filter_process.py"}
    found = []
    for file in sorted(package.rglob("*.py")):
        path = file.relative_to(package).as_posix()
        if path in elsewhere or path.startswith(("bench/", "generated/")):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer.write",
            ):  # fmt: skip
                found.append(f"{path}:{node.lineno}")
    assert not found


@given(
    st.lists(
        st.dictionaries(
            st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.integers())
        )
    )
)
def test_a_list_in_parts_is_the_text_of_the_whole_list(values: list[object]) -> None:
    written = []
    for emit in (emit_json, console.emit_json_list):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", io.StringIO())
            emit(values)
            written.append(sys.stdout.getvalue())  # type: ignore[attr-defined]
    assert written[0] == written[1]
