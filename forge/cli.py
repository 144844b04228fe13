"""The command line: which verbs there are, and the one error boundary.

git starts it for files and commits, and people for a glance: nothing is imported here but what every start needs. What
git calls most does without click, which takes longer to import than Python to start.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from forge import __version__, processes
from forge.console import say
from forge.errors import ExitCode, ForgeError
from forge.program import is_the_program

if TYPE_CHECKING:
    from pathlib import Path

    from click import UsageError

# verb: what it does, in the order of use. The module of a verb is forge.commands.VERB.
VERBS = {
    "init": "Make the current git repository a model repository.",
    "install": "Set up this clone: filter, diff and merge drivers, hooks.",
    "uninstall": "Take out what install has set up.",
    "train": "Train an adapter on private data into a contribution.",
    "distill": "Distil private data into a contribution's small dataset.",
    "add": "Take in a contribution that was trained elsewhere.",
    "commit": "Fold the contributions into the forge item and commit both.",
    "resolve": "Settle the model while a merge stands still in conflict.",
    "refold": "Make the forge item of a commit that was merged but not forged.",
    "push": "Verify, then push.",
    "log": "List the versions of the model.",
    "show": "Show one version of the model.",
    "status": "Show contributions and forge item in the work tree.",
    "diff": "Compare two versions of the model.",
    "evaluate": "Measure a version of the model on real images.",
    "predict": "Label images with a version of the model.",
    "export": "Write a version of the model as a PEFT folder or a checkpoint.",
    "verify": "Check that a version of the model is what it says.",
    "review": "Show what merging a branch would give, and whether it verifies.",
    "sites": "Show who may change what, and by which keys.",
    "approve": "Sign that a version of the model may be merged.",
    "storage": "Keep payloads in git itself or in git-lfs.",
    "gc": "Remove what git forge keeps in a clone and nobody needs.",
}
# What git and its hooks call; not listed.
BY_GIT = ("filter-process", "hook")  # at every `git add`, commit and push: plain functions, which parse nothing
PLUMBING = (*BY_GIT, "textconv", "merge-driver")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `git forge ARGUMENTS` and leave with its exit code; the only place that prints an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that it lacks is shown escaped, and ends nothing
            stream.reconfigure(errors="backslashreplace")
    is_the_program()
    given = sys.argv[1:] if arguments is None else arguments
    if not processes.join(next(iter(given), None), VERBS):
        sys.exit(ExitCode.OK)
    sys.exit(run(given))


def run(arguments: Sequence[str]) -> int:
    """Run `git forge ARGUMENTS`; the exit code (forge.errors.ExitCode). Every error ends here."""
    try:
        result = _call(list(arguments))
        sys.stdout.flush()
        if processes.count() > 1:
            from forge.model.sharing import leave

            leave()
        return result if isinstance(result, int) else ExitCode.OK
    except (Exception, KeyboardInterrupt) as error:
        return _ended(error, arguments) if processes.speaks(error) else processes.SILENT


def _ended(error: Exception | KeyboardInterrupt, arguments: Sequence[str]) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, ForgeError):
        _debug()
        _report(error.message, error.hint)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return _report_interrupt(arguments)
    if isinstance(error, BrokenPipeError):
        # The reader (a pager) has gone. Python would complain again when it flushes on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.NEGATIVE
    code = _code_of_click(error, arguments)
    if code is not None:
        return code
    _debug()
    if isinstance(error, processes.PeerLostError):
        _report(str(error))
    else:
        _report_unexpected(error)
    return ExitCode.FATAL


def _call(arguments: list[str]) -> object:
    if arguments[:1] and arguments[0] in BY_GIT:
        module = importlib.import_module(f"forge.commands.{arguments[0].replace('-', '_')}")
        return module.command(*arguments[1:])
    from forge.commands.group import make_group

    group = make_group(VERBS, [verb for verb in PLUMBING if verb not in BY_GIT], __version__)
    return group.main(arguments, prog_name="git forge", standalone_mode=False)


def _code_of_click(error: Exception, arguments: Sequence[str]) -> ExitCode | None:
    """The exit code of an error that click has raised, which is reported; None for any other."""
    if "click" not in sys.modules:
        return None
    import click

    if isinstance(error, click.UsageError):  # no arguments at all: click's message is the help text
        _report_usage(error)
        return ExitCode.USAGE
    if isinstance(error, click.ClickException):
        _report(error.format_message())
        return ExitCode.FATAL
    return _report_interrupt(arguments) if isinstance(error, click.Abort) else None


def _report_interrupt(arguments: Sequence[str]) -> ExitCode:
    if not set(arguments[:1]) & set(PLUMBING):  # git, which called, says it itself
        say("interrupted; what was committed before is as it was", err=True)
    return ExitCode.INTERRUPTED


def _report(message: str, hint: str | None = None) -> None:
    lines = f"error: {message}".split("\n")
    if hint:
        lines += [f"hint: {line}" for line in hint.splitlines()]
    say(*lines, err=True)


def _report_usage(error: UsageError) -> None:
    from click.exceptions import NoArgsIsHelpError

    if isinstance(error, NoArgsIsHelpError):
        say(*error.format_message().splitlines(), err=True)
        return
    _report(error.format_message())
    if error.ctx is not None:
        say(*error.ctx.get_usage().splitlines(), f"hint: see {error.ctx.command_path} -h", err=True)


def _report_unexpected(error: Exception) -> None:
    import traceback

    log = _crash_log("".join(traceback.format_exception(error)))
    if isinstance(error, OSError) and error.strerror:  # a full disk, a forbidden folder: seldom our bug
        where = f"{error.filename}: " if error.filename else ""
        _report(f"{where}{error.strerror}", f"details are in {log}")
    elif isinstance(error, MemoryError):
        _report("out of memory", f"details are in {log}")
    else:
        _report(
            f"this is a bug in git forge {__version__}: {type(error).__name__}: {error}",
            f"please report it with the traceback in {log}",
        )


def _crash_log(text: str) -> Path | str:
    import tempfile
    from pathlib import Path

    from forge.git.running import find_repository, state_dir

    try:
        log = state_dir(find_repository()) / "crash.log"
        log.write_text(text, encoding="utf-8", errors="backslashreplace")
    except (ForgeError, OSError):
        try:
            with tempfile.NamedTemporaryFile(
                "w", prefix="git-forge-", suffix=".log", delete=False, encoding="utf-8", errors="replace"
            ) as file:
                file.write(text)
            return Path(file.name)
        except OSError:
            return "no file (nowhere to write); set FORGE_DEBUG=1 to see it"
    return log


def _debug() -> None:
    if os.environ.get("FORGE_DEBUG"):
        import traceback

        traceback.print_exc()
