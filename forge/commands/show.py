"""git forge show: one version of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forge.console import say

if TYPE_CHECKING:
    from forge.recipe.item import ForgeItem, OwnScore, TaskScore
    from forge.repo.contribution_details import Details


@click.command("show")
@click.argument("rev", default="HEAD")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def command(rev: str, as_json: bool) -> None:
    """Show one version of the model: contributions, coefficients, search and scores."""
    from dataclasses import asdict

    from forge import console
    from forge.recipe.wording import strategy_words
    from forge.repo.contribution_details import find_details
    from forge.repo.erased import explained_disagreements
    from forge.repo.versions import find_model_repository, find_version, is_same_model, item_as_json

    repo = find_model_repository()
    version = find_version(repo, rev)
    assert version.item is not None
    item = version.item
    details = find_details(repo, version.commit, item.names)
    problems = explained_disagreements(repo, version.commit)
    if as_json:
        model = item_as_json(item)
        for contribution in model["contributions"]:
            contribution |= asdict(details[contribution["name"]])
        head = {"commit": version.commit, "date": version.date, "author": version.author}
        console.emit_json({**head, "subject": version.subject, **model, "disagreements": problems})
        return
    _print_lines(
        f"Version   {version.short}  {version.subject}",
        f"          {version.date[:16].replace('T', ' ')}  {version.author}",
        f"Base      {item.base.reference}  {item.base.fingerprint}",
        f"Strategy  {strategy_words(item)}",
    )
    _print_contributions(item, details)
    _print_coefficients(item)
    _print_search(item)
    _print_scores(item, is_same_model(version.previous, item))
    if problems:
        _print_lines("", "The forge item and the tree disagree:", *(f"  {problem}" for problem in problems))


def _print_lines(*lines: str) -> None:
    say(*(line.rstrip() for line in lines))


def _print_contributions(item: ForgeItem, details: dict[str, Details]) -> None:
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
        made = item.consolidation
        rows = [
            ("adapter", made.adapter[:10]),
            ("steps", f"{made.steps} at a learning rate of {made.learning_rate:g}, seed {made.seed}"),
            ("objective", f"{made.objective_before:.6f} -> {made.objective_after:.6f}"),
        ]
        say()
        console.print_table(("Consolidation", "Value"), rows)


def _print_scores(item: ForgeItem, unchanged: bool) -> None:
    """unchanged: the commit made nothing of its own of this model; what an earlier one was made from is no matter."""
    from forge import console

    if not item.scores:
        return
    headers = ("Images", "Accuracy before", "after", "Cross-entropy before", "after")
    rows = [(score.task, *_figures(score, unchanged)) for score in item.scores]
    say()
    console.print_table(("Task", *headers), rows, right=(1, 2, 3, 4, 5), title="Scores on the distilled images")
    if len(item.own_scores) > len(item.scores):  # else every task is one contribution's
        own = [(score.name, *_figures(score, unchanged)) for score in item.own_scores]
        say()
        console.print_table(
            ("Contribution", *headers), own, right=(1, 2, 3, 4, 5), title="On each contribution's own distilled images"
        )
    if item.accepted:
        say(f"Accepted by a person, though the gate stopped it: {', '.join(item.accepted)}")


def _figures(score: TaskScore | OwnScore, unchanged: bool) -> tuple[object, ...]:
    before, loss_before = (None, None) if unchanged else (score.accuracy_before, score.cross_entropy_before)
    return (
        score.images,
        "-" if before is None else f"{before:.3f}",
        f"{score.accuracy:.3f}",
        "-" if loss_before is None else f"{loss_before:.3f}",
        f"{score.cross_entropy:.3f}",
    )


def _size(count: int | None) -> str:
    if count is None:
        return "?"
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"
