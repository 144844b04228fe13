"""git forge log: the versions of the model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from forge.operations.log import Line, Logged


class Counting(click.Command):
    """A command that takes -3 for -n 3, as git log does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        counted = [f"--max-count={arg[1:]}" if re.fullmatch(r"-[0-9]+", arg) else arg for arg in args[:end]]
        for position, arg in enumerate(args[: end - 1]):
            if arg in ("-n", "--max-count"):  # what follows is its value: -n -1 is no limit
                counted[position + 1] = args[position + 1]
        return super().parse_args(ctx, [*counted, *args[end:]])


@click.command("log", cls=Counting)
@click.argument("rev", default="HEAD")
@click.option("-n", "--max-count", "count", type=int, help="Show at most this many versions; -3 is -n 3, as in git.")
@click.option("--all-parents", is_flag=True, help="Follow the branches that were merged, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def command(rev: str, count: int | None, all_parents: bool, as_json: bool) -> None:
    """List the versions of the model: the commits up to REV that changed the forge item.

    A contribution that came in is marked +, one that went -, one that was replaced *; the number is its
    coefficient, with ~ the mean of one per adapted module. Accuracy is on the distilled images, averaged over tasks.
    """
    from itertools import chain

    from forge import console
    from forge.operations.log import log, log_lines, no_version
    from forge.operations.opening import open_model

    repo = open_model()
    if as_json:
        console.emit_json_list(map(_as_json, log(repo, rev, count=count, all_parents=all_parents)))
        return
    lines = log_lines(repo, rev, count=count, all_parents=all_parents)
    newest = next(lines, None)
    if newest is None:
        if count != 0:
            raise no_version(rev)
        return
    headers = ("Version", "Date", "Author", "Model", "Accuracy", "Subject")
    console.print_table(headers, map(_row, chain([newest], lines)))


def _row(line: Line) -> tuple[str, ...]:
    from forge.text import figure

    step = line.step
    model = f"({line.problem})" if line.problem else line.model or "-"
    accuracy = figure(line.accuracy)
    if line.accuracy_before is not None and line.accuracy is not None:
        accuracy = f"{figure(line.accuracy_before)} -> {accuracy}"
    return (step.short, step.date[:16].replace("T", " "), step.author, model, accuracy, step.subject)


def _as_json(logged: Logged) -> dict[str, Any]:
    from forge.commands.model_json import item_as_json

    version = logged.version
    return {
        "commit": version.commit,
        "date": version.date,
        "author": version.author,
        "subject": version.subject,
        "problem": version.problem,
        "changes": [vars(change) for change in logged.changes],
        "accuracy_before": logged.accuracy_before,
        "accuracy": logged.accuracy,
        "model": item_as_json(version.item) if version.item else None,
    }
