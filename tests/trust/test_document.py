"""docs/trust.md is true: its commands, with real keys and real merges, end as it says."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from histories.forge_server import forge_server
from story.hospitals import contribution_files, write_contribution
from trust.document import Shell, Step, agree, steps

DOCUMENT = Path(__file__).parents[2] / "docs" / "trust.md"
NAMES = ("breast", "lung", "colon")
START = "2026-03-01T12:00:00+00:00"

# Training and distilling take minutes: what they would make lies there already.
SHIM = """\
#!/bin/sh
case "$1" in
train) mkdir -p "contributions/$2" && cd {prepared}/"$2" && cp adapter_* card.toml "$OLDPWD/contributions/$2" ;;
distill) cp {prepared}/"$2"/distilled.safetensors "contributions/$2" ;;
*) exec {program} "$@" ;;
esac
"""
SET_UP = """\
#!/bin/sh
ssh-keygen -q -t ed25519 -N "" -C "$2" -f ~/.ssh/id_ed25519
git config --global user.name "$1"
git config --global user.email "$2"
git config --global gpg.format ssh
git config --global user.signingKey ~/.ssh/id_ed25519.pub
git config --global commit.gpgSign true
"""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """contributions/NAME of three hospitals for the embedded base."""
    import torch

    from forge.model.base import load_base

    torch.set_num_threads(1)
    base = load_base("embedded")
    folder = tmp_path_factory.mktemp("prepared")
    for name in NAMES:
        write_contribution(folder, name, contribution_files(base, name))
    return folder / "contributions"


@pytest.fixture(scope="session")
def quick_forge() -> Iterator[Path]:
    """The folder of a git forge that has loaded the embedded base already."""
    with forge_server(Path("embedded")) as folder:
        yield folder


@pytest.fixture
def shell(prepared: Path, quick_forge: Path, tmp_path: Path) -> Shell:
    programs = tmp_path / "programs"
    programs.mkdir()
    own = shlex.quote(str(quick_forge / "git-forge"))
    scripts = {
        "git-forge": SHIM.format(prepared=shlex.quote(str(prepared)), program=own),
        "set-up-signing": SET_UP,
    }
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    server = tmp_path / "server"
    settings = f'[init]\n\tdefaultBranch = main\n[url "file://{server}/"]\n\tinsteadOf = git@git.example:\n'
    found = Shell(tmp_path, f"{programs}:{os.environ['PATH']}", settings, START)
    found.do(Step("as", "server"))
    code, said = found.run("git init --quiet --bare model")
    assert code == 0, said
    return found


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
