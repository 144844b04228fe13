"""git forge review: what merging one branch into another would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.commands.reading import label_option, picture_options, read_options
from forge.console import say
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
    from dataclasses import asdict

    from forge.console import emit_json
    from forge.data.listing import list_images
    from forge.data.matching import Given
    from forge.errors import ForgeError
    from forge.git.running import find_repository
    from forge.operations.review import review

    if (labels or pairs) and len(folders) != 1:
        raise ForgeError("--labels and --label speak of one data set", hint="give them with one --data")
    repo, options = find_repository(), read_options(grey, skip_unreadable)
    for folder in folders:
        list_images(folder, "test", options)  # a slip is found before the merge
    found = review(repo, base, head, scores=scores, data=folders, labels=Given(labels, pairs), options=options)
    if style == "json":
        data = [{**row, "data": str(row["data"])} for row in found.data]
        emit_json({"ok": found.ok, **asdict(found), "data": data})
    elif style == "markdown":
        say(*_markdown(found, base, head))
    else:
        _print(found, base, head)
    return ExitCode.OK if found.ok else ExitCode.NEGATIVE


def _print(found: Review, base: str, head: str) -> None:
    from forge.console import print_table

    say(_title(found, base, head), _HOW[found.how], *_model_lines(found))
    if found.how != "up to date":
        say("", *_status_lines(found))
    for title, headers, rows, right in _tables(found):
        say()
        print_table(headers, rows, right=right, title=title or None)
    for title, lines in _lists(found):
        say("", f"{title}:", *(f"  {line}" for line in lines))
    if found.ok and found.how != "up to date":
        say("", f"git merge {found.head}")


def _markdown(found: Review, base: str, head: str) -> Iterator[str]:
    """Names, labels and messages come from the branch, so all of them stand in code spans, where nothing acts."""
    yield MARKER
    yield f"### {_title(found, _code(base), _code(head))}"
    yield ""
    yield " ".join(f"{line[0].upper()}{line[1:]}." for line in (_HOW[found.how], *_model_lines(found, _code)))
    if found.how != "up to date":
        yield ""
        yield from (f"- {line}" for line in _status_lines(found, _code))
    for title, headers, rows, right in _tables(found):
        if title:
            yield ""
            yield f"**{title}**"
        yield ""
        yield _row([_code(header) if index and title else header for index, header in enumerate(headers)])
        yield _row(["---:" if index in right else "---" for index in range(len(headers))])
        for first, *rest in rows:
            yield _row([_code(first), *(cell if index in right else _code(cell) for index, cell in enumerate(rest, 1))])
    for title, lines in _lists(found):
        yield ""
        yield f"**{title}:**"
        yield ""
        yield from (f"- {_code(line)}" for line in lines)
    yield ""
    if found.computed:
        yield "Accuracy and cross-entropy are on the distilled images, computed here."
    else:
        yield "Accuracy and cross-entropy are on the distilled images, as the forge items record them."
    if found.ok and found.how != "up to date":
        yield ""
        yield f"`git merge {found.head}`"


def _title(found: Review, base: str, head: str) -> str:
    if found.how == "up to date":
        return f"git forge: {head} is in {base} already"
    # "verified" means all that the repository asks for; a look with --no-scores is less.
    good = "verified" if found.reproduced != "not checked" else "consistent, not made again"
    return f"git forge: {head} into {base}: {good if found.ok else 'not ready'}"


def _model_lines(found: Review, shown: Shown = str) -> Iterator[str]:
    if found.strategy_before not in (None, found.strategy):
        yield f"strategy {found.strategy_before} -> {found.strategy}"
    if found.search is not None:
        before = found.search.objective_before
        reached = "" if before is None else f"{before:.4f} -> "
        yield f"the search's objective ({found.search.objective}) {reached}{found.search.objective_after:.4f}"
    if found.consolidation is not None:
        yield f"consolidation {found.consolidation}"
    if found.accepted:
        names = ", ".join(shown(name) for name in found.accepted)
        yield f"the branch says that somebody has accepted what the gate stopped, which counts for nothing: {names}"


def _status_lines(found: Review, shown: Shown = str) -> Iterator[str]:
    """Three things, apart; and the full ids of what they are about."""
    yield f"consistent: {'yes' if found.consistent else 'no'}"
    yield f"reproduced: {_MADE[found.reproduced]}"
    judged = found.signatures
    if not judged.required:
        yield "signatures: not required"
    else:
        people = sorted(set(judged.signers.values()))
        yield f"signed by: {', '.join(map(shown, people)) or 'nobody'}"
        behind = ", ".join(map(shown, judged.approved_by)) or "nobody"
        yield f"maintainers behind it: {behind} ({judged.threshold} are asked for on a protected branch)"
    yield f"target {found.base}"
    yield f"branch {found.head}"


def _lists(found: Review) -> Iterator[tuple[str, Sequence[str]]]:
    for title, lines in (
        ("Also changes", found.also),
        ("Not to be merged as it is", found.problems),
        ("What to do", found.advice),
    ):
        if lines:
            yield title, lines


def _tables(found: Review) -> Iterator[Table]:
    """What changed of the contributions, of the tasks and of each contribution's own images; nothing for a conflict."""
    from forge.recipe.wording import coefficient_words

    if found.contributions:
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
            for each in found.contributions
        ]
        yield "", ("Contribution", "Coefficient", "After", "Size", "Images", "Change", "By"), rows, (1, 2, 3, 4)
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
        yield "", ("Task", "Accuracy", "After", "Cross-entropy", "After", "Images"), figures, (1, 2, 3, 4, 5)
    if found.own_scores:
        yield _own_table(found)
    if found.data:
        yield _data_table(found)


def _own_table(found: Review) -> Table:
    """Accuracy on every contribution's own images: of the target, of the merged model, of each newcomer by itself."""
    newcomers = sorted(found.alone)
    rows = [
        (
            score.name,
            str(score.images),
            _figure(score.accuracy_before),
            _figure(score.accuracy),
            *(_figure(found.alone[name].get(score.name)) for name in newcomers),
        )
        for score in found.own_scores
    ]
    there = {score.name for score in found.own_scores}
    rows += [
        (
            f"{score.name} ({'as it was' if score.name in there else 'taken out'})",
            str(score.images),
            _figure(score.accuracy_before),
            _figure(score.accuracy),
            *("-" for _ in newcomers),
        )
        for score in found.gone
    ]
    headers = ("Whose images", "Images", "Target", "Merged", *(f"{name} alone" for name in newcomers))
    return "Accuracy on each contribution's own distilled images", headers, rows, tuple(range(1, len(headers)))


def _data_table(found: Review) -> Table:
    rows = []
    for folder in dict.fromkeys(row["data"] for row in found.data):
        pair = {row["rev"]: row for row in found.data if row["data"] == folder}
        cells = [
            f"{row['accuracy']:.3f} / " + ("-" if row["auc"] is None else f"{row['auc']:.3f}")
            for row in (pair[found.base], pair[str(found.merged)])
        ]
        rows.append((str(folder), str(pair[found.base]["images"]), *cells))
    return "ACC / AUC on your own images", ("Data", "Images", "Target", "Merged"), rows, (1, 2, 3)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """`text` as one code span of a Markdown table: no tag, link or mention in it acts."""
    from forge.text import printable

    plain = printable(text).replace("`", "'").replace("|", "\\|").strip()
    return f"`{plain}`" if plain else "-"
