"""git forge approve: a signed statement that a commit may be what a protected branch is set to."""

from __future__ import annotations

import click

from forge.console import say


@click.command("approve")
@click.argument("rev", default="HEAD")
def command(rev: str) -> None:
    """Sign that REV (HEAD) may be what a protected branch is set to, and add that to the commit's notes.

    git signs as it signs commits (gpg.format ssh, user.signingKey).
    """
    from forge.git.places import resolve
    from forge.git.quiet import quiet
    from forge.git.running import find_repository, git_text
    from forge.operations.trusting import approve_as
    from forge.trust.approvals import NOTES_REF

    repo = find_repository()
    commit = resolve(repo, rev)
    principal = approve_as(repo, commit)
    name = git_text(repo, *quiet("show"), "-s", "--format=%h %s", commit)
    if principal:
        say(f"Approved as {principal}: {name}")
    else:
        say(f"Approved: {name}")
        say("warning: your key is none of .forge/allowed_signers there, so this counts for nobody yet", err=True)
    remote = NOTES_REF.replace("refs/notes/", "refs/notes/origin/")
    say(
        "To hand it on, after taking in what others have approved:",
        f"    git fetch origin +{NOTES_REF}:{remote}",
        f"    git notes --ref={NOTES_REF} merge {remote}",
        f"    git push origin {NOTES_REF}",
    )
