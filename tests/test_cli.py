"""The error boundary: every end of a command is one clear message and git's exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from forge import __version__, cli
from forge.commands import group
from forge.errors import ForgeError, MergeConflict

if TYPE_CHECKING:
    from forge.git.running import Repository
    from tests.conftest import RunForge, RunGit


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[], object]], int]:
    """Runs a function as if it were `git forge log`, outside any repository; the exit code."""
    monkeypatch.chdir(tmp_path)

    def run(function: Callable[[], object]) -> int:
        command = click.command("log")(function)
        monkeypatch.setattr(group.LazyGroup, "get_command", lambda self, ctx, name: command)
        return cli.run(["log"])

    return run


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


Verb = Callable[[Callable[[], object]], int]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ForgeError("a.toml: wrong"), 128, "error: a.toml: wrong\n"),
        (ForgeError("wrong", hint="do this\nthen that"), 128, "error: wrong\nhint: do this\nhint: then that\n"),
        (MergeConflict("two bases", hint="choose"), 1, "error: two bases\nhint: choose\n"),
        (click.ClickException("no"), 128, "error: no\n"),
        (click.exceptions.Exit(1), 1, ""),
        (click.exceptions.Exit(0), 0, ""),
    ],
)
def test_an_expected_end(
    verb: Verb, capsys: pytest.CaptureFixture[str], error: Exception, code: int, message: str
) -> None:
    assert verb(raising(error)) == code
    assert capsys.readouterr() == ("", message)


def test_a_command_that_returns_nothing_succeeds(verb: Verb) -> None:
    assert verb(lambda: None) == 0


def test_an_interrupt_is_one_line(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_a_bug_is_saved_and_asks_for_a_report(
    verb: Verb, capsys: pytest.CaptureFixture[str], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: repository.top)
    assert verb(raising(ZeroDivisionError("oh"))) == 128
    log = repository.git_dir / "forge" / "crash.log"
    assert "Traceback" in log.read_text() and "ZeroDivisionError: oh" in log.read_text()
    err = capsys.readouterr().err
    assert err == (
        f"error: this is a bug in git forge {__version__}: ZeroDivisionError: oh\n"
        f"hint: please report it with the traceback in {log}\n"
    )


def test_outside_a_repository_a_bug_is_saved_in_a_temporary_file(
    verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(raising(ZeroDivisionError("oh"))) == 128
    log = Path(capsys.readouterr().err.rpartition(" ")[2].strip())
    assert "ZeroDivisionError: oh" in log.read_text()
    log.unlink()


def test_the_traceback_is_printed_when_asked_for(
    verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_DEBUG", "1")
    assert verb(raising(ForgeError("wrong"))) == 128
    assert "Traceback" in capsys.readouterr().err


def test_a_full_disk_is_no_bug(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(raising(OSError(28, "No space left on device", "a.json"))) == 128
    err = capsys.readouterr().err
    assert err.startswith("error: a.json: No space left on device\nhint: details are in ")
    Path(err.rpartition(" ")[2].strip()).unlink()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bogus"], "error: git forge has no verb 'bogus'\nhint: All are listed by: git forge -h"),
        (["comit", "-m", "x"], "error: git forge has no verb 'comit'\nhint: did you mean git forge commit?"),
        (["stauts"], "error: git forge has no verb 'stauts'\nhint: did you mean git forge status?"),
        (["mrege"], "error: git forge has no verb 'mrege'\nhint: did you mean git merge?"),
        (["merge", "a b"], "error: git forge has no merge: that is git's own\nhint: run: git merge 'a b'\n"),
        (["pull"], "error: git forge has no pull: that is git's own\nhint: run: git pull\n"),
        (["clone", "URL"], "error: git forge has no clone: that is git's own\nhint: run: git clone URL\n"),
        (["install", "--nothing"], "error: No such option"),
        (["textconv"], "error: Missing argument 'FILE'."),
        ([], "Usage: git forge"),
    ],
)
def test_a_wrong_command_line_is_129(tmp_path: Path, run_forge: RunForge, args: list[str], message: str) -> None:
    done = run_forge(tmp_path, *args)
    assert done.returncode == 129
    assert done.stdout == ""
    assert done.stderr.startswith(message)


def test_the_version(tmp_path: Path, run_forge: RunForge) -> None:
    done = run_forge(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"git forge {__version__}\n")


def test_git_finds_the_verb(tmp_path: Path, run_git: RunGit) -> None:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/local/bin"
    assert run_git(tmp_path, "forge", "--version", env={"PATH": path}) == f"git forge {__version__}"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path, lines: int) -> None:
    """As `git forge log | head -1`: the rest of the output meets a closed pipe, at once or at the exit."""
    (tmp_path / "long").write_text("a line\n" * lines)
    command = [sys.executable, "-m", "forge", "textconv", "long"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_character_that_the_output_lacks_is_shown_escaped(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom forge import cli, console\n"
        "def run(arguments):\n"
        "    console.say('Größe \N{HORIZONTAL ELLIPSIS}')\n"
        "    console.emit_json({'a': '\U0001f600ö'})\n"
        "cli.run = run\n"
        "cli.main([])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=os.environ | {"PYTHONIOENCODING": "latin-1"}
    )
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition(b"\n")
    assert first == "Größe \\u2026".encode("latin-1")
    assert json.loads(rest) == {"a": "\U0001f600ö"}
