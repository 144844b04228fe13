"""git forge show: one version of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from forge.console import say

if TYPE_CHECKING:
    from forge.operations.show import Shown
    from forge.recipe.item import ForgeItem, OwnScore, TaskScore
    from forge.repo.contribution_details import Details


@click.command("show")
@click.argument("rev", default="HEAD")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def command(rev: str, as_json: bool) -> None:
    """Show one version of the model: contributions, coefficients, search and scores."""
    from forge import console
    from forge.operations.opening import open_model
    from forge.operations.show import show
    from forge.recipe.wording import strategy_words

    shown = show(open_model(), rev)
    if as_json:
        console.emit_json(_as_json(shown))
        return
    version, item = shown.version, shown.item
    _print_lines(
        f"Version   {version.short}  {version.subject}",
        f"          {version.date[:16].replace('T', ' ')}  {version.author}",
        f"Base      {item.base.reference}  {item.base.fingerprint}",
        f"Strategy  {strategy_words(item)}",
    )
    _print_contributions(item, shown.details)
    _print_coefficients(item)
    _print_search(item)
    _print_scores(item, shown.unchanged)
    if shown.disagreements:
        _print_lines("", "The forge item and the tree disagree:", *(f"  {problem}" for problem in shown.disagreements))


def _as_json(shown: Shown) -> dict[str, Any]:
    from forge.commands.model_json import item_as_json

    version, model = shown.version, item_as_json(shown.item)
    for contribution in model["contributions"]:
        contribution |= shown.details[contribution["name"]]._asdict()
    head = {"commit": version.commit, "date": version.date, "author": version.author}
    return {**head, "subject": version.subject, **model, "disagreements": list(shown.disagreements)}


def _print_lines(*lines: str) -> None:
    say(*(line.rstrip() for line in lines))


def _print_contributions(item: ForgeItem, details: Mapping[str, Details]) -> None:
    from forge import console
    from forge.recipe.wording import coefficient_words

    if not item.contributions:
        _print_lines("", "No contributions: the model is the base.")
        return
    rows = []
    for entry in item.contributions:
        its = details[entry.name]
        rows.append(
            (
                entry.name,
                coefficient_words(entry.coefficient),
                its.task or "?",
                " | ".join(its.labels) or "?",
                its.author or "?",
                its.kind or "?",
                f"{_size(its.adapter_bytes)} {entry.adapter[:10]}",
                f"{_size(its.distilled_bytes)} {entry.distilled[:10]}",
            )
        )
    headers = ("Name", "Coefficient", "Task", "Labels", "Author", "Kind", "Adapter", "Distilled dataset")
    say()
    console.print_table(headers, rows, right=(1, 6, 7), title="Contributions")


def _print_coefficients(item: ForgeItem) -> None:
    from forge import console
    from forge.recipe.wording import module_table, task_table

    by_module = module_table({entry.name: entry.coefficient for entry in item.contributions})
    for title, table in (("Coefficients by module", by_module), ("Coefficients by task", task_table(item))):
        if table is not None:
            headers, rows = table
            say()
            console.print_table(headers, rows, right=range(1, len(headers)), title=title)


def _print_search(item: ForgeItem) -> None:
    from forge import console
    from forge.recipe.wording import search_rows

    if item.search is not None:
        say()
        console.print_table(("Search", "Value"), search_rows(item.search))
    if item.consolidation is not None:
        residual = item.consolidation
        rows = [
            ("adapter", residual.adapter[:10]),
            ("steps", f"{residual.steps} at a learning rate of {residual.learning_rate:g}, seed {residual.seed}"),
            ("objective", f"{residual.objective_before:.6f} -> {residual.objective_after:.6f}"),
        ]
        say()
        console.print_table(("Consolidation", "Value"), rows)


def _print_scores(item: ForgeItem, unchanged: bool) -> None:
    """unchanged: the commit made nothing of its own of this model; what an earlier one was made from is no matter."""
    if not item.scores:
        return
    _print_score_table(
        "Task", [(score.task, score) for score in item.scores], unchanged, "Scores on the distilled images"
    )
    if len(item.own_scores) > len(item.scores):  # else every task is one contribution's
        own = [(score.name, score) for score in item.own_scores]
        _print_score_table("Contribution", own, unchanged, "On each contribution's own distilled images")
    if item.accepted:
        say(f"Accepted by a person, though the gate stopped it: {', '.join(item.accepted)}")


def _print_score_table(
    what: str, scores: Sequence[tuple[str, TaskScore | OwnScore]], unchanged: bool, title: str
) -> None:
    from forge import console
    from forge.commands.tables import BeforeAfter, ScoreRow, score_table

    rows = [
        ScoreRow(
            name,
            BeforeAfter(None if unchanged else score.accuracy_before, score.accuracy),
            BeforeAfter(None if unchanged else score.cross_entropy_before, score.cross_entropy),
            score.images,
        )
        for name, score in scores
    ]
    headers, cells, right = score_table(what, "before", "after", rows, images="first")
    say()
    console.print_table(headers, cells, right=right, title=title)


def _size(count: int | None) -> str:
    if count is None:
        return "?"
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"
