"""git forge refold: the forge item of a tree that was merged but not forged, made anew."""

from __future__ import annotations

import click

from forge.commands.settled import print_settled


@click.command("refold")
@click.option("--accept", is_flag=True, help="Let tasks lose more than the gate of forge.toml allows; it is recorded.")
def command(accept: bool) -> None:
    """Make the forge item anew where it does not agree with the contributions or is damaged, and stage it.

    For commits of a git without git forge, of a host's web page, or by hand. Coefficients come from the parents
    of a merge, else from the last version that was whole. While a merge or another operation stands still, use
    git forge resolve.
    """
    from forge.operations.opening import open_repository
    from forge.operations.refold import refold

    print_settled(refold(open_repository(), accept=accept))
