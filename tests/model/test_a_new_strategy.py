"""To add a strategy is one value of the catalogue and one object: search, model, exports and forge item follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from forge.errors import ForgeError
from forge.model import strategies
from forge.model.adapters import Adapter
from forge.model.aims import label_aims
from forge.model.attention import VisualTower
from forge.model.base import BaseModel
from forge.model.composing import Coefficient, folded
from forge.model.exporting import delta_of, export_open_clip, export_peft
from forge.model.merging import Member, merge_members
from forge.model.objectives import module_names
from forge.model.scoring import TaskImages
from forge.model.strategies import compose, implementation_of
from forge.model.strategies.one_model import OneModel
from forge.recipe import catalogue
from forge.recipe.item import Base, Entry, ForgeItem
from forge.recipe.item_text import from_json, to_json
from forge.recipe.settings import SearchSettings, Settings, choose_settings, read_settings, to_toml, with_strategy

BASE = Base("embedded", "sha256:" + "0" * 64)


def squared(coefficient: Coefficient | Mapping[str, Tensor]) -> Coefficient | Mapping[str, Tensor]:
    if isinstance(coefficient, Mapping):
        return {name: value**2 for name, value in coefficient.items()}  # type: ignore[return-value]
    return coefficient**2


# What a new file in forge/model/strategies and a new line of the catalogue would hold: dW = sum_k c_k^2 dW_k.
FACTS = catalogue.Strategy(
    "squares", "Squares", "adds up changes by the squares of their coefficients", weighs="squares", exported="the sum"
)
SQUARES = OneModel(lambda members: [(adapter, squared(c)) for adapter, c in members])


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a strategy that was added."""
    monkeypatch.setitem(catalogue.STRATEGIES, "squares", FACTS)
    monkeypatch.setitem(strategies.STRATEGIES, "squares", SQUARES)
    return "squares"


@pytest.fixture
def adapters(make_adapter: Callable[..., Path], read: Callable[..., Adapter]) -> list[Adapter]:
    return [read(make_adapter(seed)) for seed in (1, 2)]


@pytest.fixture
def members(adapters: list[Adapter], bright_or_dark: Callable[..., TaskImages]) -> list[Member]:
    sides = zip(("one", "two"), adapters, ("ours", "theirs"), strict=True)
    return [
        Member(name, adapter, 1.0, side, bright_or_dark(8, seed)) for seed, (name, adapter, side) in enumerate(sides)
    ]


def test_it_composes_what_it_says(squares: str, adapters: list[Adapter]) -> None:
    name = sorted(adapters[0])[0]
    ((delta, weight),) = compose(squares, [(adapters[0], 3.0), (adapters[1], {name: -0.5})])
    torch.testing.assert_close(delta[name], 9 * adapters[0][name].delta() + 0.25 * adapters[1][name].delta())
    assert weight == 1.0


def test_its_gradient_is_that_of_its_loss(squares: str, base: BaseModel, members: list[Member]) -> None:
    """The chain rule: Mixture's gradient at the squares, times 2 c."""
    adapters = [member.adapter for member in members]
    aims = label_aims([member.images for member in members])
    point = 0.2 + torch.rand(2, len(module_names(adapters)), generator=torch.Generator().manual_seed(3))
    near = implementation_of(squares).objective(base, adapters, aims).quadratic(point)
    by_square = implementation_of("mixture").objective(base, adapters, aims).quadratic(point**2)
    inner = 2 * point.flatten().double()
    assert near.value == pytest.approx(by_square.value, rel=1e-6)
    torch.testing.assert_close(near.gradient, by_square.gradient * inner, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(near.matrix, by_square.matrix * torch.outer(inner, inner), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", catalogue.SEARCH_METHODS)
def test_every_search_finds_its_coefficients(squares: str, base: BaseModel, members: list[Member], method: str) -> None:
    settings = SearchSettings(method, "contribution", "cross-entropy", evaluations=12)
    merged = merge_members(base, squares, members, settings)
    assert merged.objective_after <= merged.objective_before
    assert merged.coefficients.keys() == {"one", "two"}


def test_its_exports_do_what_it_does(
    squares: str,
    base: BaseModel,
    adapters: list[Adapter],
    images: Tensor,
    fresh_tower: Callable[[], VisualTower],
    tmp_path: Path,
) -> None:
    recipe = [(adapters[0], 0.8), (adapters[1], 0.5)]
    ((delta, _),) = compose(squares, recipe)
    with torch.no_grad(), folded(base.tower, delta):
        expected = base.tower(images)
    assert export_peft(base, squares, recipe, tmp_path / "peft") == ("LoRA", 8)
    with torch.no_grad():
        in_peft = PeftModel.from_pretrained(fresh_tower(), str(tmp_path / "peft")).eval()(images)
    torch.testing.assert_close(in_peft, expected, rtol=1e-4, atol=1e-5)
    for name, change in delta_of(squares, recipe).items():
        torch.testing.assert_close(change.float(), delta[name])
    export_open_clip(base, delta_of(squares, recipe), tmp_path / "open_clip")
    assert (tmp_path / "open_clip" / "open_clip_model.safetensors").is_file()


def test_a_forge_item_and_settings_record_it(squares: str) -> None:
    entry = Entry("one", "1" * 40, "2" * 40, "3" * 40, {"projection": 0.5})
    item = ForgeItem(BASE, squares, (entry,))
    assert from_json(to_json(item)) == item
    settings = choose_settings(BASE, "best", squares, task_aware=False)
    assert read_settings(to_toml(settings)) == settings
    assert settings.search.per_module
    assert read_settings(with_strategy(to_toml(Settings(BASE)).encode(), squares)).strategy == squares


def test_what_it_cannot_do_follows_from_its_facts(monkeypatch: pytest.MonkeyPatch, squares: str) -> None:
    whole = catalogue.Strategy("squares", "Squares", "as above", weighs="whole contributions", per_module=False)
    monkeypatch.setitem(catalogue.STRATEGIES, "squares", whole)
    assert not choose_settings(BASE, "best", squares, task_aware=False).search.per_module
    entry = Entry("one", "1" * 40, "2" * 40, "3" * 40, {"projection": 0.5})
    with pytest.raises(ForgeError, match="squares weighs whole contributions: it takes one per contribution"):
        ForgeItem(BASE, squares, (entry,))


def test_one_coefficient_for_all_modules_is_searched_too(
    monkeypatch: pytest.MonkeyPatch, squares: str, base: BaseModel, members: list[Member]
) -> None:
    """A strategy of one set of weights that takes no coefficient per module has the search of one that does."""
    settings = SearchSettings("joint", "contribution", "cross-entropy", evaluations=12)
    merged = merge_members(base, squares, members, settings)
    whole = catalogue.Strategy("squares", "Squares", "as above", weighs="whole contributions", per_module=False)
    monkeypatch.setitem(catalogue.STRATEGIES, "squares", whole)
    again = merge_members(base, squares, members, settings)
    assert again.objective_after == pytest.approx(merged.objective_after, abs=1e-4)


@pytest.mark.parametrize("known", ["nowhere", "in the catalogue alone"])
def test_a_strategy_that_nothing_does_is_refused_by_everything(
    monkeypatch: pytest.MonkeyPatch, known: str, base: BaseModel, members: list[Member], tmp_path: Path
) -> None:
    if known == "in the catalogue alone":
        monkeypatch.setitem(catalogue.STRATEGIES, "squares", FACTS)
    recipe = [(member.adapter, 0.5) for member in members]
    calls: list[Callable[[], object]] = [
        lambda: implementation_of("squares"),
        lambda: compose("squares", recipe),
        lambda: delta_of("squares", recipe),
        lambda: export_peft(base, "squares", recipe, tmp_path / "out"),
        lambda: merge_members(base, "squares", members, SearchSettings()),
    ]
    if known == "nowhere":
        calls += [
            lambda: ForgeItem(BASE, "squares"),
            lambda: Settings(BASE, "squares"),
            lambda: choose_settings(BASE, "best", "squares", task_aware=False),
            lambda: with_strategy(to_toml(Settings(BASE)).encode(), "squares"),
        ]
    for call in calls:
        with pytest.raises(ForgeError, match="unknown strategy 'squares'") as caught:
            call()
        assert "mixture" in (caught.value.hint or "")
    assert not (tmp_path / "out").exists()


def test_every_strategy_of_the_catalogue_is_there() -> None:
    assert strategies.STRATEGIES.keys() == catalogue.STRATEGIES.keys()
