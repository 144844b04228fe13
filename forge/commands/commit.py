"""git forge commit: fold what changed in contributions/ into the forge item, and commit both."""

from __future__ import annotations

import click

from forge.console import emit_json, note, say
from forge.recipe.settings import MOST_STEPS, STEPS


@click.command("commit")
@click.option("-m", "--message", help="Subject of the commit. [default: says what changed]")
@click.option(
    "--consolidate",
    "steps",
    type=click.IntRange(0, MOST_STEPS),
    is_flag=False,
    flag_value=STEPS,
    metavar="[STEPS]",
    help=f"Train a residual on all distilled sets that brings the model nearer to its parts ({STEPS} steps; 0 takes "
    "it out). It lost on test images: an accuracy of .863 against .873 without (examples/paper/results, Table 1).",
)
@click.option("--accept", is_flag=True, help="Let tasks lose more than the gate of forge.toml allows; it is recorded.")
@click.option("--json", "as_json", is_flag=True, help="Print the new version as JSON.")
def command(message: str | None, steps: int | None, accept: bool, as_json: bool) -> None:
    """Check the contributions in the work tree, search the coefficients on all distilled sets, and commit.

    New and changed contributions are folded into the forge item of HEAD; removed ones are taken out of it. Where
    [merge] or [search] of forge.toml changed, the coefficients are searched again and forge.toml is committed
    too. Other changes, staged or not, stay as they are.

    A consolidation belongs to one set of contributions: where they change, it is dropped.
    """
    from dataclasses import asdict

    from forge.operations.commit import commit_contributions
    from forge.operations.opening import open_repository

    done = commit_contributions(open_repository(), message, steps, accept=accept)
    if done.consolidation_dropped and steps is None:
        note("the consolidation was made of other contributions and is dropped")
    note(*(f"warning: {line}" for line in done.without_effect))
    if as_json:
        emit_json(asdict(done))
        return
    say(f"[{done.commit[:10]}] {done.subject}")
    for line in done.trailers:
        say(f"  {line}")
