"""JSON that is always the same bytes for the same values, and strict reading of JSON that others wrote."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from json.encoder import encode_basestring as _quoted
from typing import NoReturn

from forge.errors import ForgeError


def canonical(document: Mapping[str, object]) -> str:
    """The text of `document`: keys sorted, two spaces, a newline at the end; no number that is not finite.

    That of `json.dumps` with these settings, in a fifth of the time: with indents that walks value by value in Python.
    """
    return indented(document, "\n") + "\n"


def digest_of(document: Mapping[str, object]) -> str:
    """The SHA-256 of the canonical text, as "sha256:" and 64 digits."""
    return digest_of_text(canonical(document))


def digest_of_text(canonical_text: str) -> str:
    """As digest_of, of a canonical text that is there already."""
    # "surrogatepass": text that nobody has checked yet must give a digest too, if a useless one.
    return "sha256:" + hashlib.sha256(canonical_text.encode("utf-8", "surrogatepass")).hexdigest()


def parse_object(text: str, what: str, hint: str) -> dict[str, object]:
    """The object that `text` is. Raises ForgeError, also for a key that comes twice and for numbers like NaN.

    what: how messages call such a text; hint: their next step. RecursionError is the caller's to handle.
    """

    def refuse_constant(constant: str) -> NoReturn:
        raise ForgeError(f"{constant[:40]} is not a number that {what} can hold", hint=hint)

    def finite(number: str) -> float:
        value = float(number)
        return value if math.isfinite(value) else refuse_constant(number)

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        table = dict(pairs)
        if len(table) != len(pairs):
            twice = doubled([key for key, _ in pairs]) or ""
            raise ForgeError(f"the key {twice[:80]!r} appears twice", hint=hint)
        return table

    try:
        document = json.loads(text, object_pairs_hook=unique, parse_constant=refuse_constant, parse_float=finite)
    except ValueError as error:
        raise ForgeError(f"not valid JSON: {error}", hint=hint) from None
    if not isinstance(document, dict):
        raise ForgeError(f"this is not {what}: not a JSON object", hint=hint)
    return document


def take_object(
    value: object, what: str, hint: str, keys: tuple[str, ...] | None = None, optional: tuple[str, ...] = ()
) -> dict[str, object]:
    """`value` as an object with exactly `keys` (any keys where None), and perhaps some of `optional`."""
    if not isinstance(value, dict):
        raise ForgeError(f"{what} must be a JSON object", hint=hint)
    if keys is not None:
        for key in value:
            if key not in keys and key not in optional:
                raise ForgeError(f"unknown key {key[:80]!r} in {what}", hint=hint)
        for key in keys:
            if key not in value:
                raise ForgeError(f"{key!r} is missing in {what}", hint=hint)
    return value


def doubled(values: list[str]) -> str | None:
    """The first value that comes a second time; None where all are different."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def indented(value: object, newline: str) -> str:
    """The text of a value as it stands in a canonical one; newline: a line end with the indent of its first line."""
    inner = newline + "  "
    if isinstance(value, dict) and value:
        parts = [f"{_quoted(key)}: {_leaf(value[key]) or indented(value[key], inner)}" for key in sorted(value)]
        return f"{{{inner}{f',{inner}'.join(parts)}{newline}}}"
    if isinstance(value, list) and value:
        parts = [_leaf(each) or indented(each, inner) for each in value]
        return f"[{inner}{f',{inner}'.join(parts)}{newline}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)  # ValueError for a number that is not finite


def _leaf(value: object) -> str:
    """The text of what most values of a forge item are; empty for others."""
    if type(value) is float:
        return repr(value) if math.isfinite(value) else ""
    if type(value) is str:
        return _quoted(value)
    return repr(value) if type(value) is int else ""
