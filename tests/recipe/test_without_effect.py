"""Which contributions changed nothing: a table over recipes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_models import BASE

from forge.recipe.checks import Coefficient
from forge.recipe.item import Entry, ForgeItem, OwnScore
from forge.recipe.without_effect import without_effect


def entry(name: str, coefficient: Coefficient = 1.0, version: int = 0) -> Entry:
    digit = f"{'abcdef'.index(name)}{version}"
    return Entry(name, *(f"{part}{digit}".rjust(40, "0") for part in "123"), coefficient)


def own(name: str, before: float | None, after: float, accuracy_before: float = 0.5) -> OwnScore:
    return OwnScore(name, 4, 0.5, after, accuracy_before, before)


def item(entries: list[Entry], scores: list[OwnScore]) -> ForgeItem:
    return ForgeItem(BASE, "mixture", tuple(entries), own_scores=tuple(scores))


BEFORE = item([entry("a")], [own("a", None, 1.0)])
STILL, MOVED = own("a", 1.0, 1.0), own("a", 1.0, 1.2)


@pytest.mark.parametrize(
    ("entries", "scores", "named"),
    [
        ([entry("b")], [STILL, own("b", 0.7, 0.7)], ["b"]),
        ([entry("b")], [STILL, own("b", 0.7, 0.700001)], ["b"]),
        ([entry("b")], [STILL, own("b", 0.7, 0.6)], []),
        ([entry("b")], [STILL, own("b", 0.7, 0.7, accuracy_before=0.25)], []),
        ([entry("b")], [MOVED, own("b", 0.7, 0.7)], []),  # nobody but b can have moved it
        ([entry("b"), entry("c")], [MOVED, own("b", 0.7, 0.7), own("c", 0.7, 0.1)], ["b"]),
        ([entry("b", 0.0)], [MOVED, own("b", 0.7, 0.6)], ["b"]),
        ([entry("b", {"q": 0.0, "v": 0.0})], [MOVED, own("b", 0.7, 0.6)], ["b"]),
        ([entry("b", {"q": 0.0, "v": 0.1})], [MOVED, own("b", 0.7, 0.6)], []),
        ([entry("b")], [own("a", None, 1.0), own("b", None, 0.7)], []),  # nothing of before is known
        ([], [STILL], []),
    ],
)
def test_newcomers(entries: list[Entry], scores: list[OwnScore], named: list[str]) -> None:
    found = without_effect(item([entry("a"), *entries], scores), BEFORE)
    assert [line.split("'")[1] for line in found] == named
    assert all("changes no score" in line for line in found)


def test_one_that_was_replaced_is_a_newcomer() -> None:
    again = item([entry("a", version=1)], [own("a", 1.0, 1.0)])
    assert len(without_effect(again, BEFORE)) == 1
    assert without_effect(replace(BEFORE, own_scores=(STILL,)), BEFORE) == []
