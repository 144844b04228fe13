"""git forge log: the versions of the model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from forge.errors import ForgeError

if TYPE_CHECKING:
    from forge.repo.versions import Change, Version


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
    from forge import console
    from forge.repo.versions import find_model_repository, versions

    repo = find_model_repository()
    unlimited = count is None or count < 0
    found = versions(repo, rev, count=None if unlimited else count, all_parents=all_parents)
    if as_json:
        console.emit_json([_as_json(version) for version in found])
        return
    if not found and count != 0:
        raise ForgeError(f"no version of a model in {rev}", hint="make the first one with `git forge init`")
    if found:
        console.print_table(
            ("Version", "Date", "Author", "Model", "Accuracy", "Subject"), [_row(version) for version in found]
        )


def _row(version: Version) -> tuple[str, ...]:
    from forge.repo.versions import changes

    date = version.date[:16].replace("T", " ")
    model = " ".join(_word(change) for change in changes(version.previous, version.item))
    if version.problem:
        model = f"({version.problem})"
    return (version.short, date, version.author, model or "-", _accuracy(version), version.subject)


def _word(change: Change) -> str:
    """`+lung 0.500` for a contribution that came in; `-lung` for one that went."""
    from forge.recipe.wording import short_coefficient

    if change.after is None:
        return f"-{change.name}"
    mark = {"added": "+", "replaced": "*"}.get(change.kind, "")
    return f"{mark}{change.name} {short_coefficient(change.after)}"


def _accuracy(version: Version) -> str:
    before, after = _accuracies(version)
    if after is None:
        return "-"
    return f"{after:.3f}" if before is None else f"{before:.3f} -> {after:.3f}"


def _accuracies(version: Version) -> tuple[float | None, float | None]:
    """(before, after); nothing of before where the commit has made no other model: that would look like its doing."""
    from forge.repo.versions import is_same_model, mean_accuracy

    if version.item is None:
        return None, None
    before, after = mean_accuracy(version.item)
    return None if is_same_model(version.previous, version.item) else before, after


def _as_json(version: Version) -> dict[str, Any]:
    from forge.repo.versions import changes, item_as_json

    before, after = _accuracies(version)
    return {
        "commit": version.commit,
        "date": version.date,
        "author": version.author,
        "subject": version.subject,
        "problem": version.problem,
        "changes": [vars(change) for change in changes(version.previous, version.item)],
        "accuracy_before": before,
        "accuracy": after,
        "model": item_as_json(version.item) if version.item else None,
    }
