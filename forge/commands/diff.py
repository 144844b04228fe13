"""git forge diff: what changed from one version of the model to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forge.console import say
from forge.errors import ExitCode

if TYPE_CHECKING:
    from forge.recipe.item import ForgeItem


@click.command("diff")
@click.argument("a", default="HEAD", metavar="[A")
@click.argument("b", required=False, metavar="[B]]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the two differ, as git diff does.")
def command(a: str, b: str | None, as_json: bool, exit_code: bool) -> int:
    """Compare two versions of the model: contributions, coefficients and scores of A and of B.

    Without B, A is compared with the forge item in the work tree; A is HEAD if not given. A..B is the same
    as A B.
    """
    from forge import console
    from forge.repo.items import read_item
    from forge.repo.versions import changes, find_model_repository

    repo = find_model_repository()
    if b is None and ".." in a and "..." not in a:
        a, _, b = a.partition("..")
        a, b = a or "HEAD", b or "HEAD"
    before, after = read_item(repo, a), read_item(repo, b)
    differs = before != after
    if as_json:
        console.emit_json(
            {
                "before": {"rev": a, "strategy": before.strategy, "base": vars(before.base)},
                "after": {"rev": b, "strategy": after.strategy, "base": vars(after.base)},
                "differs": differs,
                "contributions": [vars(change) for change in changes(before, after)],
                "scores": _scores(before, after),
            }
        )
    elif differs:
        _print(before, after, a, b or "work tree")
    return ExitCode.NEGATIVE if exit_code and differs else ExitCode.OK


def _print(before: ForgeItem, after: ForgeItem, a: str, b: str) -> None:
    from forge import console
    from forge.recipe.wording import coefficient_words, strategy_words
    from forge.repo.versions import changes

    model = [
        (what, old, new)
        for what, old, new in (
            ("strategy", strategy_words(before), strategy_words(after)),
            ("base", before.base.reference, after.base.reference),
            ("fingerprint", before.base.fingerprint, after.base.fingerprint),
        )
        if old != new
    ]
    if model:
        console.print_table(("Model", a, b), model)
        say()
    rows = [
        (change.name, change.kind, coefficient_words(change.before), coefficient_words(change.after))
        for change in changes(before, after)
    ]
    if rows:
        console.print_table(("Contribution", "Change", a, b), rows, right=(2, 3))
    scores = _scores(before, after)
    if scores:
        say()
        figures = [
            (
                score["task"],
                _figure(score["accuracy_before"], 3),
                _figure(score["accuracy_after"], 3),
                _figure(score["cross_entropy_before"], 3),
                _figure(score["cross_entropy_after"], 3),
            )
            for score in scores
        ]
        headers = ("Task", f"Accuracy {a}", b, f"Cross-entropy {a}", b)
        console.print_table(headers, figures, right=(1, 2, 3, 4))


def _scores(before: ForgeItem, after: ForgeItem) -> list[dict[str, Any]]:
    """Each task's scores as either model recorded them when it was made, on the distilled images."""
    rows = []
    for task in sorted({score.task for item in (before, after) for score in item.scores}):
        old, new = before.score(task), after.score(task)
        rows.append(
            {
                "task": task,
                "accuracy_before": old and old.accuracy,
                "accuracy_after": new and new.accuracy,
                "cross_entropy_before": old and old.cross_entropy,
                "cross_entropy_after": new and new.cross_entropy,
            }
        )
    return rows


def _figure(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
