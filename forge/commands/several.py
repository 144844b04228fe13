"""--processes: a verb's work shared by several processes of this machine; --mixed-precision, which GPUs gain by."""

from __future__ import annotations

import click

from forge.processes import ARGUMENTS, is_one_of_several


def _launch(context: click.Context, parameter: click.Parameter, count: int | None) -> None:
    """Run the same command line as that many processes, and leave with their exit code."""
    if count is None or count == 1 or is_one_of_several():
        return
    from forge.operations.launching import run_as_several

    context.exit(run_as_several(context.meta[ARGUMENTS], count))


processes_option = click.option(
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    expose_value=False,
    callback=_launch,
    help="Share the work: N processes, with a GPU each where there are some. [default: 1]",
)
precision_option = click.option(
    "--mixed-precision",
    type=click.Choice(["no", "bf16"]),
    envvar="ACCELERATE_MIXED_PRECISION",
    help="bf16: the tower computes in 16 bits, for GPUs that are faster so; the card says it. [default: no]",
)
