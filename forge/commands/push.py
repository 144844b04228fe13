"""git forge push: verify, then push."""

from __future__ import annotations

import click

from forge.commands.push_options import PASSED, PassingOn, is_dry_run
from forge.console import note


@click.command("push", cls=PassingOn)
@click.argument("remote", required=False)
@click.argument("branch", required=False)
@click.option("--scores/--no-scores", default=True, help="Compute the recorded scores again before pushing.")
def command(remote: str | None, branch: str | None, scores: bool) -> None:
    """Verify the current (or named) branch and push it, to where git itself would or to REMOTE.

    A branch of which nobody has said where it goes gets an upstream. Nothing is pushed if it does not verify.
    """
    from forge.operations.opening import open_repository
    from forge.operations.push import push

    options = click.get_current_context().meta[PASSED]
    push(open_repository(), remote, branch, options=options, dry_run=is_dry_run(options), scores=scores, report=note)
