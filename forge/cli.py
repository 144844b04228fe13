"""The command line: a group that imports a verb only when it is called, and the one error boundary.

git starts it for files and commits, and people for a glance: nothing is imported here but what every start needs.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from forge import __version__, processes
from forge.console import say
from forge.errors import ExitCode, ForgeError
from forge.program import is_the_program

if TYPE_CHECKING:
    from pathlib import Path

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
PLUMBING = ("filter-process", "textconv", "merge-driver", "hook")
SELF_SETTING_UP = ("init", "install", "uninstall")
# What people ask git forge for, and git itself does: the verb, and what is good to know of it.
OF_GIT = {
    "merge": "where both sides moved, it runs git forge's merge driver",
    "pull": "where both sides moved, it runs git forge's merge driver",
    "clone": "the first git forge command in the clone sets it up",
    "fetch": "",
    "revert": "it takes a contribution out again: git revert -m 1 MERGE",
    "rebase": "",
    "cherry-pick": "",
    "switch": "",
    "checkout": "",
    "branch": "",
    "tag": "",
    "stash": "",
    "reset": "",
    "restore": "",
    "rm": "git rm -r contributions/NAME, then git forge commit",
    "mv": "git mv contributions/NAME contributions/NEW-NAME, then git forge commit",
}
HELP_ASKED = "forge.help_asked"  # key of click's context.meta


class LazyGroup(click.Group):
    """A click group over the tables above; the module of a verb is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS and cmd_name not in PLUMBING:
            return None
        module = importlib.import_module(f"forge.commands.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.meta[HELP_ASKED] = not {"-h", "--help"}.isdisjoint(args)
        ctx.meta[processes.ARGUMENTS] = tuple(args)
        verb = args[0]
        if self.get_command(ctx, verb) is None and not verb.startswith("-"):
            raise _no_verb(args)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Plain git does the rest: git merge, git revert, git log, git diff. On a verb: git forge VERB -h",
)
@click.version_option(__version__, "--version", prog_name="git forge", message="%(prog)s %(version)s")
@click.pass_context
def group(context: click.Context) -> None:
    """Build one CLIP model out of many contributors' adapters, with plain git."""
    verb = context.invoked_subcommand
    if verb in VERBS and verb not in SELF_SETTING_UP and not context.meta[HELP_ASKED] and processes.is_main():
        _set_up_clone()


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
        result = group.main(list(arguments), prog_name="git forge", standalone_mode=False)
        sys.stdout.flush()
        if processes.count() > 1:
            from forge.model.sharing import leave

            leave()
        return result if isinstance(result, int) else ExitCode.OK
    except (Exception, KeyboardInterrupt) as error:
        return _ended(error, arguments) if processes.speaks(error) else processes.SILENT


def _ended(error: BaseException, arguments: Sequence[str]) -> int:
    """Say what went wrong; the exit code."""
    match error:
        case ForgeError():
            _debug()
            _report(error.message, error.hint)
            return error.exit_code
        case click.UsageError():  # no arguments at all: click's message is the help text
            _report_usage(error)
            return ExitCode.USAGE
        case click.ClickException():
            _report(error.format_message())
            return ExitCode.FATAL
        case click.Abort() | KeyboardInterrupt():
            if not set(arguments[:1]) & set(PLUMBING):  # git, which called, says it itself
                say("interrupted; what was committed before is as it was", err=True)
            return ExitCode.INTERRUPTED
        case BrokenPipeError():
            # The reader (a pager) has gone. Python would complain again when it flushes on exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return ExitCode.NEGATIVE
        case processes.PeerLostError():
            _debug()
            _report(str(error))
            return ExitCode.FATAL
        case _:
            _debug()
            _report_unexpected(error)
            return ExitCode.FATAL


def _no_verb(args: Sequence[str]) -> ForgeError:
    """What somebody may have meant who asks for a verb that is none."""
    import shlex
    from difflib import get_close_matches

    verb = args[0]
    if verb in OF_GIT:
        lines = [f"run: git {shlex.join(args)}", *([OF_GIT[verb]] if OF_GIT[verb] else [])]
        error = ForgeError(f"git forge has no {verb}: that is git's own", hint="\n".join(lines))
    else:
        near = get_close_matches(verb, [*VERBS, *OF_GIT], n=1)
        meant = f"did you mean {'git' if near[0] in OF_GIT else 'git forge'} {near[0]}? " if near else ""
        error = ForgeError(f"git forge has no verb {verb!r}", hint=f"{meant}All are listed by: git forge -h")
    error.exit_code = ExitCode.USAGE
    return error


def _set_up_clone() -> None:
    """A fresh clone has no filters and drivers: set them up and say so."""
    from forge.operations.opening import open_repository, set_up_clone

    try:
        repo = open_repository()
    except ForgeError:
        return  # the verb itself says what it needs
    message = set_up_clone(repo)
    if message:
        say(*message.splitlines(), err=True)


def _report(message: str, hint: str | None = None) -> None:
    lines = f"error: {message}".split("\n")
    if hint:
        lines += [f"hint: {line}" for line in hint.splitlines()]
    say(*lines, err=True)


def _report_usage(error: click.UsageError) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say(*error.format_message().splitlines(), err=True)
        return
    _report(error.format_message())
    if error.ctx is not None:
        say(*error.ctx.get_usage().splitlines(), f"hint: see {error.ctx.command_path} -h", err=True)


def _report_unexpected(error: BaseException) -> None:
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
