"""Items that are read one after the other: each is what from_json says of it, whatever the one before it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipe.test_item import SEARCH, items, with_digest

from forge.errors import ForgeError
from forge.recipe import item_reader
from forge.recipe.item import Base, Entry, ForgeItem, OwnScore, TaskScore
from forge.recipe.item_reader import ItemReader
from forge.recipe.item_text import from_json, to_json

NAMES = tuple(f"site-{number}" for number in range(8))
ITEM = ForgeItem(
    Base("embedded", "sha256:" + "0" * 64),
    "mixture",
    tuple(Entry(name, f"{i:040x}", "c" * 40, f"{i + 50:040x}", {"a": 0.5, "b": i / 7}) for i, name in enumerate(NAMES)),
    SEARCH,
    (TaskScore("task", ("no", "yes"), 4, 0.5, 0.25), TaskScore("other", ("a", "b"), 4, 0.5, 0.25)),
    own_scores=tuple(OwnScore(name, 4, 0.5, 0.25, 0.75) for name in NAMES),
)


def outcome(read: Callable[[bytes], ForgeItem], text: bytes) -> ForgeItem | tuple[str, str | None]:
    try:
        return read(text)
    except ForgeError as error:
        return error.message, error.hint


def signed(body: str) -> bytes:
    """A text, from its second key on, with the digest that it has to have."""
    digest = hashlib.sha256(("{\n" + body).encode()).hexdigest()
    return f'{{\n  "digest": "sha256:{digest}",\n{body}'.encode()


def body_of(item: ForgeItem) -> str:
    return to_json(item).split("\n", 2)[2]


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of contributions of each text that had to be read at once; of a frame it is none."""
    counts: list[int] = []

    def counted(text: str | bytes, *source: str) -> ForgeItem:
        item = from_json(text, *source)
        counts.append(len(item.names))
        return item

    monkeypatch.setattr(item_reader, "from_json", counted)
    return counts


def test_what_did_not_change_is_not_read_again(whole: list[int]) -> None:
    reader = ItemReader()
    first = reader.read(to_json(ITEM).encode())
    other = replace(ITEM.contributions[2], coefficient={"a": 0.1, "b": 0.2}, adapter="d" * 40)
    changed = replace(ITEM, contributions=(*ITEM.contributions[:2], other, *ITEM.contributions[3:]))
    second = reader.read(to_json(changed).encode())
    assert (first, second) == (ITEM, changed)
    assert whole == [8, 0]
    kept = [one is two for one, two in zip(first.contributions, second.contributions, strict=True)]
    assert kept == [True, True, False, True, True, True, True, True]
    assert to_json(second) == to_json(changed)


def test_contributions_that_come_and_go(whole: list[int]) -> None:
    reader, item = ItemReader(), ITEM
    for count in (8, 7, 6, 8, 5, 1):
        item = replace(ITEM, contributions=ITEM.contributions[:count], own_scores=ITEM.own_scores[:count])
        assert reader.read(to_json(item).encode()) == item
    assert 0 in whole and whole.count(8) <= 2
    assert reader.read(to_json(replace(ITEM, contributions=(), own_scores=())).encode()).names == ()


def test_where_most_changed_all_is_read_at_once(whole: list[int]) -> None:
    reader = ItemReader()
    reader.read(to_json(ITEM).encode())
    others = tuple(replace(entry, coefficient=0.25) for entry in ITEM.contributions)
    scores = tuple(replace(score, accuracy=0.125) for score in ITEM.own_scores[:4])
    changed = replace(ITEM, contributions=others, own_scores=(*scores, *ITEM.own_scores[4:]))
    assert reader.read(to_json(changed).encode()) == changed
    assert whole == [8, 8]


def swapped(body: str) -> str:
    """Two contributions in the wrong order."""
    first, second = body.index('    "site-2": {'), body.index('    "site-3": {')
    third = body.index('    "site-4": {')
    return body[:first] + body[second:third] + body[first:second] + body[third:]


def doubled(body: str) -> str:
    first, second = body.index('    "site-2": {'), body.index('    "site-3": {')
    return body[:second] + body[first:second] + body[second:]


def own_scores_elsewhere(body: str) -> str:
    """The section before the one that sorts before it."""
    start, end = body.index('  "own_scores"'), body.index('  "scores"')
    place = body.index('  "format"')
    return body[:place] + body[start:end] + body[place:start] + body[end:]


CHANGES: dict[str, Callable[[str], str]] = {
    "a number with more decimals": lambda body: body.replace('"b": 0.285714', '"b": 0.2857141'),
    "a number otherwise written": lambda body: body.replace('"a": 0.5', '"a": 0.50', 1),
    "another indent": lambda body: body.replace('      "adapter"', '       "adapter"', 1),
    "an indent less": lambda body: body.replace('    "site-5": {', '   "site-5": {', 1),
    "a space at the end": lambda body: body.replace('    "site-5": {\n', '    "site-5": { \n', 1),
    "line ends": lambda body: body.replace("\n", "\r\n"),
    "an order": swapped,
    "a name twice": doubled,
    "a name twice but for its case": lambda body: body.replace("site-3", "SITE-2"),
    "a section elsewhere": own_scores_elsewhere,
    "a name that is none": lambda body: body.replace('"site-3"', '"../site"'),
    "a key twice": lambda body: body.replace('"a": 0.5,', '"a": 0.5,\n        "a": 0.5,', 1),
    "an unknown key": lambda body: body.replace('"adapter": ', '"adaptor": "x",\n      "adapter": ', 1),
    "a blob id": lambda body: body.replace("c" * 40, "c" * 39, 1),
    "no number": lambda body: body.replace('"b": 0.285714', '"b": NaN'),
    "a share": lambda body: body.replace('"accuracy": 0.5', '"accuracy": 1.5'),
    "an own score that is missing": lambda body: body.replace("site-3", "site-33", 1),
    "another format": lambda body: body.replace('"format": 1', '"format": 2'),
    "another strategy": lambda body: body.replace('"strategy": "mixture"', '"strategy": "mixture-output"'),
    "conflict markers": lambda body: body.replace('    "site-5"', '<<<<<<< ours\n    "site-5"', 1),
    "something after it": lambda body: body + "\n",
    "nested deeply": lambda body: body.replace('"a": 0.5', '"a": ' + "[" * 100_000, 1),
    "half of a character": lambda body: body.replace('"embedded"', '"\\ud800"'),
    "no own scores": lambda body: body[: body.index('  "own_scores"')] + body[body.index('  "scores"') :],
    "nothing": lambda body: "",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_refused_is_refused_in_the_same_words_after_a_whole_item(change: str) -> None:
    text = signed(CHANGES[change](body_of(ITEM)))
    reader = ItemReader()
    reader.read(to_json(ITEM).encode())
    assert text != to_json(ITEM).encode()
    assert outcome(reader.read, text) == outcome(from_json, text)
    assert reader.read(to_json(ITEM).encode()) == ITEM  # nothing of it has stayed


def test_a_wrong_digest_is_refused_though_every_block_is_known() -> None:
    reader = ItemReader()
    reader.read(to_json(ITEM).encode())
    text = to_json(ITEM).replace("sha256:", "sha256:0", 1)[:-1].encode()
    assert outcome(reader.read, text) == outcome(from_json, text)
    with pytest.raises(ForgeError, match="digest"):
        reader.read(text)


@given(st.lists(items, min_size=2, max_size=4))
def test_any_items_one_after_the_other(sequence: list[ForgeItem]) -> None:
    reader = ItemReader()
    for item in [*sequence, *reversed(sequence), sequence[0]]:
        read = reader.read(to_json(item).encode())
        assert read == item
        assert to_json(read) == to_json(item)


@given(st.data())
def test_lines_taken_out_doubled_and_swapped(data: st.DataObject) -> None:
    lines = body_of(ITEM).split("\n")
    reader = ItemReader()
    reader.read(to_json(ITEM).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 2))
        other = data.draw(st.integers(0, len(lines) - 2))
        match data.draw(st.sampled_from(["out", "twice", "swap", "move"])):
            case "out":
                del lines[place]
            case "twice":
                lines.insert(other, lines[place])
            case "swap":
                lines[place], lines[other] = lines[other], lines[place]
            case "move":
                lines.insert(other, lines.pop(place))
    text = signed("\n".join(lines))
    assert outcome(reader.read, text) == outcome(from_json, text)


@given(st.data())
def test_any_value_in_the_place_of_another(data: st.DataObject) -> None:
    document: dict[str, Any] = json.loads(to_json(ITEM))
    place = data.draw(
        st.sampled_from([document["contributions"]["site-3"], document["own_scores"]["site-3"], document])
    )
    key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(st.sampled_from([None, True, 0, 0.25, -1, "x", [], {}, {"a": 0.5}, "e" * 40]))
    pretty = json.dumps(json.loads(with_digest(document)), sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    lines = [line for line in pretty.split("\n") if not line.startswith('  "digest"')]
    text = signed("\n".join(lines[1:]))
    reader = ItemReader()
    reader.read(to_json(ITEM).encode())
    assert outcome(reader.read, text) == outcome(from_json, text)
