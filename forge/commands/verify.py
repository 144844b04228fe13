"""git forge verify: is a version of the model what it says it is?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from forge.console import say
from forge.errors import ExitCode, ForgeError

if TYPE_CHECKING:
    from forge.git.running import Repository
    from forge.operations.trusting import Trust


@click.command("verify")
@click.argument("rev", default="HEAD")
@click.option("--scores/--no-scores", default=True, help="Compute the recorded scores again (loads the model).")
@click.option("--since", metavar="BASE", help="Also check that every commit since BASE had a right to its changes.")
@click.option("--json", "as_json", is_flag=True)
def command(rev: str, scores: bool, since: str | None, as_json: bool) -> int:
    """Check REV (HEAD): digest, forge item against tree, every contribution, and that the scores reproduce.

    With --since, the keys and rights of BASE (`git forge sites BASE`) are held against the commits from BASE to REV.
    Exits with 1 if anything is wrong.
    """
    from forge.console import emit_json
    from forge.git.places import resolve
    from forge.git.quiet import quiet
    from forge.git.running import find_repository, git_text
    from forge.operations.trusting import trust
    from forge.operations.verify import problems_of
    from forge.trust import last_good

    repo = find_repository()
    commit = resolve(repo, rev)
    judged = trust(repo, since, commit) if since is not None else None
    problems = [*(judged.problems if judged else ()), *problems_of(repo, commit, scores=scores, look_back=True)]
    ref = last_good.main_name(repo, rev)
    if ref:
        back = last_good.gone_back(repo, ref, commit)
        problems += [back] if back else []
        if not problems:
            last_good.remember(repo, ref, commit)
    if as_json:
        answer = {"rev": rev, "commit": commit, "ok": not problems, "problems": problems}
        emit_json(answer if judged is None else answer | {"signatures": _as_json(judged)})
        return ExitCode.NEGATIVE if problems else ExitCode.OK
    if judged is not None:
        say(f"signatures: {_words(judged)}")
    if problems:
        for problem in problems:
            say(f"problem: {problem}")
        in_work_tree = repo.top != repo.git_dir and commit == resolve(repo, "HEAD")
        if in_work_tree and _refold_helps(repo, commit, problems):
            say("hint: git forge refold, then git commit, makes the forge item anew", err=True)
    else:
        name = git_text(repo, *quiet("show"), "-s", "--format=%h %s", commit)
        say(f"ok: {name}" + ("" if scores else " (scores not computed)"))
    return ExitCode.NEGATIVE if problems else ExitCode.OK


def _refold_helps(repo: Repository, commit: str, problems: Sequence[str]) -> bool:
    """Whether all that is wrong is a forge item that does not fit the tree, so that one made anew would."""
    from forge.recipe.item import doubled_payloads
    from forge.repo.erased import explained_disagreements
    from forge.repo.items import find_item

    if not set(problems) <= set(explained_disagreements(repo, commit)):
        return False
    try:
        item = find_item(repo, commit)
    except ForgeError:
        return True  # edited by hand, or merged as text
    return item is None or not doubled_payloads(item.contributions)


def _words(judged: Trust) -> str:
    if not judged.required:
        return "not required"
    count = len(judged.signers)
    by = ", ".join(sorted(set(judged.signers.values())))
    signed = f"{count} {'commit' if count == 1 else 'commits'} signed by {by}" if count else "no commit has a good one"
    return signed + (f"; behind it: {', '.join(judged.approved_by)}" if judged.approved_by else "")


def _as_json(judged: Trust) -> dict[str, Any]:
    return {
        "required": judged.required,
        "signers": dict(judged.signers),
        "approved_by": list(judged.approved_by),
        "threshold": judged.threshold,
    }
