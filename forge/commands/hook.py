"""git forge hook: what the shell hooks of a clone call."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.errors import ForgeError

if TYPE_CHECKING:
    from forge.repo.git import Repository

FORGE_ITEM = "forge-item.json"


@click.command("hook", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(name: str, args: tuple[str, ...]) -> None:
    """Do what git's hook NAME asks for; ARGS are those that git gave to the hook."""
    from forge.repo.git import find_repository

    if name == "prepare-commit-msg" and args:
        prepare_commit_msg(find_repository(), Path(args[0]), args[1] if len(args) > 1 else None)
    elif name == "pre-push":
        pre_push(find_repository(), sys.stdin)
    # Any other: a hook of a later version, or nothing to do.


def prepare_commit_msg(repo: Repository, message_file: Path, source: str | None) -> None:
    """Put the trailers into the message. Never stops a commit: a version without trailers is still whole."""
    from forge.repo.trailers import write_trailers

    try:
        write_trailers(repo, message_file, source)
    except ForgeError as error:
        click.echo(f"warning: no trailers in the commit message: {error.message}", err=True)


def pre_push(repo: Repository, refs: Iterable[str]) -> None:
    """Refuse a push in which a tip's forge item is damaged or disagrees with its tree.

    refs: git's lines "LOCAL-REF LOCAL-ID REMOTE-REF REMOTE-ID".
    """
    problems = []
    for line in refs:
        ref, tip = (*line.split(), "", "")[:2]
        if tip.strip("0"):  # all zeros: the remote ref is being deleted
            problems += [f"{ref}: {problem}" for problem in _problems(repo, tip)]
    if problems:
        raise ForgeError(
            "the push was refused:\n  " + "\n  ".join(problems),
            hint="see git forge verify; git push --no-verify pushes all the same",
        )


def _problems(repo: Repository, tip: str) -> list[str]:
    from forge.repo.git import git_succeeds, read_path

    if not git_succeeds(repo, "rev-parse", "--verify", "--quiet", f"{tip}^{{commit}}"):
        return []  # a tag of a tree or blob
    if read_path(repo, tip, FORGE_ITEM) is None:
        return []  # a branch, tag or note that is no model
    from forge.repo.contribution import disagreements

    return disagreements(repo, tip)  # reads the forge item, digest included
