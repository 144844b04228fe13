"""The table of scores that several verbs print."""

from __future__ import annotations

from typing import Literal

import pytest

from forge.commands.tables import BeforeAfter, ScoreRow, accuracy_and_area, figure, score_table
from forge.text import aligned

ROWS = [
    ScoreRow("lung", BeforeAfter(0.5, 0.75), BeforeAfter(1.25, 1.0), 8),
    ScoreRow("colon", BeforeAfter(None, 1.0), BeforeAfter(None, 0.0005)),
]


@pytest.mark.parametrize(
    ("before", "after", "images", "headers", "first", "second"),
    [
        (
            "v1",
            "v2",
            None,
            ("Task", "Accuracy v1", "v2", "Cross-entropy v1", "v2"),
            ("lung", "0.500", "0.750", "1.250", "1.000"),
            ("colon", "-", "1.000", "-", "0.001"),
        ),
        (
            "before",
            "after",
            "first",
            ("Task", "Images", "Accuracy before", "after", "Cross-entropy before", "after"),
            ("lung", "8", "0.500", "0.750", "1.250", "1.000"),
            ("colon", "-", "-", "1.000", "-", "0.001"),
        ),
        (
            "",
            "After",
            "last",
            ("Task", "Accuracy", "After", "Cross-entropy", "After", "Images"),
            ("lung", "0.500", "0.750", "1.250", "1.000", "8"),
            ("colon", "-", "1.000", "-", "0.001", "-"),
        ),
    ],
)
def test_a_score_table(
    before: str,
    after: str,
    images: Literal["first", "last"] | None,
    headers: tuple[str, ...],
    first: tuple[str, ...],
    second: tuple[str, ...],
) -> None:
    right = tuple(range(1, len(headers)))
    assert score_table("Task", before, after, ROWS, images=images) == (headers, [first, second], right)
    assert score_table("Task", before, after, [], images=images) == (headers, [], right)


def test_figures() -> None:
    assert [figure(value) for value in (None, 0.0, 0.12345)] == ["-", "0.000", "0.123"]
    assert [accuracy_and_area(0.5, auc) for auc in (None, 0.25)] == ["0.500 / -", "0.500 / 0.250"]


def test_a_table_of_many_rows_is_the_same_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(name, "x\ty\n\x85\u2028é" * (number % 3), number) for number, name in enumerate(("a", "", "ü", "\ud800"))]
    expected = aligned(("Name", "What", "Number"), rows, right=(2,))
    monkeypatch.setattr("forge.text._HELD", 5)
    assert aligned(("Name", "What", "Number"), iter(rows), right=(2,)) == expected  # type: ignore[arg-type]
    assert expected.count("\n") == 5
