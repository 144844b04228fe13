"""docs/trust.md is true: its commands, with real keys and real merges, end as it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trust.document import Shell, Step, agree, steps

DOCUMENT = Path(__file__).parents[2] / "docs" / "trust.md"
START = "2026-03-01T12:00:00+00:00"


def test_every_command_ends_as_the_document_says(shell: Shell) -> None:
    done = 0
    for step in steps(DOCUMENT.read_text(encoding="utf-8")):
        if step.kind == "as" and step.text not in shell.places:
            shell.do(step)
            (shell.folder / step.text / ".ssh").mkdir(mode=0o700)
        wrong = shell.do(step)
        assert wrong is None, wrong
        done += step.kind == "command"
    assert done > 50


EXAMPLE = """\
<!-- as: ada
date: 2026-01-01 -->
Text with `$ no` command, <!-- integrate: nothing of this --> and
```console
$ echo one
one
$ cat << END
> a
>
> b
> END
a

b
```
<!-- ends: 3 -->
```console
$ echo no
no
$ exit 3
```
```
$ not this
```
"""


def test_what_is_read_of_a_document() -> None:
    assert list(steps(EXAMPLE)) == [
        Step("as", "ada"),
        Step("date", "2026-01-01"),
        Step("command", "echo one", ("one",)),
        Step("command", "cat << END\na\n\nb\nEND", ("a", "", "b")),
        Step("command", "echo no", ("no",)),
        Step("command", "exit 3", (), 3),
    ]


def test_a_document_that_is_not_true_is_found(tmp_path: Path) -> None:
    shell = Shell(tmp_path, os.environ["PATH"], "", START)
    for step in steps(EXAMPLE):
        assert step.text == "exit 3" or shell.do(step) is None
    assert "instead of:\ntwo" in str(shell.do(Step("command", "echo one", ("two",))))
    assert "ended with 1 instead of 0" in str(shell.do(Step("command", "echo one && false", ("one",))))
    assert "ended with 0 instead of 3" in str(shell.do(Step("command", "true", (), 3)))
    assert shell.do(Step("run", "false")) is not None
    assert shell.do(Step("command", "mkdir sub && cd sub")) is None
    assert shell.do(Step("command", "basename $PWD && basename $HOME", ("sub", "ada"))) is None


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a b", "a   b", True),
        ("a 0123456789 b", "a abcdef0 b", True),
        ("a SHA256:" + "a" * 43, "a SHA256:" + "+" * 42 + "b", True),
        ("0.1234 -1.500", "-2.500000 7.125", True),
        ("a\n...\nz", "a\nb\nc\nz", True),
        ("...", "", True),
        ("a\n...", "b", False),
        ("a", "a\nb", False),
        ("a ...", "a b\nc", False),
        ("a ...", "a b c", True),
        ("a...", "a b c", False),
        ("a ...", "b b c", False),
        ("", "a", False),
        ("a", "", False),
        ("1 commit", "2 commit", False),
    ],
)
def test_what_counts_as_the_same(expected: str, printed: str, same: bool) -> None:
    assert agree(tuple(expected.splitlines()), tuple(printed.splitlines())) == same
