"""git forge diff: what changed from one version of the model to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forge.console import say
from forge.errors import ExitCode

if TYPE_CHECKING:
    from forge.operations.diff import Difference


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
    from forge.operations.diff import diff
    from forge.operations.opening import open_model

    repo = open_model()
    if b is None and ".." in a and "..." not in a:
        a, _, b = a.partition("..")
        a, b = a or "HEAD", b or "HEAD"
    difference = diff(repo, a, b)
    if as_json:
        console.emit_json(_as_json(difference, a, b))
    elif difference.differs:
        _print(difference, a, b or "work tree")
    return ExitCode.NEGATIVE if exit_code and difference.differs else ExitCode.OK


def _print(difference: Difference, a: str, b: str) -> None:
    from forge import console
    from forge.commands.tables import BeforeAfter, ScoreRow, score_table
    from forge.recipe.wording import coefficient_words, strategy_words

    before, after = difference.before, difference.after
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
        for change in difference.changes
    ]
    if rows:
        console.print_table(("Contribution", "Change", a, b), rows, right=(2, 3))
    if difference.scores:
        say()
        scores = [
            ScoreRow(
                task,
                BeforeAfter(old.accuracy if old else None, new.accuracy if new else None),
                BeforeAfter(old.cross_entropy if old else None, new.cross_entropy if new else None),
            )
            for task, old, new in difference.scores
        ]
        headers, cells, right = score_table("Task", a, b, scores)
        console.print_table(headers, cells, right=right)


def _as_json(difference: Difference, a: str, b: str | None) -> dict[str, Any]:
    return {
        "before": {"rev": a, "strategy": difference.before.strategy, "base": vars(difference.before.base)},
        "after": {"rev": b, "strategy": difference.after.strategy, "base": vars(difference.after.base)},
        "differs": difference.differs,
        "contributions": [vars(change) for change in difference.changes],
        "scores": [
            {
                "task": task,
                "accuracy_before": old and old.accuracy,
                "accuracy_after": new and new.accuracy,
                "cross_entropy_before": old and old.cross_entropy,
                "cross_entropy_after": new and new.cross_entropy,
            }
            for task, old, new in difference.scores
        ],
    }
