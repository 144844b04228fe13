"""The options of git push that git forge push passes on, and those that it cannot."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import click

from forge.errors import ExitCode, ForgeError

PASSED = "forge.push_options"  # key of click's context.meta

# As git spells them: for the help, and with every other spelling that git takes.
LISTED = {
    "--force-with-lease[=REF[:ID]]": "Overwrite the remote's branch if it is as you have seen it last.",
    "--force-if-includes": "With it: only what was merged or rebased here.",
    "-f, --force": "Overwrite the remote's branch, whatever it is.",
    "-n, --dry-run": "Do all but send.",
    "-u, --set-upstream": "Make the remote's branch the upstream; done anyway where there is none.",
    "--tags, --follow-tags": "Push all tags, or those that belong to what is pushed.",
    "--atomic": "All refs or none.",
    "-o, --push-option TEXT": "What the server's hooks are told.",
    "--signed[=yes|no|if-asked]": "Sign the push itself.",
    "-q, -v, --progress, --porcelain": "What git prints.",
}
_FLAG = re.compile(
    r"-[fnuqv46]+|--(no-)?(force|force-if-includes|dry-run|follow-tags|atomic|thin|progress|quiet|verbose|signed)"
    r"|--(set-upstream|tags|porcelain|ipv4|ipv6|force-with-lease|no-force-with-lease|no-recurse-submodules)"
    r"|--(force-with-lease|signed|recurse-submodules|push-option)=.*|-o.+",
    re.DOTALL,
)
_WITH_VALUE = ("-o", "--push-option", "--recurse-submodules")
# What pushes more than a branch that was verified, or takes away what others have.
_GITS_OWN = ("--all", "--branches", "--mirror", "--delete", "-d", "--prune", "--no-verify")


def taken_out(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the options that are git push's, what else there is), each in its order.

    Raises ForgeError for one that git forge push cannot keep its word with.
    """
    passed: list[str] = []
    others: list[str] = []
    waiting = list(args)
    while waiting:
        arg = waiting.pop(0)
        if arg == "--":
            return passed, [*others, arg, *waiting]
        if arg in _GITS_OWN:
            error = ForgeError(
                f"git forge push has no {arg}: it pushes one branch, and only if that verifies",
                hint=f"git's own is: git push {shlex.join(args)}",
            )
            error.exit_code = ExitCode.USAGE
            raise error
        if _FLAG.fullmatch(arg):
            passed.append(arg)
        elif arg in _WITH_VALUE and waiting:
            passed += [arg, waiting.pop(0)]
        else:
            others.append(arg)
    return passed, others


def is_dry_run(passed: Sequence[str]) -> bool:
    """Whether git is told to send nothing."""
    dry_run = False
    for arg in passed:
        if arg in ("--dry-run", "--no-dry-run") or re.fullmatch(r"-[fuqv46]*n[fnuqv46]*", arg):
            dry_run = arg != "--no-dry-run"
    return dry_run


class PassingOn(click.Command):
    """A command that keeps git push's own options in the context, under PASSED."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[PASSED], others = taken_out(args)
        return super().parse_args(ctx, others)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        with formatter.section("Passed on to git push"):
            formatter.write_dl(list(LISTED.items()))
