"""git forge review: what merging one branch into another would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forge.commands.reading import given_labels, label_option, picture_options, read_options
from forge.console import emit_json, note, print_table, say
from forge.errors import ExitCode

if TYPE_CHECKING:
    from forge.operations.review import Review

# Title, headers, rows, and the indices of the columns of numbers.
Table = tuple[str, tuple[str, ...], Sequence[tuple[str, ...]], tuple[int, ...]]
Shown = Callable[[str], str]

MARKER = "<!-- git forge review -->"  # by which a script finds the comment that it wrote before

_HOW = {
    "up to date": "is in it already",
    "fast-forward": "fast-forward: the model of the branch becomes that of the target, as it is",
    "merge": "both sides moved: the merge driver weighs the contributions",
    "conflict": "a conflict: it cannot be merged as it is",
}
_MADE = {
    "yes": "yes: the forge items of the branch come out again by the target's settings",
    "made here": "yes: the merged forge item was made here",
    "no": "no",
    "not checked": "not checked (--no-scores)",
}


@click.command("review")
@click.argument("base")
@click.argument("head", default="HEAD")
@click.option("--scores/--no-scores", default=True, help="Run both models, and make the branch's forge items again.")
@click.option(
    "--data",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Labelled images that only you have: both models are measured on them.",
)
@click.option("--labels", multiple=True, metavar="TEXT", help="A label text per class of --data.")
@label_option
@picture_options
@click.option("--markdown", "style", flag_value="markdown", help="Print Markdown, for a comment.")
@click.option("--json", "style", flag_value="json", help="Print JSON, for scripts.")
def command(
    base: str,
    head: str,
    scores: bool,
    folders: tuple[Path, ...],
    labels: tuple[str, ...],
    pairs: tuple[str, ...],
    grey: tuple[float, float] | None,
    skip_unreadable: bool,
    style: str | None,
) -> int:
    """Check HEAD and show what merging it into BASE would give: contributions, coefficients, scores, other changes.

    The merge is done in a work tree that is thrown away: nothing changes here. Settings, gate, limits, keys and rights
    are those of BASE. Three things are told apart: whether everything is consistent, whether the forge items come out
    again when they are made here (reproduced), and who signed. Exits with 1 if anything is against the merge.
    """
    from forge.operations.opening import open_repository
    from forge.operations.review import review

    reviewed = review(
        open_repository(),
        base,
        head,
        scores=scores,
        data=folders,
        labels=given_labels(labels, pairs),
        options=read_options(grey, skip_unreadable),
        report=note,
    )
    if style == "json":
        emit_json(_as_json(reviewed))
    elif style == "markdown":
        say(*_markdown(reviewed, base, head))
    else:
        _print(reviewed, base, head)
    return ExitCode.OK if reviewed.ok else ExitCode.NEGATIVE


def _as_json(review: Review) -> dict[str, Any]:
    from dataclasses import asdict

    return {"ok": review.ok, **asdict(review), "data": [{**asdict(row), "data": str(row.data)} for row in review.data]}


def _print(review: Review, base: str, head: str) -> None:
    say(_title(review, base, head), _HOW[review.how], *_model_lines(review))
    if review.how != "up to date":
        say("", *_status_lines(review))
    for title, headers, rows, right in _tables(review):
        say()
        print_table(headers, rows, right=right, title=title or None)
    for title, lines in _lists(review):
        say("", f"{title}:", *(f"  {line}" for line in lines))
    if review.ok and review.how != "up to date":
        say("", f"git merge {review.head}")


def _markdown(review: Review, base: str, head: str) -> Iterator[str]:
    """Names, labels and messages come from the branch, so all of them stand in code spans, where nothing acts."""
    yield MARKER
    yield f"### {_title(review, _code(base), _code(head))}"
    yield ""
    yield " ".join(f"{line[0].upper()}{line[1:]}." for line in (_HOW[review.how], *_model_lines(review, _code)))
    if review.how != "up to date":
        yield ""
        yield from (f"- {line}" for line in _status_lines(review, _code))
    for title, headers, rows, right in _tables(review):
        if title:
            yield ""
            yield f"**{title}**"
        yield ""
        yield _row([_code(header) if index and title else header for index, header in enumerate(headers)])
        yield _row(["---:" if index in right else "---" for index in range(len(headers))])
        for first, *rest in rows:
            yield _row([_code(first), *(cell if index in right else _code(cell) for index, cell in enumerate(rest, 1))])
    for title, lines in _lists(review):
        yield ""
        yield f"**{title}:**"
        yield ""
        yield from (f"- {_code(line)}" for line in lines)
    yield ""
    if review.computed:
        yield "Accuracy and cross-entropy are on the distilled images, computed here."
    else:
        yield "Accuracy and cross-entropy are on the distilled images, as the forge items record them."
    if review.ok and review.how != "up to date":
        yield ""
        yield f"`git merge {review.head}`"


def _title(review: Review, base: str, head: str) -> str:
    if review.how == "up to date":
        return f"git forge: {head} is in {base} already"
    # "verified" means all that the repository asks for; a look with --no-scores is less.
    good = "verified" if review.reproduced != "not checked" else "consistent, not made again"
    return f"git forge: {head} into {base}: {good if review.ok else 'not ready'}"


def _model_lines(review: Review, shown: Shown = str) -> Iterator[str]:
    if review.strategy_before not in (None, review.strategy):
        yield f"strategy {review.strategy_before} -> {review.strategy}"
    if review.search is not None:
        before = review.search.objective_before
        reached = "" if before is None else f"{before:.4f} -> "
        yield f"the search's objective ({review.search.objective}) {reached}{review.search.objective_after:.4f}"
    if review.consolidation is not None:
        yield f"consolidation {review.consolidation}"
    if review.accepted:
        names = ", ".join(shown(name) for name in review.accepted)
        yield f"the branch says that somebody has accepted what the gate stopped, which counts for nothing: {names}"


def _status_lines(review: Review, shown: Shown = str) -> Iterator[str]:
    """Three things, apart; and the full ids of what they are about."""
    yield f"consistent: {'yes' if review.consistent else 'no'}"
    yield f"reproduced: {_MADE[review.reproduced]}"
    judged = review.signatures
    if not judged.required:
        yield "signatures: not required"
    else:
        people = sorted(set(judged.signers.values()))
        yield f"signed by: {', '.join(map(shown, people)) or 'nobody'}"
        behind = ", ".join(map(shown, judged.approved_by)) or "nobody"
        yield f"maintainers behind it: {behind} ({judged.threshold} are asked for on a protected branch)"
    yield f"target {review.base}"
    yield f"branch {review.head}"


def _lists(review: Review) -> Iterator[tuple[str, Sequence[str]]]:
    for title, lines in (
        ("Also changes", review.also),
        ("Not to be merged as it is", review.problems),
        ("What to do", review.advice),
    ):
        if lines:
            yield title, lines


def _tables(review: Review) -> Iterator[Table]:
    """What changed of the contributions, of the tasks and of each contribution's own images; nothing for a conflict."""
    from forge.commands.tables import BeforeAfter, ScoreRow, score_table
    from forge.recipe.wording import coefficient_words

    if review.contributions:
        rows = [
            (
                each.name,
                coefficient_words(each.before),
                coefficient_words(each.after),
                "-" if each.size is None else f"{each.size / 2**20:.2f} MiB",
                "-" if each.images is None else str(each.images),
                each.change + (f" ({', '.join(each.parts)})" if each.parts and each.change != "added" else ""),
                ", ".join(each.by) or "-",
            )
            for each in review.contributions
        ]
        yield "", ("Contribution", "Coefficient", "After", "Size", "Images", "Change", "By"), rows, (1, 2, 3, 4)
    if review.scores:
        scores = [
            ScoreRow(
                each.task,
                BeforeAfter(each.accuracy_before, each.accuracy),
                BeforeAfter(each.cross_entropy_before, each.cross_entropy),
                each.images,
            )
            for each in review.scores
        ]
        yield ("", *score_table("Task", "", "After", scores, images="last"))
    if review.own_scores:
        yield _own_table(review)
    if review.data:
        yield _data_table(review)


def _own_table(review: Review) -> Table:
    """Accuracy on every contribution's own images: of the target, of the merged model, of each newcomer by itself."""
    from forge.text import figure

    newcomers = sorted(review.alone)
    rows = [
        (
            score.name,
            str(score.images),
            figure(score.accuracy_before),
            figure(score.accuracy),
            *(figure(review.alone[name].get(score.name)) for name in newcomers),
        )
        for score in review.own_scores
    ]
    there = {score.name for score in review.own_scores}
    rows += [
        (
            f"{score.name} ({'as it was' if score.name in there else 'taken out'})",
            str(score.images),
            figure(score.accuracy_before),
            figure(score.accuracy),
            *("-" for _ in newcomers),
        )
        for score in review.gone
    ]
    headers = ("Whose images", "Images", "Target", "Merged", *(f"{name} alone" for name in newcomers))
    return "Accuracy on each contribution's own distilled images", headers, rows, tuple(range(1, len(headers)))


def _data_table(review: Review) -> Table:
    from forge.commands.tables import accuracy_and_area

    rows = []
    for folder in dict.fromkeys(row.data for row in review.data):
        by_rev = {row.rev: row for row in review.data if row.data == folder}
        pair = (by_rev[review.base], by_rev[str(review.merged)])
        rows.append((str(folder), str(pair[0].images), *(accuracy_and_area(row.accuracy, row.auc) for row in pair)))
    return "ACC / AUC on your own images", ("Data", "Images", "Target", "Merged"), rows, (1, 2, 3)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """`text` as one code span of a Markdown table: no tag, link or mention in it acts."""
    from forge.text import printable

    plain = printable(text).replace("`", "'").replace("|", "\\|").strip()
    return f"`{plain}`" if plain else "-"
