"""Two forge items of the same contributions: what counts as the same, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.recipe.catalogue import SEARCH_METHODS
from forge.recipe.item import Base, Entry, ForgeItem, OwnScore, Search, TaskScore
from forge.recipe.item_differences import differences

BASE = Base("embedded", "sha256:" + "a" * 64)
ENTRY = Entry("ada", "1" * 40, "2" * 40, "3" * 40, {"q": 0.5, "v": 1.0}, {"breast": 0.25})
SEARCH = Search("joint", "module", "distillation", 0.003, "Shiwa", 7, 4, 0.5, 1.5, 0.05, {}, 0.25, 0.125)
TASK = TaskScore("breast", ("no", "yes"), 40, 0.9, 0.3, 0.8, 0.4)
OWN = OwnScore("ada", 40, 0.9, 0.3, 0.8, 0.4)
ITEM = ForgeItem(BASE, "mixture", (ENTRY,), SEARCH, (TASK,), own_scores=(OWN,))

Change = Callable[[ForgeItem], ForgeItem]


def entry(**changes: Any) -> Change:
    return lambda item: replace(item, contributions=(replace(ENTRY, **changes),))


def search(**changes: Any) -> Change:
    return lambda item: replace(item, search=replace(SEARCH, **changes))


def task(**changes: Any) -> Change:
    return lambda item: replace(item, scores=(replace(TASK, **changes),))


def own(**changes: Any) -> Change:
    return lambda item: replace(item, own_scores=(replace(OWN, **changes),))


# What is recorded, and what is said of it where ITEM comes out.
SAID: dict[str, tuple[Change, str]] = {
    "base": (lambda item: replace(item, base=Base("x", "sha256:" + "b" * 64)), "the base is sha256:bbbbbbbbbbbb, not"),
    "strategy": (lambda item: replace(item, strategy="fusion"), "the strategy is fusion, not mixture"),
    "names": (
        lambda item: replace(item, contributions=(replace(ENTRY, name="bob"),), own_scores=()),
        "the contributions are bob, not",
    ),
    "one module": (entry(coefficient={"q": 0.5, "v": 1.02}), "the coefficient of ada in v is 1.020000, not 1.000000"),
    "a module less": (entry(coefficient={"q": 0.5}), "the coefficient of ada in v is 0.000000, not 1.000000"),
    "one for all": (entry(coefficient=0.5), "the coefficient of ada in v is 0.500000, not 1.000000"),
    "a task's": (entry(tasks={"breast": 0.3}), "the coefficient of ada for breast is 0.300000, not 0.250000"),
    "no task's": (entry(tasks={}), "ada has coefficients for other tasks than breast"),
    "no search": (lambda item: replace(item, search=None), "it records no search, and there was one"),
    "method": (search(method="exact"), "the search's method is exact, not joint"),
    "seed": (search(seed=8), "the search's seed is 8, not 7"),
    "evaluations": (search(evaluations=5), "the search's evaluations is 5, not 4"),
    "objective": (search(objective="cross-entropy"), "the search's objective is cross-entropy, not distillation"),
    "reached": (search(objective_after=0.12), "the search's objective_after is 0.1200, not 0.1250"),
    "from": (search(objective_before=None), "the search's objective_before is unknown, not 0.2500"),
    "task": (
        lambda item: replace(item, scores=(TASK, replace(TASK, task="lung"))),
        "the scores are of other tasks than breast",
    ),
    "labels": (task(labels=("yes", "no")), "the labels of task breast are others"),
    "images": (task(images=41), "the images of task breast are 41, not 40"),
    "two images": (task(accuracy=0.95), "the accuracy of task breast is 0.9500, not 0.9000"),
    "before": (task(accuracy_before=0.5), "the accuracy_before of task breast is 0.5000, not 0.8000"),
    "no before": (task(accuracy_before=None), "the accuracy_before of task breast is unknown, not 0.8000"),
    "loss": (task(cross_entropy=0.31), "the cross_entropy of task breast is 0.3100, not 0.3000"),
    "own": (own(cross_entropy_before=0.5), "the cross_entropy_before of contribution ada is 0.5000, not 0.4000"),
}


@pytest.mark.parametrize("what", SAID)
def test_what_is_said(what: str) -> None:
    change, line = SAID[what]
    [said] = differences(change(ITEM), ITEM)
    assert said.startswith(line)


def test_the_same_and_what_may_differ() -> None:
    assert differences(ITEM, ITEM) == []
    near = replace(
        ITEM,
        base=Base("elsewhere", BASE.fingerprint),
        contributions=(replace(ENTRY, coefficient={"q": 0.509, "v": 0.991}, tasks={"breast": 0.2599}),),
        search=replace(SEARCH, objective_after=0.1265),
        scores=(replace(TASK, accuracy=0.875, cross_entropy=0.3015),),  # one image of forty
        own_scores=(replace(OWN, accuracy=0.925),),
        accepted=("ada",),
    )
    assert differences(near, ITEM) == []
    assert differences(replace(ITEM, own_scores=()), ITEM) == []  # by an earlier version


def test_a_number_that_is_the_same_in_every_module() -> None:
    assert differences(entry(coefficient=0.5)(ITEM), entry(coefficient={"q": 0.5, "v": 0.5})(ITEM)) == []


def test_without_a_search_nothing_may_differ() -> None:
    plain = replace(ITEM, search=None)
    assert differences(plain, plain) == []
    [said] = differences(replace(plain, contributions=(replace(ENTRY, coefficient={"q": 0.5, "v": 1.001}),)), plain)
    assert said == "the coefficient of ada in v is 1.001000, not 1.000000"


@given(st.sampled_from(sorted(SEARCH_METHODS)), st.floats(-2, 2))
def test_the_tolerance_is_the_methods(method: str, off: float) -> None:
    made = search(method=method)(ITEM)
    recorded = replace(made, contributions=(replace(ENTRY, coefficient={"q": 0.5, "v": 1.0 + off}),))
    assert bool(differences(recorded, made)) == (abs(1.0 + off - 1.0) > SEARCH_METHODS[method].tolerance + 1e-9)
