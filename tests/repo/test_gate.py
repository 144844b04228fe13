"""The gate of a merge: which losses it stops, how they are accepted, and that old forge items keep their bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import ForgeError, MergeConflict
from forge.repo.gate import losses, pass_gate, refused
from forge.repo.recipe import Base, Entry, ForgeItem, TaskScore
from forge.repo.recipe_text import from_json, to_json
from forge.repo.trailers import trailer_lines

ENTRY = Entry("breast", "a" * 40, "b" * 40, "c" * 40, 1.0)


def scored(**tasks: tuple[float | None, float]) -> ForgeItem:
    """A recipe whose tasks had and have these accuracies."""
    scores = [TaskScore(task, ("x", "y"), 40, after, 0.5, before, 0.25) for task, (before, after) in tasks.items()]
    return ForgeItem(Base("embedded", "sha256:base"), "mixture", (ENTRY,), None, tuple(scores))


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
def test_what_is_stopped(before: float | None, after: float, gate: float, stopped: bool) -> None:
    item = scored(breast=(before, after), lung=(0.5, 0.5))
    assert [score.task for score in losses(item, gate)] == (["breast"] if stopped else [])
    if not stopped:
        assert pass_gate(item, gate, accept=False, hint="") is item
        assert pass_gate(item, gate, accept=True, hint="") is item  # nothing to record
        return
    with pytest.raises(MergeConflict) as caught:
        pass_gate(item, gate, accept=False, hint="say yes")
    assert f"breast: accuracy {before:.3f} -> {after:.3f}, cross-entropy 0.250 -> 0.500" in caught.value.message
    assert "lung" not in caught.value.message and caught.value.hint == "say yes"


def test_what_is_accepted_is_recorded_and_no_longer_refused() -> None:
    item = scored(breast=(0.9, 0.1), lung=(0.9, 0.2), colon=(0.9, 0.9))
    taken = pass_gate(item, 0.2, accept=True, hint="")
    assert taken.accepted == ("breast", "lung")
    assert refused(taken, 0.2) == () and len(refused(item, 0.2)) == len(losses(taken, 0.2)) == 2
    text = to_json(taken)
    assert '  "accepted": [\n    "breast",\n    "lung"\n  ],\n' in text
    assert from_json(text) == taken
    assert trailer_lines(taken, None)[-2:] == [
        "Forge-Accepted: breast, which loses more than the gate allows",
        "Forge-Accepted: lung, which loses more than the gate allows",
    ]


def test_a_forge_item_without_it_has_the_bytes_that_it_always_had() -> None:
    assert "accepted" not in to_json(scored(breast=(0.9, 0.9)))


@pytest.mark.parametrize("accepted", [("colon",), ("breast", "breast"), ("",)])
def test_what_cannot_be_accepted(accepted: tuple[str, ...]) -> None:
    with pytest.raises(ForgeError, match="accepted"):
        replace(scored(breast=(0.9, 0.1)), accepted=accepted)


@pytest.mark.parametrize("value", ["[]", '"breast"', "null", "[1]", '["colon"]', '{"breast": 1}'])
def test_a_text_that_accepts_nonsense_is_refused(value: str) -> None:
    import hashlib

    lines = to_json(scored(breast=(0.9, 0.1))).splitlines(keepends=True)
    lines.insert(2, f'  "accepted": {value},\n')
    digest = hashlib.sha256("".join([lines[0], *lines[2:]]).encode()).hexdigest()
    lines[1] = f'  "digest": "sha256:{digest}",\n'
    with pytest.raises(ForgeError):
        from_json("".join(lines))


shares = st.integers(0, 40).map(lambda images: images / 40)


@given(shares, shares, shares, shares)
def test_a_wider_gate_never_stops_more(before: float, after: float, gate: float, wider: float) -> None:
    item = scored(breast=(before, after))
    narrow, wide = sorted((gate, wider))
    assert set(losses(item, wide)) <= set(losses(item, narrow))
    assert not losses(item, 1.0)
    assert bool(losses(item, 0.0)) == (after < before)
