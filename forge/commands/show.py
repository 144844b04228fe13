"""git forge show: one version of the model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from forge.console import say

if TYPE_CHECKING:
    from forge.repo.git import Repository
    from forge.repo.recipe import Entry, ForgeItem


@click.command("show")
@click.argument("rev", default="HEAD")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def command(rev: str, as_json: bool) -> None:
    """Show one version of the model: contributions, coefficients, search and scores."""
    from forge import console
    from forge.repo.contribution import disagreements
    from forge.repo.versions import find_model_repository, find_version, item_as_json
    from forge.repo.wording import strategy_words

    repo = find_model_repository()
    version = find_version(repo, rev)
    assert version.item is not None
    item = version.item
    details = {entry.name: _details(repo, version.commit, entry) for entry in item.contributions}
    problems = disagreements(repo, version.commit)
    if as_json:
        model = item_as_json(item)
        for contribution in model["contributions"]:
            contribution |= details[contribution["name"]]
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
    _print_scores(item)
    if problems:
        _print_lines("", "The forge item and the tree disagree:", *(f"  {problem}" for problem in problems))


def _print_lines(*lines: str) -> None:
    say(*(line.rstrip() for line in lines))


def _print_contributions(item: ForgeItem, details: dict[str, dict[str, Any]]) -> None:
    from forge import console
    from forge.repo.wording import coefficient_words

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
                its["task"] or "?",
                " | ".join(its["labels"]) or "?",
                its["author"] or "?",
                its["kind"] or "?",
                f"{_size(its['adapter_bytes'])} {entry.adapter[:10]}",
                f"{_size(its['distilled_bytes'])} {entry.distilled[:10]}",
            )
        )
    headers = ("Name", "Coefficient", "Task", "Labels", "Author", "Kind", "Adapter", "Distilled dataset")
    say()
    console.print_table(headers, rows, right=(1, 6, 7), title="Contributions")


def _print_coefficients(item: ForgeItem) -> None:
    from forge import console
    from forge.repo.wording import module_table, task_table

    by_module = module_table({entry.name: entry.coefficient for entry in item.contributions})
    for title, table in (("Coefficients by module", by_module), ("Coefficients by task", task_table(item))):
        if table is not None:
            headers, rows = table
            say()
            console.print_table(headers, rows, right=range(1, len(headers)), title=title)


def _print_search(item: ForgeItem) -> None:
    from forge import console
    from forge.repo.wording import search_rows

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


def _print_scores(item: ForgeItem) -> None:
    from forge import console

    if not item.scores:
        return
    rows = [
        (
            score.task,
            score.images,
            "-" if score.accuracy_before is None else f"{score.accuracy_before:.3f}",
            f"{score.accuracy:.3f}",
            "-" if score.cross_entropy_before is None else f"{score.cross_entropy_before:.3f}",
            f"{score.cross_entropy:.3f}",
        )
        for score in item.scores
    ]
    headers = ("Task", "Images", "Accuracy before", "after", "Cross-entropy before", "after")
    say()
    console.print_table(headers, rows, right=(1, 2, 3, 4, 5), title="Scores on the distilled images")
    if item.accepted:
        say(f"Accepted by a person, though it loses more than the gate allows: {', '.join(item.accepted)}")


def _details(repo: Repository, commit: str, entry: Entry) -> dict[str, Any]:
    """What the tree knows of a contribution; None where it knows nothing."""
    from forge.errors import ForgeError
    from forge.repo.card import read_card
    from forge.repo.contribution import ADAPTER_FILE, CARD_FILE, CONFIG_FILE, DISTILLED_FILE, path_of
    from forge.repo.git import git
    from forge.repo.payloads import MAX_CONFIG, check_adapter_config
    from forge.repo.places import read_file
    from forge.repo.toml_text import MAX_BYTES

    folder = path_of(entry.name)
    task: str | None = None
    labels: tuple[str, ...] = ()
    try:
        text = read_file(repo, commit, path_of(entry.name, CARD_FILE), MAX_BYTES)
        if text is not None:
            card = read_card(text)
            task, labels = card.task, card.labels
    except ForgeError:
        pass  # a card is for people; `git forge verify` says what is wrong with it
    kind: str | None = None
    try:
        text = read_file(repo, commit, path_of(entry.name, CONFIG_FILE), MAX_CONFIG)
        if text is not None:
            config = check_adapter_config(text, CONFIG_FILE)
            kind = f"{config.kind} r {config.rank}"
    except ForgeError:
        pass  # as above
    author = git(repo, "log", "-1", "--no-mailmap", "--format=%an", commit, "--", f":(top,literal){folder}")
    sizes = {}
    tree = git(repo, "ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", folder)
    for line in os.fsdecode(tree).split("\0"):
        head, _, path = line.partition("\t")
        if path and head.split()[3].isdigit():
            sizes[path] = int(head.split()[3])
    return {
        "task": task,
        "labels": list(labels),
        "kind": kind,
        "author": author.decode("utf-8", "replace").strip() or None,
        "adapter_bytes": sizes.get(path_of(entry.name, ADAPTER_FILE)),
        "distilled_bytes": sizes.get(path_of(entry.name, DISTILLED_FILE)),
    }


def _size(count: int | None) -> str:
    if count is None:
        return "?"
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"
