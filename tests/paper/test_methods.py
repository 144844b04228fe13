"""Names, groups and orders of the rows."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.paper.merges import settings_of
from examples.paper.methods import DISTILLATION_ROWS, DORA_ROWS, METHODS, Merge, matching, orders_of
from forge.errors import ForgeError
from forge.recipe.catalogue import HELD_OUT, check_combination
from forge.recipe.settings import SearchSettings


def test_names_are_keys_and_titles_are_unique() -> None:
    assert all(name == method.name for name, method in METHODS.items())
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


def test_the_papers_own_settings() -> None:
    paper = [method for method in METHODS.values() if method.group == "paper"]
    assert {method.how.strategy for method in paper if isinstance(method.how, Merge)} == {
        "fusion",
        "mixture",
        "mixture-output",
    }
    for method in paper:
        assert isinstance(method.how, Merge)
        settings = settings_of(method.how, SearchSettings())
        assert (settings.method, settings.per, settings.objective) == ("shiwa", "contribution", "cross-entropy")
        assert (settings.optimizer, settings.evaluations, settings.start) == ("Shiwa", 40, 0.5)
        assert (settings.bounds, settings.l1) == (1.5, 0.05)


def test_every_merge_has_a_meaning_for_git_forge() -> None:
    merges = [method.how for method in METHODS.values() if isinstance(method.how, Merge)]
    for how in merges:
        settings = settings_of(how, SearchSettings())
        check_combination(how.strategy, how.method, how.per)
        assert (settings.pull == HELD_OUT) == (how.objective == "held-out")


def test_tables_three_and_four_hold_both_strategies() -> None:
    for rows in (DISTILLATION_ROWS, DORA_ROWS):
        assert {method.how.strategy for method in rows if isinstance(method.how, Merge)} == {"fusion", "mixture"}


def test_patterns() -> None:
    assert [method.name for method in matching(["soup", "zero*"])] == ["zero-shot", "soup"]
    assert matching([]) == list(METHODS.values())
    assert matching(["zero*"], DORA_ROWS) == []
    with pytest.raises(ForgeError, match="no method is called 'nothing-'"):
        matching(["nothing-"])


@given(st.integers(1, 6), st.integers(1, 8))
def test_orders(count: int, most: int) -> None:
    names = "abcdef"[:count]
    orders = orders_of(names, most)
    assert orders[0] == tuple(names)
    assert len(set(orders)) == len(orders) <= most
    assert all(sorted(order) == list(names) for order in orders)
    if most > 1 and count > 1:
        assert orders[1] == tuple(reversed(names))


def test_all_six_orders_of_three() -> None:
    assert set(orders_of("abc")) == set(permutations("abc"))
    assert len(orders_of("abcd")) == 6
