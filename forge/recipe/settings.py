"""forge.toml: the settings of a model repository that are under version control."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from forge.errors import ForgeError
from forge.recipe.catalogue import (
    CROSS_ENTROPY,
    DEFAULT_STRATEGY,
    DISTILLATION,
    HELD_OUT,
    JOINT,
    OBJECTIVE_CHOICES,
    PER,
    PER_CONTRIBUTION,
    PER_MODULE,
    SEARCH_METHODS,
    SHIWA,
    check_combination,
    strategy_named,
)
from forge.recipe.checks import check_choice, check_real, check_whole
from forge.recipe.item import Base
from forge.recipe.layout import SETTINGS_FILE
from forge.recipe.licences import check_license
from forge.recipe.toml_text import format_toml, parse_toml, refuse_unknown, take_table

FORMAT = 1
MEBIBYTE = 2**20
STEPS = 40  # of a consolidation that is asked for without a number
MOST_STEPS = 1_000_000
GATE = 0.2  # ordinary merges of the embedded base were seen to lose up to .175 of a task; a wrecked one loses far more

_OPTIMIZER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")


@dataclass(frozen=True)
class SearchSettings:
    """The coefficient search. The defaults are the merged model that is best on validation images, and what a
    line that is missing in forge.toml means; PAPER has those of MedForge (2025), Section 3.3.

    method, per and objective are choices of the catalogue. pull: how strongly coefficients of modules are held near
    their contribution's. objective and pull may be HELD_OUT: chosen on distilled images that the search has not
    seen. optimizer, evaluations, start, bounds and l1 are those of MedForge.

    The forge item records each field under the same name, beside what the search reached (item.Search).
    """

    method: str = JOINT.name
    per: str = PER_MODULE.name
    objective: str = DISTILLATION.name
    pull: float | str = DISTILLATION.pull
    optimizer: str = "Shiwa"
    evaluations: int = 40
    start: float = 0.5
    bounds: float = 1.5
    l1: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice(self.method, "search.method", SEARCH_METHODS)
        check_choice(self.per, "search.per", PER)
        check_choice(self.objective, "search.objective", OBJECTIVE_CHOICES)
        if self.pull != HELD_OUT:
            if isinstance(self.pull, str):
                raise ForgeError(f"search.pull must be a number or {HELD_OUT!r}, not {self.pull!r}"[:200])
            object.__setattr__(self, "pull", check_real(self.pull, "search.pull"))
            if float(self.pull) < 0:
                raise ForgeError(f"search.pull must not be below 0, not {self.pull}")
        if not isinstance(self.optimizer, str) or not _OPTIMIZER.fullmatch(self.optimizer):
            raise ForgeError("search.optimizer must be the name of a nevergrad optimizer, such as Shiwa")
        check_whole(self.evaluations, "search.evaluations", least=1, most=1_000_000)
        check_whole(self.seed, "search.seed", least=0, most=2**32 - 1)
        for name in ("start", "bounds", "l1"):
            object.__setattr__(self, name, check_real(getattr(self, name), f"search.{name}"))
        if self.bounds <= 0:
            raise ForgeError(f"search.bounds must be above 0, not {self.bounds}")
        if abs(self.start) > self.bounds:
            raise ForgeError(f"search.start = {self.start} lies outside search.bounds = ±{self.bounds}")
        if self.l1 < 0:
            raise ForgeError(f"search.l1 must not be below 0, not {self.l1}")

    @property
    def order_independent(self) -> bool:
        """Whether the coefficients depend on the contributions alone, never on what was merged before."""
        return SEARCH_METHODS[self.method].order_independent

    @property
    def per_module(self) -> bool:
        """Whether every adapted module of a contribution has a coefficient of its own."""
        return PER[self.per].by_module

    def fitted_to(self, strategy: str) -> SearchSettings:
        """These settings, with one coefficient per contribution where the strategy takes no other."""
        return self if strategy_named(strategy).per_module else replace(self, per=PER_CONTRIBUTION.name)


PAPER = SearchSettings(
    method=SHIWA.name, per=PER_CONTRIBUTION.name, objective=CROSS_ENTROPY.name, pull=0.0, optimizer="Shiwa",
    evaluations=40, start=0.5, bounds=1.5, l1=0.05, seed=0,
)  # fmt: skip
# What `git forge init --settings` can write.
PRESETS = {"best": SearchSettings(), "paper": PAPER}


@dataclass(frozen=True)
class LimitSettings:
    """What a contribution may bring at most, one file's size and the images of a distilled dataset, and how many
    contributions a version may have.

    The defaults are what honest use does not meet: an adapter of ViT-B/16 has 2.4 MB, twenty images a class of ten
    classes are 200. A small push can hold far more than its size says: equal pixels compress to nothing.
    """

    file_mebibytes: int = 256
    distilled_images: int = 500
    contributions: int = 1000

    def __post_init__(self) -> None:
        for each in fields(self):
            check_whole(getattr(self, each.name), f"limits.{each.name}", least=1, most=2**40)

    @property
    def file_bytes(self) -> int:
        return self.file_mebibytes * MEBIBYTE


@dataclass(frozen=True)
class Settings:
    """All of forge.toml.

    task_aware: coefficients for each task besides the shared ones. consolidate: steps by which `git forge
    commit` trains a residual on all distilled sets, 0 for none. gate: the accuracy that a task may lose on its
    distilled images in a merge or commit before a person has to accept it; 1 turns the gate off. license: SPDX
    expressions, of the model and of its base, None where nobody has stated one.
    """

    base: Base
    strategy: str = DEFAULT_STRATEGY
    task_aware: bool = False
    consolidate: int = 0
    gate: float = GATE
    search: SearchSettings = field(default_factory=SearchSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    license: str | None = None
    base_license: str | None = None

    def __post_init__(self) -> None:
        strategy_named(self.strategy)
        if not isinstance(self.task_aware, bool):
            raise ForgeError(f"merge.task_aware must be true or false, not {self.task_aware!r}"[:200])
        check_whole(self.consolidate, "merge.consolidate", least=0, most=MOST_STEPS)
        object.__setattr__(self, "gate", check_real(self.gate, "merge.gate"))
        if not 0 <= self.gate <= 1:
            raise ForgeError(f"merge.gate must be from 0 to 1, a share of the images, not {self.gate}")
        check_combination(self.strategy, self.search.method, self.search.per)
        for name, stated in (("license", self.license), ("base.license", self.base_license)):
            if stated is not None:
                check_license(stated, name)


def choose_settings(base: Base, preset: str, strategy: str, task_aware: bool, license: str | None = None) -> Settings:
    """The settings of a new model repository: one of PRESETS, made to fit the strategy."""
    return Settings(base, strategy, task_aware, search=PRESETS[preset].fitted_to(strategy), license=license)


def read_settings(text: str | bytes, source: str = SETTINGS_FILE) -> Settings:
    """Settings from the text of forge.toml; what is left out has its default, [base] must be there.

    Raises ForgeError naming `source` for unknown keys and for values that make no sense.
    """
    tables = parse_toml(text, source)
    _check_format(tables, source)
    refuse_unknown(tables, ("format", "license", "base", "merge", "search", "limits"), source)
    base, merge = take_table(tables, "base", source), take_table(tables, "merge", source)
    search, limits = take_table(tables, "search", source), take_table(tables, "limits", source)
    refuse_unknown(base, ("reference", "fingerprint", "license"), f"{source}: [base]")
    refuse_unknown(merge, ("strategy", "task_aware", "consolidate", "gate"), f"{source}: [merge]")
    refuse_unknown(search, tuple(each.name for each in fields(SearchSettings)), f"{source}: [search]")
    refuse_unknown(limits, tuple(each.name for each in fields(LimitSettings)), f"{source}: [limits]")
    for key in ("reference", "fingerprint"):
        if key not in base:
            raise ForgeError(f"{source}: [base] has no {key}", hint=_RESTORE)
    base_license = base.pop("license", None)
    try:
        return Settings(
            base=Base(**base),
            **merge,
            search=SearchSettings(**search),
            limits=LimitSettings(**limits),
            license=tables.get("license"),
            base_license=base_license,
        )
    except ForgeError as error:
        raise ForgeError(f"{source}: {error.message}", hint=error.hint or _RESTORE) from None


def with_strategy(text: bytes, strategy: str) -> bytes:
    """The text of forge.toml with another strategy in its line; the rest stays as it is.

    Raises ForgeError where there is no such line, and where the settings make no sense with it.
    """
    written = strategy_named(strategy).name.encode()
    rewritten = re.sub(rb'(?m)^(strategy\s*=\s*)"[^"\n]*"', rb'\g<1>"%s"' % written, text, count=1)
    if rewritten == text and read_settings(text).strategy != strategy:
        raise ForgeError(
            f"{SETTINGS_FILE} has no line for the strategy", hint=f'write strategy = "{strategy}" under [merge]'
        )
    return rewritten


def to_toml(settings: Settings) -> str:
    """The text of forge.toml."""
    return format_toml(
        {
            "format": FORMAT,
            "license": settings.license,
            "base": asdict(settings.base) | {"license": settings.base_license},
            "merge": {
                "strategy": settings.strategy,
                "task_aware": settings.task_aware,
                "consolidate": settings.consolidate,
                "gate": settings.gate,
            },
            "search": asdict(settings.search),
            "limits": asdict(settings.limits),
        }
    )


_RESTORE = f"restore the file with `git checkout HEAD -- {SETTINGS_FILE}`"


def _check_format(tables: Mapping[str, Any], source: str) -> None:
    version = tables.get("format")
    if type(version) is int and version > FORMAT:
        raise ForgeError(f"{source}: format {version} was written by a newer git forge", hint="update git forge")
    if type(version) is not int or version != FORMAT:
        raise ForgeError(f"{source}: the line `format = {FORMAT}` is missing", hint=_RESTORE)
