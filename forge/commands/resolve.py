"""git forge resolve: settle what a merge, rebase, cherry-pick, revert, am or stash pop has left of the model."""

from __future__ import annotations

import click

from forge.console import say
from forge.recipe.catalogue import STRATEGIES


@click.command("resolve")
@click.option("--ours", "side", flag_value="ours", help="Of contributions that both sides changed, take ours.")
@click.option("--theirs", "side", flag_value="theirs", help="Of contributions that both sides changed, take theirs.")
@click.option(
    "--strategy",
    type=click.Choice(list(STRATEGIES)),
    help="The strategy, where the two sides use different ones; written to forge.toml too.",
)
@click.option("--accept", is_flag=True, help="Let tasks lose more than the gate of forge.toml allows; it is recorded.")
def command(side: str | None, strategy: str | None, accept: bool) -> None:
    """Make the forge item of the contributions as they stand in the index, and stage it.

    For what stands still with the forge item or contributions in conflict, whether or not the merge driver ran.
    Coefficients that either side has found count as in a merge. In a rebase, "ours" is what is built upon and
    "theirs" your own commit, as everywhere in git. Where more has to be decided, nothing is changed.
    """
    from forge.git.running import find_repository
    from forge.operations.settling import resolve_conflict
    from forge.repo.leftovers import alone_in_work_tree

    repo = find_repository()
    with alone_in_work_tree(repo, "git forge resolve"):
        done = resolve_conflict(repo, side=side, strategy=strategy, accept=accept)
    say("The forge item is staged.")
    for line in done.trailers:
        say(f"  {line}")
    for line in done.without_effect:
        say(f"warning: {line}", err=True)
    say(f"Next: {done.next}")
