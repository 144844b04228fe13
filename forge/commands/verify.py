"""git forge verify: is a version of the model what it says it is?"""

from __future__ import annotations

import click

from forge.console import say
from forge.errors import ExitCode


@click.command("verify")
@click.argument("rev", default="HEAD")
@click.option("--scores/--no-scores", default=True, help="Compute the recorded scores again (loads the model).")
@click.option("--json", "as_json", is_flag=True)
def command(rev: str, scores: bool, as_json: bool) -> int:
    """Check REV (HEAD): digest, forge item against tree, every contribution, and that the scores reproduce.

    Exits with 1 if anything is wrong.
    """
    from forge.console import emit_json
    from forge.operations.verifying import problems_of
    from forge.repo.contribution import disagreements
    from forge.repo.git import find_repository, git_text
    from forge.repo.places import resolve

    repo = find_repository()
    commit = resolve(repo, rev)
    problems = problems_of(repo, commit, scores=scores)
    if as_json:
        emit_json({"rev": rev, "commit": commit, "ok": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            say(f"problem: {problem}")
        if commit == resolve(repo, "HEAD") and disagreements(repo, commit):
            say("hint: git forge refold, then git commit, makes the forge item anew", err=True)
    else:
        name = git_text(repo, "show", "-s", "--format=%h %s", commit)
        say(f"ok: {name}" + ("" if scores else " (scores not computed)"))
    return ExitCode.NEGATIVE if problems else ExitCode.OK
