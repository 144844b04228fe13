"""git forge resolve: settle what a merge, rebase, cherry-pick, revert, am or stash pop has left of the model."""

from __future__ import annotations

import click

from forge.commands.settled import print_settled
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
    from forge.operations.opening import open_repository
    from forge.operations.resolve import resolve_conflict

    print_settled(resolve_conflict(open_repository(), side=side, strategy=strategy, accept=accept))
