"""The gate of a merge: which losses it stops, how they are accepted, and that old forge items keep their bytes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import ForgeError, MergeConflict
from forge.recipe.gate import Contradiction, accuracy_drops, pass_gate
from forge.recipe.item import Base, Entry, ForgeItem, OwnScore, TaskScore
from forge.recipe.item_text import from_json, to_json
from forge.repo.trailers import trailer_lines

BASE = Base("embedded", "sha256:base")


def entry(name: str) -> Entry:
    return Entry(name, name[0] * 40 if name[0] in "abcdef" else "0" * 40, "b" * 40, "c" * 40, 1.0)


def scored(**tasks: tuple[float | None, float]) -> ForgeItem:
    """A recipe of an earlier version: its tasks had and have these accuracies; nothing is known of contributions."""
    scores = [TaskScore(task, ("x", "y"), 40, after, 0.5, before, 0.25) for task, (before, after) in tasks.items()]
    return ForgeItem(BASE, "mixture", (entry("breast"),), None, tuple(scores))


def owned(**own: tuple[float | None, float]) -> ForgeItem:
    """A recipe whose contributions had and have these accuracies on their own images; one pool, which got better."""
    scores = [OwnScore(name, 40, after, 0.5, before, 0.25) for name, (before, after) in own.items()]
    pool = TaskScore("pool", ("x", "y"), 40 * len(own), 0.9, 0.5, 0.1, 0.25)
    return ForgeItem(BASE, "mixture", tuple(map(entry, own)), None, (pool,), own_scores=tuple(scores))


@pytest.mark.parametrize("made", [scored, owned])
@pytest.mark.parametrize(
    ("before", "after", "gate", "stopped"),
    [
        (0.9, 0.6, 0.2, True),
        (0.9, 0.7, 0.2, False),  # as much as is allowed, whatever floats make of .9 - .7
        (0.9, 0.699, 0.2, True),
        (0.5, 0.9, 0.0, False),
        (0.9, 0.875, 0.0, True),
        (1.0, 0.0, 1.0, False),  # off
        (None, 0.0, 0.0, False),  # nothing is known of before
    ],
)
def test_what_is_stopped(made: type[ForgeItem], before: float | None, after: float, gate: float, stopped: bool) -> None:
    item = made(breast=(before, after), lung=(0.5, 0.5))
    assert [drop.name for drop in accuracy_drops(item, gate)] == (["breast"] if stopped else [])
    if not stopped:
        assert pass_gate(item, gate, accept=False, hint="") is item
        assert pass_gate(item, gate, accept=True, hint="") is item  # nothing to record
        return
    with pytest.raises(MergeConflict) as caught:
        pass_gate(item, gate, accept=False, hint="say yes")
    assert f"  breast: accuracy {before:.3f} -> {after:.3f}, cross-entropy 0.250 -> 0.500" in caught.value.message
    assert "lung" not in caught.value.message and caught.value.hint == "say yes"


def test_what_is_accepted_is_recorded() -> None:
    item = owned(breast=(0.9, 0.1), lung=(0.9, 0.2), colon=(0.9, 0.9))
    taken = pass_gate(item, 0.2, accept=True, hint="")
    assert taken.accepted == ("breast", "lung")
    assert accuracy_drops(taken, 0.2) == accuracy_drops(item, 0.2)  # what is accepted is lost all the same
    text = to_json(taken)
    assert '  "accepted": [\n    "breast",\n    "lung"\n  ],\n' in text
    assert from_json(text) == taken
    assert trailer_lines(taken, None)[-2:] == [
        "Forge-Accepted: breast, which loses more than the gate allows",
        "Forge-Accepted: lung, which loses more than the gate allows",
    ]


def test_images_that_others_have_come_in_the_place_of_count_as_well() -> None:
    """A contribution that is replaced by one of another task would have no loss: nothing asks about the old one."""
    item = owned(breast=(0.5, 1.0))
    was = (OwnScore("breast", 40, 0.4, 0.9, 1.0, 0.1),)
    with pytest.raises(MergeConflict, match=r"breast: accuracy 1\.000 -> 0\.400"):
        pass_gate(item, 0.2, accept=False, hint="", replaced=was)
    assert pass_gate(item, 0.2, accept=True, hint="", replaced=was).accepted == ("breast",)


def test_a_contradiction_stops_whatever_the_scores_say() -> None:
    item = owned(breast=(0.5, 1.0))
    says = [Contradiction("breast", "its labels contradict")]
    for gate in (0.0, 1.0):
        with pytest.raises(MergeConflict, match="breast: its labels contradict") as caught:
            pass_gate(item, gate, accept=False, hint="", contradictions=says)
        assert "loses more" not in caught.value.message
    assert pass_gate(item, 1.0, accept=True, hint="", contradictions=says).accepted == ("breast",)


def test_a_forge_item_without_them_has_the_bytes_that_it_always_had() -> None:
    text = to_json(scored(breast=(0.9, 0.9)))
    assert "accepted" not in text and "own_scores" not in text


@pytest.mark.parametrize("accepted", [("colon",), ("breast", "breast"), ("",)])
def test_what_cannot_be_accepted(accepted: tuple[str, ...]) -> None:
    with pytest.raises(ForgeError, match="accepted"):
        replace(scored(breast=(0.9, 0.1)), accepted=accepted)


def spoilt(item: ForgeItem, key: str, value: str) -> str:
    """The text of an item with a line more, and the digest that it then has to have."""
    import hashlib

    lines = to_json(item).splitlines(keepends=True)
    lines.insert(2, f'  "{key}": {value},\n')
    digest = hashlib.sha256("".join([lines[0], *lines[2:]]).encode()).hexdigest()
    lines[1] = f'  "digest": "sha256:{digest}",\n'
    return "".join(lines)


@pytest.mark.parametrize("value", ["[]", '"breast"', "null", "[1]", '["colon"]', '{"breast": 1}'])
def test_a_text_that_accepts_nonsense_is_refused(value: str) -> None:
    with pytest.raises(ForgeError):
        from_json(spoilt(scored(breast=(0.9, 0.1)), "accepted", value))


GOOD = {"images": 40, "accuracy": 0.5, "cross_entropy": 1.0, "accuracy_before": None, "cross_entropy_before": None}


@pytest.mark.parametrize(
    "own",
    [
        {}, [], None, {"lung": GOOD}, {"breast": GOOD, "lung": GOOD}, {"breast": {**GOOD, "more": 1}},
        {"breast": {**GOOD, "accuracy": None}}, {"breast": {**GOOD, "accuracy": 1.5}},
        {"breast": {**GOOD, "images": -1}}, {"breast": {**GOOD, "cross_entropy": "x"}},
        {"breast": {key: GOOD[key] for key in ("images", "accuracy")}},
    ],
)  # fmt: skip
def test_own_scores_that_are_none_are_refused(own: object) -> None:
    with pytest.raises(ForgeError):
        from_json(spoilt(scored(breast=(0.9, 0.1)), "own_scores", json.dumps(own)))


shares = st.integers(0, 40).map(lambda images: images / 40)


@given(shares, shares, shares, shares)
def test_a_wider_gate_never_stops_more(before: float, after: float, gate: float, wider: float) -> None:
    item = owned(breast=(before, after))
    narrow, wide = sorted((gate, wider))
    assert set(accuracy_drops(item, wide)) <= set(accuracy_drops(item, narrow))
    assert not accuracy_drops(item, 1.0)
    assert bool(accuracy_drops(item, 0.0)) == (after < before)
