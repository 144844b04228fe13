"""Forge items of one history, read one after the other: what two of them have in common is taken apart once.

An item lists every contribution, and from one version to the next most of them may be as they were. In the canonical
text each is a block of lines, so a block that stood in the item before need be neither parsed nor checked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

from forge.errors import ForgeError
from forge.recipe.canonical_json import digest_of_text, indented, parse_object
from forge.recipe.item import Entry, ForgeItem, OwnScore
from forge.recipe.item_keys import format_of, written
from forge.recipe.item_text import MAX_BYTES, entry_of, from_json, own_score_of, start_of

P = TypeVar("P", Entry, OwnScore)

# A line end within a string is escaped in JSON, so these stand between keys only, of the first and the second level.
_CONTRIBUTIONS, _OWN_SCORES = '\n  "contributions": {\n    "', '\n  "own_scores": {\n    "'
_NEXT_BLOCK, _END, _SCORES = ',\n    "', "\n  }", ',\n  "scores": {'
_ENOUGH = 0.5  # the share of blocks that must be known; with fewer the whole text is read at once


class _Parts(NamedTuple):
    """The text of an item of which the digest is right, but for its first quotes: blocks, and an item without them."""

    frame: str
    entries: list[str]
    own_scores: list[str]


class ItemReader:
    """Reads items as from_json does, with the same results and errors; it remembers the blocks of the last one."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._own_scores: dict[str, OwnScore] = {}

    def read(self, text: bytes) -> ForgeItem:
        """As from_json."""
        parts = _parts(text)
        if parts is None:
            return from_json(text)
        known = sum(map(self._entries.__contains__, parts.entries))
        known += sum(map(self._own_scores.__contains__, parts.own_scores))
        item = None
        if known >= _ENOUGH * (len(parts.entries) + len(parts.own_scores)):
            item = self._assembled(parts)
        if item is None:
            item = from_json(text)
            self._entries = dict(zip(parts.entries, item.contributions, strict=True))
            self._own_scores = dict(zip(parts.own_scores, item.own_scores, strict=True))
        return item

    def _assembled(self, parts: _Parts) -> ForgeItem | None:
        """The item of these parts, if each is as git forge writes it; None where from_json has to say what is wrong.

        Also where what is around the blocks is no item without them: people have accepted contributions, say.
        """
        try:
            entries = _blocks(parts.entries, self._entries, entry_of)
            own_scores = _blocks(parts.own_scores, self._own_scores, own_score_of)
            frame = from_json(start_of(digest_of_text(parts.frame)) + parts.frame.removeprefix("{\n"))
            item = replace(frame, contributions=tuple(entries.values()), own_scores=tuple(own_scores.values()))
        except (ForgeError, RecursionError):
            return None
        if format_of(item) != format_of(frame):
            return None
        self._entries, self._own_scores = entries, own_scores
        return item


def _parts(content: bytes) -> _Parts | None:
    """The parts of a text, None where it is not laid out as an item with contributions is."""
    try:
        text = content.decode() if len(content) <= MAX_BYTES else ""
    except UnicodeDecodeError:
        return None
    start = text[: text.find("\n", 2) + 1]
    recorded = start.removeprefix(start_of("").removesuffix('",\n')).removesuffix('",\n')
    body = "{\n" + text[len(start) :]
    if start != start_of(recorded) or digest_of_text(body) != recorded:
        return None
    begin = body.find(_CONTRIBUTIONS)
    end = body.find(_END, begin)
    if begin < 0 or end < 0:
        return None
    entries = body[begin + len(_CONTRIBUTIONS) : end].split(_NEXT_BLOCK)
    frame, rest = body[:begin] + '\n  "contributions": {}', body[end + len(_END) :]
    begin = rest.find(_OWN_SCORES)
    if begin < 0:
        return _Parts(frame + rest, entries, [])
    end = rest.find(_END, begin)
    after = rest[end + len(_END) :]
    if not after.startswith(_SCORES):  # the key that comes next in a sorted item, which always is there
        return None
    own_scores = rest[begin + len(_OWN_SCORES) : end].split(_NEXT_BLOCK)
    return _Parts(frame + rest[:begin] + after.removeprefix(","), entries, own_scores)


def _blocks(blocks: list[str], known: Mapping[str, P], read: Callable[[str, object], P]) -> dict[str, P]:
    """The value of each block, in their order. Raises ForgeError for one that is not as written, or out of order."""
    values: dict[str, P] = {}
    for block in blocks:
        value = known.get(block)
        if value is None:
            name, content = next(iter(parse_object(f'{{"{block}}}', "a forge item", "").items()))
            value = read(name, content)
            if indented({name: written(value)}, "\n  ") != f'{{\n    "{block}\n  }}':  # or there is more in it
                raise ForgeError(f"{name} is not as git forge writes it")
        values[block] = value
    names = [value.name for value in values.values()]
    if len(values) != len(blocks) or any(one >= other for one, other in pairwise(names)):
        raise ForgeError("blocks come twice, or are not in their order")
    return values
