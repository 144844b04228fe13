"""To add a search is one value of the catalogue and one function; a setting is a field, which all take as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pytest
import torch

from forge.errors import ForgeError
from forge.model import searches
from forge.model.adapters import Adapter
from forge.model.base import BaseModel
from forge.model.merging import AIMS, Member, merge_members
from forge.model.scoring import TaskImages
from forge.model.searches.problem import Advance, Problem, Solution, objective_at
from forge.recipe import catalogue
from forge.recipe.item import Base, Search
from forge.recipe.item_keys import known_fields
from forge.recipe.settings import SearchSettings, Settings, read_settings, to_toml
from forge.recipe.wording import search_rows


@dataclass(frozen=True)
class WithSteps(SearchSettings):
    """The settings of a search that has one more."""

    steps: int = 5


# What a new file in forge/model/searches and a new line of the catalogue would hold.
FACTS = catalogue.SearchMethod("grid", "the best of a few scales, the same for all", order_independent=True)


def on_a_grid(problem: Problem, settings: SearchSettings, advance: Advance) -> Solution:
    steps = settings.steps if isinstance(settings, WithSteps) else 3
    points = torch.linspace(0, 1, steps, dtype=torch.float64)
    objectives = [objective_at(problem, point.repeat(problem.unit_count), settings.l1) for point in points]
    best = objectives.index(min(objectives))
    return Solution(points[best].expand(problem.unit_count, problem.columns).clone(), objectives[best])


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a search that was added."""
    monkeypatch.setitem(catalogue.SEARCH_METHODS, "grid", FACTS)
    monkeypatch.setitem(searches.SOLVERS, "grid", on_a_grid)
    return "grid"


@pytest.fixture
def members(
    make_adapter: Callable[..., Path], read: Callable[..., Adapter], bright_or_dark: Callable[..., TaskImages]
) -> list[Member]:
    return [
        Member(name, read(make_adapter(seed)), 0.3, side, bright_or_dark(8, seed))
        for seed, (name, side) in enumerate((("one", "ours"), ("two", "theirs")))
    ]


@pytest.mark.parametrize("strategy", catalogue.STRATEGIES)
def test_a_search_that_was_added_merges_by_every_strategy(
    grid: str, base: BaseModel, members: list[Member], strategy: str
) -> None:
    settings = SearchSettings(grid, "contribution", "cross-entropy")
    merged = merge_members(base, strategy, members, settings)
    (value,) = set(merged.coefficients.values())
    assert value in (0.0, 0.5, 1.0)
    assert merged.scales == {}  # every contribution is weighed anew
    search = Search(**asdict(merged.settings), scales={}, objective_before=None, objective_after=0.1)  # type: ignore[arg-type]
    assert dict(search_rows(search))["method"] == "grid, one coefficient per contribution"
    toml = Settings(Base("embedded", "sha256:" + "0" * 64), search=settings)
    assert read_settings(to_toml(toml)) == toml


def test_a_new_setting_reaches_the_search_and_what_is_recorded(
    grid: str, base: BaseModel, members: list[Member]
) -> None:
    settings = WithSteps(grid, "contribution", "cross-entropy", steps=21)
    merged = merge_members(base, "mixture", members, settings)
    assert merged.settings == settings
    coarse = merge_members(base, "mixture", members, WithSteps(grid, "contribution", "cross-entropy", steps=2))
    assert merged.objective_after <= coarse.objective_after
    assert asdict(merged.settings)["steps"] == 21


def test_the_forge_item_records_every_setting() -> None:
    reached = {"scales", "objective_before", "objective_after"}
    assert {each.name for each in known_fields(Search)} - reached == {each.name for each in fields(SearchSettings)}


@pytest.mark.parametrize("known", ["nowhere", "in the catalogue alone"])
def test_a_search_that_nothing_does_is_refused(
    monkeypatch: pytest.MonkeyPatch, known: str, base: BaseModel, members: list[Member]
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(catalogue.SEARCH_METHODS, "grid", FACTS)
        settings = SearchSettings("grid", "contribution")
        if known == "in the catalogue alone":
            with pytest.raises(ForgeError, match="unknown search method 'grid'"):
                merge_members(base, "mixture", members, settings)
            return
    with pytest.raises(ForgeError, match=r"search\.method must be one of shiwa, exact, joint"):
        SearchSettings("grid", "contribution")
    with pytest.raises(ForgeError, match="the search's method must be one of shiwa, exact, joint"):
        Search(**asdict(settings), scales={}, objective_before=None, objective_after=0.1)  # type: ignore[arg-type]


def test_an_objective_that_nothing_does_is_refused(base: BaseModel, members: list[Member]) -> None:
    settings = SearchSettings()
    object.__setattr__(settings, "objective", "accuracy")
    with pytest.raises(ForgeError, match="unknown objective 'accuracy'"):
        merge_members(base, "mixture", members, settings)


def test_every_search_and_objective_of_the_catalogue_is_there() -> None:
    assert searches.SOLVERS.keys() == catalogue.SEARCH_METHODS.keys()
    assert AIMS.keys() == catalogue.OBJECTIVES.keys()
