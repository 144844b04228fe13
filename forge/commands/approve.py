"""git forge approve: a signed statement that a commit may be what a protected branch is set to."""

from __future__ import annotations

import click

from forge.console import note, say


@click.command("approve")
@click.argument("rev", default="HEAD")
def command(rev: str) -> None:
    """Sign that REV (HEAD) may be what a protected branch is set to, and add that to the commit's notes.

    git signs as it signs commits (gpg.format ssh, user.signingKey).
    """
    from forge.operations.approve import approve
    from forge.operations.opening import open_repository

    approved = approve(open_repository(), rev)
    if approved.principal:
        say(f"Approved as {approved.principal}: {approved.title}")
    else:
        say(f"Approved: {approved.title}")
        note("warning: your key is none of .forge/allowed_signers there, so this counts for nobody yet")
    remote = approved.notes.replace("refs/notes/", "refs/notes/origin/")
    say(
        "To hand it on, after taking in what others have approved:",
        f"    git fetch origin +{approved.notes}:{remote}",
        f"    git notes --ref={approved.notes} merge {remote}",
        f"    git push origin {approved.notes}",
    )
