"""forge.toml: the settings of a model repository that are under version control."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from forge.errors import ForgeError
from forge.repo.recipe import STRATEGIES, Base, check_strategy
from forge.repo.toml_text import format_toml, parse_toml, refuse_unknown, take_table

FILE_NAME = "forge.toml"
FORMAT = 1
MEBIBYTE = 2**20

_OPTIMIZER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")


@dataclass(frozen=True)
class SearchSettings:
    """The coefficient search; the defaults are those of MedForge (2025), Section 3.3."""

    optimizer: str = "Shiwa"
    evaluations: int = 40
    start: float = 0.5
    bounds: float = 1.5
    l1: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, str) or not _OPTIMIZER.fullmatch(self.optimizer):
            raise ForgeError("search.optimizer must be the name of a nevergrad optimizer, such as Shiwa")
        _check_whole(self.evaluations, "search.evaluations", least=1, most=1_000_000)
        _check_whole(self.seed, "search.seed", least=0, most=2**32 - 1)
        for name in ("start", "bounds", "l1"):
            object.__setattr__(self, name, _check_real(getattr(self, name), f"search.{name}"))
        if self.bounds <= 0:
            raise ForgeError(f"search.bounds must be above 0, not {self.bounds}")
        if abs(self.start) > self.bounds:
            raise ForgeError(f"search.start = {self.start} lies outside search.bounds = ±{self.bounds}")
        if self.l1 < 0:
            raise ForgeError(f"search.l1 must not be below 0, not {self.l1}")


@dataclass(frozen=True)
class LimitSettings:
    """What a contribution may bring at most: one file's size, and the images of a distilled dataset."""

    file_mebibytes: int = 1024
    distilled_images: int = 100_000

    def __post_init__(self) -> None:
        for each in fields(self):
            _check_whole(getattr(self, each.name), f"limits.{each.name}", least=1, most=2**40)

    @property
    def file_bytes(self) -> int:
        return self.file_mebibytes * MEBIBYTE


@dataclass(frozen=True)
class Settings:
    """All of forge.toml."""

    base: Base
    strategy: str = STRATEGIES[0]
    search: SearchSettings = field(default_factory=SearchSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)

    def __post_init__(self) -> None:
        check_strategy(self.strategy)


def read_settings(text: str | bytes, source: str = FILE_NAME) -> Settings:
    """Settings from the text of forge.toml; what is left out has its default, [base] must be there.

    Raises ForgeError naming `source` for unknown keys and for values that make no sense.
    """
    tables = parse_toml(text, source)
    _check_format(tables, source)
    refuse_unknown(tables, ("format", "base", "merge", "search", "limits"), source)
    base, merge = take_table(tables, "base", source), take_table(tables, "merge", source)
    search, limits = take_table(tables, "search", source), take_table(tables, "limits", source)
    refuse_unknown(base, ("reference", "fingerprint"), f"{source}: [base]")
    refuse_unknown(merge, ("strategy",), f"{source}: [merge]")
    refuse_unknown(search, tuple(each.name for each in fields(SearchSettings)), f"{source}: [search]")
    refuse_unknown(limits, tuple(each.name for each in fields(LimitSettings)), f"{source}: [limits]")
    for key in ("reference", "fingerprint"):
        if key not in base:
            raise ForgeError(f"{source}: [base] has no {key}", hint=_RESTORE)
    try:
        return Settings(
            base=Base(**base),
            strategy=check_strategy(merge.get("strategy", STRATEGIES[0])),
            search=SearchSettings(**search),
            limits=LimitSettings(**limits),
        )
    except ForgeError as error:
        raise ForgeError(f"{source}: {error.message}", hint=error.hint or _RESTORE) from None


def load_settings(top: Path) -> Settings:
    """The settings in the work tree whose top folder is `top`.

    Raises ForgeError where there is no forge.toml: this is no model repository (yet).
    """
    try:
        text = (top / FILE_NAME).read_bytes()
    except FileNotFoundError:
        raise not_a_model_repository(str(top)) from None
    except OSError as error:
        raise ForgeError(f"cannot read {FILE_NAME}: {error.strerror}") from None
    return read_settings(text)


def not_a_model_repository(where: str) -> ForgeError:
    """The error for a repository, or a revision of one, without forge.toml."""
    return ForgeError(
        f"no {FILE_NAME} in {where}: this is not a model repository",
        hint="make it one with `git forge init`",
    )


def to_toml(settings: Settings) -> str:
    """The text of forge.toml."""
    return format_toml(
        {
            "format": FORMAT,
            "base": asdict(settings.base),
            "merge": {"strategy": settings.strategy},
            "search": asdict(settings.search),
            "limits": asdict(settings.limits),
        }
    )


_RESTORE = f"restore the file with `git checkout HEAD -- {FILE_NAME}`"


def _check_format(tables: Mapping[str, Any], source: str) -> None:
    version = tables.get("format")
    if type(version) is int and version > FORMAT:
        raise ForgeError(f"{source}: format {version} was written by a newer git forge", hint="upgrade git forge")
    if type(version) is not int or version != FORMAT:
        raise ForgeError(f"{source}: the line `format = {FORMAT}` is missing", hint=_RESTORE)


def _check_whole(value: object, name: str, *, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ForgeError(f"{name} must be a whole number from {least} to {most}, not {value!r}"[:200])


def _check_real(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ForgeError(f"{name} must be a finite number, not {value!r}"[:200])
    return float(value)
