"""`git forge hook`: what each of git's hooks asks for. An idle hook loads next to nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from forge.console import Report, silent
from forge.errors import ForgeError

if TYPE_CHECKING:
    from pathlib import Path

    from forge.git.running import Repository

MOST_SHOWN = 20  # problems of one push


def run_hook(name: str, args: Sequence[str], lines: Iterable[str], report: Report = silent) -> None:
    """Do what git's hook `name` asks for in the current repository. Raises ForgeError for what it is to refuse.

    args: those that git gave to the hook. lines: its standard input.
    """
    if name not in ("prepare-commit-msg", "applypatch-msg", "pre-push", "pre-receive"):
        return  # a hook of a later version
    from pathlib import Path

    from forge.git.running import find_repository

    if name == "prepare-commit-msg" and args:
        prepare_commit_msg(find_repository(), Path(args[0]), args[1] if len(args) > 1 else None, report)
    elif name == "applypatch-msg" and args:
        from forge.repo.message_file import take_trailers_out

        take_trailers_out(Path(args[0]))
    elif name == "pre-push":
        repo, refs = find_repository(), list(lines)
        pre_push(repo, refs)
        push_to_lfs(repo, args, refs)
    elif name == "pre-receive":
        pre_receive(lines, report)


def prepare_commit_msg(repo: Repository, message_file: Path, source: str | None, report: Report = silent) -> None:
    """Put the trailers into the message. Never stops a commit: a version without trailers is still whole.

    Most commits leave the forge item as it is, however large: then it is not read, nor what reads it imported.
    """
    from forge.repo.message_file import changes_item, take_trailers_out

    if not changes_item(repo, source):
        take_trailers_out(message_file)
        return
    from forge.repo.trailers import write_trailers

    try:
        write_trailers(repo, message_file, source)
    except ForgeError as error:
        report(f"warning: no trailers in the commit message: {error.message}")


def pre_push(repo: Repository, refs: Iterable[str]) -> None:
    """Refuse a push in which a tip's forge item is damaged or disagrees with its tree.

    refs: git's lines "LOCAL-REF LOCAL-ID REMOTE-REF REMOTE-ID".
    """
    from forge.git.places import pushed_commits

    problems = [f"{ref}: {problem}" for ref, tip in pushed_commits(repo, refs) for problem in _problems(repo, tip)]
    if problems:
        raise ForgeError(
            "the push was refused:\n  " + "\n  ".join(problems),
            hint="git forge refold, then git commit, makes the forge item anew (see git forge status); "
            "git push --no-verify pushes all the same",
        )


def pre_receive(lines: Iterable[str], report: Report = silent) -> None:
    """Refuse a push to this repository whose forge item does not verify, or that is over its limits.

    lines: git's "OLD-ID NEW-ID REF".
    """
    from pathlib import Path

    # Paths of the quarantine may be relative to the git folder, where git starts the hook; we start git elsewhere.
    for variable in ("GIT_OBJECT_DIRECTORY", "GIT_QUARANTINE_PATH"):
        if variable in os.environ:
            os.environ[variable] = str(Path(os.environ[variable]).absolute())

    from forge.git.running import find_repository
    from forge.operations.receiving import check_push, parse_updates

    verdict = check_push(find_repository(), parse_updates(lines))
    if verdict.problems:
        shown = list(verdict.problems[:MOST_SHOWN])
        more = len(verdict.problems) - len(shown)
        raise ForgeError(
            "the push was refused:\n  " + "\n  ".join([*shown, *([f"and {more} more"] if more else [])]),
            hint="in your clone git forge verify --no-scores (with --since, of signatures too) says the same, "
            "and git forge status what to do",
        )
    if verdict.unseen:
        where = "files in git-lfs that are not on this machine"
        report(f"{where}: {verdict.unseen}; only their size was checked")


def push_to_lfs(repo: Repository, remote: Sequence[str], refs: Sequence[str]) -> None:
    """See that the server has what the pushed commits keep in git-lfs, and refuse the push if it has not.

    remote: what git gives to the hook, its name and its URL.
    """
    from forge.git.lfs import push_objects
    from forge.recipe.layout import FOLDERS

    if len(remote) == 2:
        push_objects(repo, remote[0], remote[1], refs, FOLDERS)


def _problems(repo: Repository, tip: str) -> list[str]:
    from forge.repo.items import has_item

    if not has_item(repo, tip):
        return []  # a branch, tag or note that is no model
    from forge.repo.erased import explained_disagreements

    return explained_disagreements(repo, tip)  # reads the forge item, digest included
