"""The command line as click sees it: a group that imports a verb only when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

import click

from forge import processes
from forge.console import say
from forge.errors import ExitCode, ForgeError

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
    """A click group over a table of verbs; the module of a verb is imported when it is called.

    verbs: what each does, in the order in which they are listed. unlisted: those that only git calls.
    """

    def __init__(self, verbs: Mapping[str, str], unlisted: Sequence[str], **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]
        self.verbs, self.unlisted = verbs, unlisted

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.verbs and cmd_name not in self.unlisted:
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
            raise _no_verb(args, self.verbs)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(self.verbs.items()))


def make_group(verbs: Mapping[str, str], unlisted: Sequence[str], version: str) -> click.Group:
    """`git forge`, over its verbs."""

    def set_up_first() -> None:
        context = click.get_current_context()
        verb = context.invoked_subcommand
        if verb in verbs and verb not in SELF_SETTING_UP and not context.meta[HELP_ASKED] and processes.is_main():
            _set_up_clone()

    group = LazyGroup(
        verbs,
        unlisted,
        callback=set_up_first,
        help="Build one CLIP model out of many contributors' adapters, with plain git.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog="Plain git does the rest: git merge, git revert, git log, git diff. On a verb: git forge VERB -h",
    )
    shown = click.version_option(version, "--version", prog_name="git forge", message="%(prog)s %(version)s")
    return shown(group)


def _no_verb(args: Sequence[str], verbs: Mapping[str, str]) -> ForgeError:
    """What somebody may have meant who asks for a verb that is none."""
    import shlex
    from difflib import get_close_matches

    verb = args[0]
    if verb in OF_GIT:
        lines = [f"run: git {shlex.join(args)}", *([OF_GIT[verb]] if OF_GIT[verb] else [])]
        error = ForgeError(f"git forge has no {verb}: that is git's own", hint="\n".join(lines))
    else:
        near = get_close_matches(verb, [*verbs, *OF_GIT], n=1)
        meant = f"did you mean {'git' if near[0] in OF_GIT else 'git forge'} {near[0]}? " if near else ""
        error = ForgeError(f"git forge has no verb {verb!r}", hint=f"{meant}All are listed by: git forge -h")
    error.exit_code = ExitCode.USAGE
    return error


def _set_up_clone() -> None:
    """A fresh clone has no filters and drivers: set them up and say so."""
    from forge.operations.opening import look_around, set_up_clone

    repo = look_around()
    message = set_up_clone(repo) if repo is not None else None
    if message:
        say(*message.splitlines(), err=True)
