"""git forge review: what merging one branch into another would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from forge.console import say
from forge.errors import ExitCode

if TYPE_CHECKING:
    from forge.operations.reviewing import Review

# Headers, rows, and the indices of the columns of numbers.
Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]], tuple[int, ...]]

MARKER = "<!-- git forge review -->"  # by which a script finds the comment that it wrote before

_HOW = {
    "up to date": "is in it already",
    "fast-forward": "fast-forward: the model of the branch becomes that of the target, as it is",
    "merge": "both sides moved: the merge driver weighs the contributions",
    "conflict": "a conflict: it cannot be merged as it is",
}


@click.command("review")
@click.argument("base")
@click.argument("head", default="HEAD")
@click.option("--scores/--no-scores", default=True, help="Compute the scores that HEAD records again.")
@click.option("--markdown", "style", flag_value="markdown", help="Print Markdown, for a comment.")
@click.option("--json", "style", flag_value="json", help="Print JSON, for scripts.")
def command(base: str, head: str, scores: bool, style: str | None) -> int:
    """Verify HEAD and show what merging it into BASE would give: contributions, coefficients, scores, sizes.

    The merge is done in a work tree that is thrown away: nothing changes here. Exits with 1 if anything does not
    verify, the merge conflicts, or a task loses more than the gate of forge.toml allows.
    """
    from dataclasses import asdict

    from forge.console import emit_json
    from forge.operations.reviewing import review
    from forge.repo.git import find_repository

    found = review(find_repository(), base, head, scores=scores)
    if style == "json":
        emit_json({"ok": found.ok, **asdict(found)})
    elif style == "markdown":
        say(*_markdown(found, base, head))
    else:
        _print(found, base, head)
    return ExitCode.OK if found.ok else ExitCode.NEGATIVE


def _print(found: Review, base: str, head: str) -> None:
    from forge.console import print_table

    for line in (_title(found, base, head), _HOW[found.how], *_model_lines(found)):
        say(line)
    for headers, rows, right in _tables(found):
        say()
        print_table(headers, rows, right=right)
    for title, lines in (("Not to be merged as it is:", found.problems), ("What to do:", found.advice)):
        if lines:
            say("", title)
            for line in lines:
                say(f"  {line}")


def _markdown(found: Review, base: str, head: str) -> Iterator[str]:
    """Names, labels and messages come from the branch, so all of them stand in code spans, where nothing acts."""
    yield MARKER
    yield f"### {_title(found, _code(base), _code(head))}"
    yield ""
    yield " ".join(f"{line[0].upper()}{line[1:]}." for line in (_HOW[found.how], *_model_lines(found, _code)))
    for headers, rows, right in _tables(found):
        yield ""
        yield _row(headers)
        yield _row(["---:" if index in right else "---" for index in range(len(headers))])
        for first, *rest in rows:
            yield _row([_code(first), *(cell if index in right else _code(cell) for index, cell in enumerate(rest, 1))])
    for title, lines in (("Not to be merged as it is", found.problems), ("What to do", found.advice)):
        if lines:
            yield ""
            yield f"**{title}:**"
            yield ""
            yield from (f"- {_code(line)}" for line in lines)
    yield ""
    yield "Accuracy and cross-entropy are on the distilled images, as the forge items record them."


def _title(found: Review, base: str, head: str) -> str:
    if found.how == "up to date":
        return f"git forge: {head} is in {base} already"
    return f"git forge: {head} into {base}: {'verified' if found.ok else 'not ready'}"


def _model_lines(found: Review, shown: Callable[[str], str] = str) -> Iterator[str]:
    if found.strategy_before not in (None, found.strategy):
        yield f"strategy {found.strategy_before} -> {found.strategy}"
    if found.search is not None:
        before = found.search.objective_before
        reached = "" if before is None else f"{before:.4f} -> "
        yield f"the search's objective ({found.search.objective}) {reached}{found.search.objective_after:.4f}"
    if found.accepted:
        yield f"losses that somebody has accepted: {', '.join(shown(task) for task in found.accepted)}"


def _tables(found: Review) -> Iterator[Table]:
    """What changed of the contributions and of the tasks; nothing for a conflict."""
    from forge.repo.wording import coefficient_words

    if found.contributions:
        rows = [
            (
                each.name,
                coefficient_words(each.before),
                coefficient_words(each.after),
                "-" if each.size is None else f"{each.size / 2**20:.2f} MiB",
                "-" if each.images is None else str(each.images),
                each.change,
                ", ".join(each.authors) or "-",
            )
            for each in found.contributions
        ]
        yield ("Contribution", "Coefficient", "After", "Size", "Images", "Change", "By"), rows, (1, 2, 3, 4)
    if found.scores:
        figures = [
            (
                each.task,
                _figure(each.accuracy_before),
                _figure(each.accuracy),
                _figure(each.cross_entropy_before),
                _figure(each.cross_entropy),
                "-" if each.images is None else str(each.images),
            )
            for each in found.scores
        ]
        yield ("Task", "Accuracy", "After", "Cross-entropy", "After", "Images"), figures, (1, 2, 3, 4, 5)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """`text` as one code span of a Markdown table: no tag, link or mention in it acts."""
    from forge.text import printable

    plain = printable(text).replace("`", "'").replace("|", "\\|").strip()
    return f"`{plain}`" if plain else "-"
