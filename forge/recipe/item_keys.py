"""Which keys the objects of a forge item have: those of the fields of its dataclasses, and how a version adds some.

A field of a dataclass is a key that is always there. One whose metadata say that it came later is there only where its
value is not the default: so an item without it reads for ever, and is the same bytes when it is written again:

- `metadata=IGNORABLE` is for what a model does not depend on. The key starts with "x-", and a git forge that does not
  know it keeps it (in the field with the metadata UNKNOWN) for as long as the object that it stands in is the same.
- `metadata=since(N)` changes what the model is. An item that has it is of format N, which who does not know it refuses;
  others stay of the format that they were.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any

from forge.errors import ForgeError
from forge.recipe.canonical_json import take_object

PREFIX = "x-"  # how a key begins that a reader may ignore
MAX_UNKNOWN = 64  # such keys in one object

_IGNORABLE_KEY = re.compile(r"x-[a-z0-9]+(-[a-z0-9]+)*")
_MAX_KEY = 64
_MAX_DEPTH = 8
_NAME, _SINCE, _UNKNOWN = "name", "since", "unknown"
_LEAVES = frozenset({str, float, int, bool, dict, type(None)})  # what holds no value of a dataclass

# Metadata of fields. NAME: not in its object, but the object's own key in the one around it.
NAME: Mapping[str, object] = {_NAME: True}
UNKNOWN: Mapping[str, object] = {_UNKNOWN: True}
IGNORABLE: Mapping[str, object] = {_SINCE: None}


def since(number: int) -> Mapping[str, object]:
    """Metadata of a field that is part of the format only from this one on, and optional there."""
    return {_SINCE: number}


def known_fields(kind: Any) -> tuple[Field[Any], ...]:
    """The fields of a dataclass, or of a value of one, that are keys of its object, in their order."""
    return tuple(each for each in fields(kind) if not {_NAME, _UNKNOWN} & each.metadata.keys())


def key_of(each: Field[Any]) -> str:
    """The key of a field in its object."""
    ignorable = _is_later(each) and each.metadata[_SINCE] is None
    return PREFIX + each.name.replace("_", "-") if ignorable else each.name


def written(value: Any) -> dict[str, object]:
    """The object of a dataclass's value, as JSON has it; objects in it likewise."""
    known, unknown = _keys(value.__class__)
    document: dict[str, object] = {}
    for key, each in known.items():
        content = getattr(value, each.name)
        if not (_is_later(each) and content == _default(each)):
            document[key] = _plain(content)
    return document | getattr(value, unknown) if unknown else document


def taken(kind: Any, value: object, what: str, hint: str, **given: object) -> dict[str, Any]:
    """The arguments for a dataclass from its object, those `given` among them; what JSON cannot tell is not checked.

    Raises ForgeError for a key that is missing, that nobody knows and a reader must not ignore, or whose value is the
    default: then it is left out.
    """
    known, unknown = _keys(kind)
    table = take_object(value, what, hint)
    arguments: dict[str, Any] = dict(given)
    kept: dict[str, object] = {}
    for key, content in table.items():
        each = known.get(key)
        if each is not None:
            arguments[each.name] = content
            continue
        if unknown is None or not key.startswith(PREFIX):
            raise ForgeError(f"unknown key {key[:80]!r} in {what}", hint=hint)
        kept[key] = content
    for key, each in known.items():
        if not _is_later(each):
            if key not in table:
                raise ForgeError(f"{key!r} is missing in {what}", hint=hint)
        elif key in table and _plain(table[key]) == _plain(_default(each)):
            raise ForgeError(f"{key} of {what} says nothing: it is left out then", hint=hint)
    return arguments | ({unknown: kept} if unknown and kept else {})


def check_unknown(keys: Mapping[str, object], what: str) -> dict[str, object]:
    """Keys that this version does not know, sorted; ForgeError where they are no such keys or not plain JSON."""
    if not keys:
        return {}
    if len(keys) > MAX_UNKNOWN:
        raise ForgeError(f"more than {MAX_UNKNOWN} unknown keys in {what}")
    for key, value in keys.items():
        if not _IGNORABLE_KEY.fullmatch(key) or len(key) > _MAX_KEY:
            raise ForgeError(f"unknown key {key[:80]!r} in {what}: one that may be ignored is like x-some-name")
        _check_plain(value, f"{key} of {what}", _MAX_DEPTH)
    return dict(sorted(keys.items()))


def format_of(value: Any) -> int:
    """The earliest format that has all keys of a value's object, objects in it included."""
    newest = 1
    for each in _keys(value.__class__)[0].values():
        content = getattr(value, each.name)
        if _is_later(each) and content != _default(each):
            newest = max(newest, each.metadata[_SINCE] or 1)
        for inner in _objects(content):
            newest = max(newest, format_of(inner))
    return newest


@cache  # an item holds thousands of objects of a few kinds
def _keys(kind: Any) -> tuple[Mapping[str, Field[Any]], str | None]:
    """The fields of a dataclass by their keys, and the name of the one that holds keys which nobody knows."""
    unknown = next((each.name for each in fields(kind) if _UNKNOWN in each.metadata), None)
    return {key_of(each): each for each in known_fields(kind)}, unknown


def _is_later(each: Field[Any]) -> bool:
    return _SINCE in each.metadata


def _default(each: Field[Any]) -> Any:
    if each.default_factory is not MISSING:
        return each.default_factory()
    return each.default


def _objects(content: Any) -> tuple[Any, ...]:
    """The values of dataclasses in a field: itself, or what a tuple holds."""
    if type(content) in _LEAVES:
        return ()
    return tuple(each for each in (content if isinstance(content, tuple) else (content,)) if is_dataclass(each))


def _plain(content: Any) -> Any:
    if type(content) in _LEAVES:
        return content
    if is_dataclass(content):
        return written(content)
    if isinstance(content, tuple):
        objects = _objects(content)
        return {str(getattr(each, _name_field(each.__class__))): written(each) for each in objects} or list(content)
    return content


@cache
def _name_field(kind: Any) -> str:
    (name,) = (each.name for each in fields(kind) if _NAME in each.metadata)
    return name


def _check_plain(value: object, what: str, depth: int) -> None:
    if depth == 0:
        raise ForgeError(f"{what} is nested too deeply")
    if isinstance(value, str):
        _check_characters(value, what)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, what, depth - 1)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_characters(key, what)
            _check_plain(inner, what, depth - 1)
    elif not (value is None or isinstance(value, bool | int | float)):
        raise ForgeError(f"{what} is nothing that JSON has")


def _check_characters(text: str, what: str) -> None:
    if any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise ForgeError(f"{what} holds half of a character")
