"""Checks of single values: each gives the value back in the form that is stored, or raises ForgeError."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Mapping
from functools import lru_cache

from forge.errors import ForgeError

DECIMALS = 6
MAX_TEXT = 4096
MAX_MODULES = 4096

# One number for a whole contribution, or one for each of its adapted modules, by the module's name.
Coefficient = float | Mapping[str, float]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BLOB_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Characters that end a line, move the cursor, turn the reading direction or have no width: a label is shown on
# terminals, and two that look the same must be the same. Of the last, not all are in the category of formats.
_UNPRINTABLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
WITHOUT_WIDTH = frozenset(
    map(chr, [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, 0xFFA0,
              *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)])
)  # fmt: skip
# What Windows takes for a device, whatever follows the first dot.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def check_name(name: object) -> str:
    """The name of a contribution, which is also the name of its folder: letters, digits, `.`, `_`, `-`."""
    if not isinstance(name, str):
        raise _no_name(name)
    return _checked_name(name)


@lru_cache(maxsize=4096)  # every path of a contribution is made from its name
def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _no_name(name)
    if name.endswith(".") or _DEVICES.fullmatch(name):
        raise ForgeError(
            f"{name!r} cannot be the name of a contribution: no folder can have it on Windows",
            hint="choose another one; names of devices such as aux, and a dot at the end, are taken there",
        )
    return name


def _no_name(name: object) -> ForgeError:
    return ForgeError(
        f"{repr(name)[:80]} cannot be the name of a contribution",
        hint="use 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or a digit",
    )


def check_text(text: object, what: str) -> str:
    """One line of printable text with something in it, at most MAX_TEXT characters."""
    if not isinstance(text, str) or not text.strip():
        raise ForgeError(f"{what} must be text with at least one visible character")
    if len(text) > MAX_TEXT:
        raise ForgeError(f"{what} is longer than {MAX_TEXT} characters")
    if text.isascii() and text.isprintable():  # nearly every text, and none of these characters
        return text
    for character in text:
        if unicodedata.category(character) in _UNPRINTABLE_CATEGORIES or character in WITHOUT_WIDTH:
            raise ForgeError(f"{what} contains the control character {character!a}, which nobody sees")
    return text


def check_number(value: object, what: str) -> float:
    """A finite number, rounded to DECIMALS; minus zero becomes zero, so that equal is equal in bytes."""
    if type(value) is float and math.isfinite(value):
        return round(value, DECIMALS) + 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ForgeError(f"{what} must be a number, not {repr(value)[:40]}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ForgeError(f"{what} is not a finite number")
    return round(number, DECIMALS) + 0.0


def check_optional_number(value: object, what: str) -> float | None:
    """As check_number; None stays None."""
    return None if value is None else check_number(value, what)


def check_coefficient(value: object, what: str) -> Coefficient:
    """A number as check_number gives it, or an object of one such number per adapted module, sorted by name."""
    if not isinstance(value, Mapping):
        return check_number(value, what)
    if not 1 <= len(value) <= MAX_MODULES:
        raise ForgeError(f"{what} must name 1 to {MAX_MODULES} modules, not {len(value)}")
    modules = _sorted_plain(tuple(value)) or sorted([check_text(module, f"a module in {what}") for module in value])
    numbers = [value[module] for module in modules]
    if set(map(type, numbers)) == {float} and math.isfinite(sum(numbers)):  # nearly always; else each by itself
        return {module: round(number, DECIMALS) + 0.0 for module, number in zip(modules, numbers, strict=True)}
    return {module: check_number(value[module], f"{what} for module {module[:80]!r}") for module in modules}


@lru_cache(maxsize=256)  # of a thousand contributions to one base, most adapt the same modules
def _sorted_plain(texts: tuple[object, ...]) -> tuple[str, ...]:
    """The texts sorted, if each of them passes check_text; else nothing."""
    try:
        return tuple(sorted(check_text(text, "") for text in texts))
    except ForgeError:
        return ()


def check_whole(value: object, what: str, *, least: int, most: int = 2**63 - 1) -> int:
    """A whole number of a person's choice, with its bounds in the message."""
    if type(value) is not int or not least <= value <= most:
        bounds = f"from {least} to {most}" if most < 2**63 - 1 else f"of {least} and more"
        raise ForgeError(f"{what} must be a whole number {bounds}, not {value!r}"[:200])
    return value


def check_real(value: object, what: str) -> float:
    """A finite number of a person's choice, as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ForgeError(f"{what} must be a finite number, not {value!r}"[:200])
    return float(value)


def check_between(value: object, what: str, least: float, most: float = math.inf, *, open_ends: str = "") -> float:
    """A number between two ends; open_ends: "[", "]" or both, where an end itself is not allowed."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ForgeError(f"{what} must be a number, not {value!r}"[:200])
    number = float(value)
    if not least <= number <= most or ("[" in open_ends and number == least) or ("]" in open_ends and number == most):
        lower = f"{'above' if '[' in open_ends else 'at least'} {least:g}"
        upper = "" if most == math.inf else f" and {'below' if ']' in open_ends else 'at most'} {most:g}"
        raise ForgeError(f"{what} must be {lower}{upper}, not {value!r}"[:200])
    return number


def check_choice(value: object, what: str, choices: Collection[str]) -> str:
    """One of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ForgeError(f"{what} must be one of {', '.join(choices)}, not {str(value)[:40]!r}")
    return value


def check_count(value: object, what: str, *, least: int = 0) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise ForgeError(f"{what} must be a whole number of at least {least}, not {str(value)[:40]}")
    return value


def check_share(value: object, what: str) -> float:
    """A number from 0 to 1, such as an accuracy."""
    number = check_number(value, what)
    if not 0.0 <= number <= 1.0:
        raise ForgeError(f"{what} must lie between 0 and 1, not {number}")
    return number


def check_blob_id(value: object, what: str) -> str:
    """The id of a git blob: 40 (SHA-1) or 64 (SHA-256) hexadecimal digits."""
    if not isinstance(value, str) or not _BLOB_ID.fullmatch(value):
        raise ForgeError(f"{what} is not the id of a git blob: {str(value)[:80]!r}")
    return value
