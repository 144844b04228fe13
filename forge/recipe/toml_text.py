"""Reading and writing the TOML files of a model repository, with errors that name the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from forge.errors import ForgeError
from forge.text import printable

MAX_BYTES = 2**20
MAX_KEPT = 2**18  # characters of a text whose comments are kept: no person writes more, and tomlkit takes its time
MAX_PARTS = 32  # of one dotted key: tomllib takes the square of their number, hours for a file of nothing but dots

# Starts where a key may start only, and never goes back: linear in the text, whatever that is.
_DOTTED = re.compile(
    rf"""(?:^|[\[{{,])[ \t]*+(?:(?>[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*+\.[ \t]*+){{{MAX_PARTS}}}""", re.MULTILINE
)
_MARKER = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)


def parse_toml(text: str | bytes, source: str) -> dict[str, Any]:
    """The tables of a TOML text; `source` names the file in the ForgeError of anything that is not one."""
    import tomllib

    if len(text) > MAX_BYTES:
        raise ForgeError(f"{source}: larger than {MAX_BYTES // 2**20} MiB")
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
        if _MARKER.search(plain):
            raise ForgeError(
                f"{source}: merge conflict: the file holds conflict markers",
                hint="edit the file to what it should be, `git add` it, and finish the merge",
            )
        if _DOTTED.search(plain):
            raise ForgeError(f"{source}: a key of more than {MAX_PARTS} parts", hint="what needs such a key?")
        tables = tomllib.loads(plain)
        _check_numbers(tables)
        return tables
    except UnicodeDecodeError:
        raise ForgeError(f"{source}: not a text file in UTF-8") from None
    except ValueError as error:
        hint = "texts need quotes; see https://toml.io"
        raise ForgeError(f"{source}: not valid TOML: {error}", hint=hint) from None
    except RecursionError:
        raise ForgeError(f"{source}: nested too deeply") from None


def format_toml(tables: Mapping[str, Any], before: str = "") -> str:
    """TOML text of nested tables; None values are left out, because TOML has none.

    before: the text that it takes the place of, of which comments, order and blank lines stay.
    """
    import tomlkit

    values = _without_none(tables)
    return _rewritten(before, values) or tomlkit.dumps(_items(values))


def take_table(tables: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    """A copy of the table [name], empty where there is none."""
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise ForgeError(f"{source}: [{name}] must be a table", hint=f"write [{name}] on a line of its own")
    return dict(table)


def refuse_unknown(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Raise ForgeError for the first key of `table` that is not `known`, suggesting the nearest one."""
    for key in table:
        if key not in known:
            from difflib import get_close_matches

            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
            raise ForgeError(f"{where}: unknown key {printable(key)!r}", hint=hint)


def _check_numbers(value: Any) -> None:
    """TOML's whole numbers have 64 bits; tomllib reads any, which Python may then refuse even to print."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            _check_numbers(inner)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number of more than 64 bits")


def _rewritten(before: str, values: Mapping[str, Any]) -> str | None:
    """`before` with what is wanted in it; None where that is no text whose comments can be kept."""
    import tomllib

    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    if not before.strip() or len(before) > MAX_KEPT:
        return None
    try:
        document = tomlkit.parse(before)
        _update(document, values)
        text = document.as_string()
        return text if tomllib.loads(text) == values else None
    except (TOMLKitError, ValueError, RecursionError):
        return None


def _update(table: MutableMapping[str, Any], values: Mapping[str, Any]) -> None:
    """Bring a table of tomlkit's to what is wanted; what is so already is left alone, with its comments."""
    for key in [key for key in table if key not in values]:
        del table[key]
    for key, value in values.items():
        old = table.get(key)
        if isinstance(old, MutableMapping) and isinstance(value, Mapping):
            _update(old, value)
        elif old != value or isinstance(old, bool) != isinstance(value, bool):  # to Python 1 is True
            table[key] = _items(value)


def _items(value: Any) -> Any:
    """What tomlkit is to write: a list has a line for each of its values, where they have none of their own."""
    import tomlkit

    if isinstance(value, Mapping):
        return {key: _items(inner) for key, inner in value.items()}
    if isinstance(value, list) and not any(isinstance(inner, Mapping) for inner in value):
        array = tomlkit.array()
        array.extend(map(_items, value))
        return array.multiline(bool(value))
    return value


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_none(inner) for inner in value if inner is not None]
    return value
