"""git forge refold: the forge item of a tree that was merged but not forged, made anew."""

from __future__ import annotations

import click

from forge.console import say


@click.command("refold")
@click.option("--accept", is_flag=True, help="Let tasks lose more than the gate of forge.toml allows; it is recorded.")
def command(accept: bool) -> None:
    """Make the forge item anew where it does not agree with the contributions or is damaged, and stage it.

    For commits of a git without git forge, of a host's web page, or by hand. Coefficients come from the parents
    of a merge, else from the last version that was whole. While a merge or another operation stands still, use
    git forge resolve.
    """
    from forge.git.running import find_repository
    from forge.operations.settling import refold
    from forge.repo.leftovers import alone_in_work_tree

    repo = find_repository()
    with alone_in_work_tree(repo, "git forge refold"):
        done = refold(repo, accept=accept)
    say("The forge item is staged.")
    for line in done.trailers:
        say(f"  {line}")
    for line in done.without_effect:
        say(f"warning: {line}", err=True)
    say(f"Next: {done.next}")
