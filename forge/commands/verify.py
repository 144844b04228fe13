"""git forge verify: is a version of the model what it says it is?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forge.console import emit_json, note, say
from forge.errors import ExitCode

if TYPE_CHECKING:
    from forge.operations.trusting import Trust
    from forge.operations.verify import Verified


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
    from forge.operations.opening import open_repository
    from forge.operations.verify import verify

    verified = verify(open_repository(), rev, scores=scores, since=since)
    if as_json:
        answer = {"rev": rev, "commit": verified.commit, "ok": not verified.problems, "problems": verified.problems}
        judged = verified.signatures
        emit_json(answer if judged is None else answer | {"signatures": _as_json(judged)})
    else:
        _print(verified, scores)
    return ExitCode.NEGATIVE if verified.problems else ExitCode.OK


def _print(verified: Verified, scores: bool) -> None:
    if verified.signatures is not None:
        say(f"signatures: {_words(verified.signatures)}")
    for problem in verified.problems:
        say(f"problem: {problem}")
    if not verified.problems:
        say(f"ok: {verified.title}" + ("" if scores else " (scores not computed)"))
    elif verified.refold_helps:
        note("hint: git forge refold, then git commit, makes the forge item anew")


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
