"""Forge items of earlier and of later versions: what is read, what is kept, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from recipe.test_item import ITEM, SEARCH, with_digest

from forge.commands.model_json import item_as_json
from forge.errors import ForgeError
from forge.formats.adapter import AdapterConfig, check_adapter, check_adapter_config
from forge.formats.distilled import check_distilled
from forge.formats.safetensors import canonicalise
from forge.recipe import item_text
from forge.recipe.card import read_card
from forge.recipe.card import to_toml as card_text
from forge.recipe.item import Base, ForgeItem, Search
from forge.recipe.item_differences import differences
from forge.recipe.item_keys import IGNORABLE, known_fields, since
from forge.recipe.item_text import from_json, to_json
from forge.recipe.settings import PAPER, read_settings
from forge.recipe.settings import to_toml as settings_text
from forge.recipe.three_way import combine, plan_merge
from forge.repo.storage import with_ids

KEPT = Path(__file__).parent / "kept"  # written by git forge 0.1.0
BASE = Base("embedded", "sha256:" + "0123456789abcdef" * 4)


@pytest.mark.parametrize("name", ["empty", "plain", "output", "everything"])
def test_an_item_of_the_first_version_reads_for_ever_and_is_written_as_it_was(name: str) -> None:
    content = (KEPT / f"{name}.forge-item.json").read_bytes()
    item = from_json(content)
    assert to_json(item).encode() == content
    assert item.base == BASE and not item.unknown


def test_what_the_item_with_everything_says() -> None:
    item = from_json((KEPT / "everything.forge-item.json").read_bytes())
    assert item.names == item.tasks == ("breast", "lung") and item.accepted == ("lung",)
    assert item.contributions[0].coefficient == {"trunk.layer.0.q_proj": 0.25, "trunk.layer.0.v_proj": -0.125}
    assert item.contributions[1].tasks["lung"] == 0.5 and item.contributions[1].adapter == "a" * 64
    assert item.search is not None and (item.search.seed, item.search.objective_before) == (7, None)
    assert item.consolidation is not None and item.consolidation.steps == 40
    assert item.scores[1].labels == ("no tumour", "tumeur é") and item.own_scores[1].accuracy_before is None


def test_the_other_files_of_the_first_version() -> None:
    card = (KEPT / "card.toml").read_text()
    assert card_text(read_card(card), card) == card == card_text(read_card(card))
    settings = (KEPT / "forge.toml").read_text()
    assert settings_text(read_settings(settings)) == settings and read_settings(settings).search == PAPER
    config = check_adapter_config((KEPT / "adapter_config.json").read_bytes(), "config")
    assert config == AdapterConfig(2, 16.0, rslora=False)
    weights, images = ((KEPT / f"{name}.safetensors").read_bytes() for name in ("adapter_model", "distilled"))
    assert check_adapter(weights, config, "weights").modules == {"trunk.layer.0.q_proj": (3, 4)}
    view = check_distilled(images, "images")
    assert (view.task, view.labels, view.images, view.method) == ("breast", read_card(card).labels, 2, "dm")
    assert b"".join(canonicalise(weights)) == weights and b"".join(canonicalise(images)) == images


@dataclass(frozen=True)
class LaterSearch(Search):
    """The search of some later version: one more setting that the model depends on, and a figure that it does not."""

    warmup: int = field(default=0, metadata=since(2))
    wall_seconds: int = field(default=0, metadata=IGNORABLE)


LATER = LaterSearch(**{each.name: getattr(SEARCH, each.name) for each in known_fields(SEARCH)})


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be that later version."""
    monkeypatch.setattr(item_text, "Search", LaterSearch)
    monkeypatch.setattr(item_text, "FORMAT", 2)


def test_a_field_that_is_added_to_the_search(later: None) -> None:
    assert from_json(to_json(ITEM)).search == LATER  # an item without it reads
    assert to_json(from_json(to_json(ITEM))) == to_json(ITEM)  # and stays the same bytes
    item = replace(ITEM, search=replace(LATER, warmup=3))
    text = to_json(item)
    assert from_json(text) == item and json.loads(text)["search"]["warmup"] == 3


def test_what_the_model_depends_on_is_refused_by_an_earlier_version() -> None:
    text = to_json(replace(ITEM, search=replace(LATER, warmup=3)))
    assert json.loads(text)["format"] == 2
    with pytest.raises(ForgeError, match="format 2 was written by a newer git forge") as caught:
        from_json(text)
    assert caught.value.hint == "update git forge"


def test_what_it_does_not_depend_on_is_kept_by_an_earlier_version(monkeypatch: pytest.MonkeyPatch) -> None:
    text = to_json(replace(ITEM, search=replace(LATER, wall_seconds=12)))
    assert json.loads(text)["format"] == 1
    item = from_json(text)
    assert item.search is not None and item.search.unknown == {"x-wall-seconds": 12}
    assert to_json(item) == text
    monkeypatch.setattr(item_text, "Search", LaterSearch)
    assert from_json(text).search == replace(LATER, wall_seconds=12)


@pytest.mark.parametrize("key", ["warmup", "x-wall-seconds"])
def test_a_default_that_is_written_is_another_encoding(later: None, key: str) -> None:
    document = json.loads(to_json(ITEM))
    document["search"][key] = 0
    with pytest.raises(ForgeError, match=f"{key} of search says nothing"):
        from_json(with_digest(document))


UNKNOWN: Mapping[str, object] = {"x-note": {"b": [1, 0.5, None, "é"], "a": True}, "x-z": ""}


def with_unknown_keys() -> ForgeItem:
    """An item with such keys in every object that may have them, as canonical text has it."""
    item = from_json((KEPT / "everything.forge-item.json").read_bytes())
    assert item.search is not None and item.consolidation is not None
    return replace(
        item,
        contributions=tuple(replace(each, unknown=UNKNOWN) for each in item.contributions),
        search=replace(item.search, unknown=UNKNOWN),
        scores=tuple(replace(each, unknown=UNKNOWN) for each in item.scores),
        own_scores=tuple(replace(each, unknown=UNKNOWN) for each in item.own_scores),
        consolidation=replace(item.consolidation, unknown=UNKNOWN),
        unknown=UNKNOWN,
    )


def test_keys_that_may_be_ignored_are_kept_everywhere() -> None:
    text = to_json(with_unknown_keys())
    assert text.count('"x-note"') == 9
    assert from_json(text) == with_unknown_keys() and to_json(from_json(text)) == text
    shown = item_as_json(with_unknown_keys())
    assert shown["search"]["x-z"] == "" and "unknown" not in shown["search"]


def test_they_stay_while_a_file_moves_to_another_storage() -> None:
    moved = with_ids(with_unknown_keys(), {"breast": {"adapter": "9" * 40}})
    assert moved.unknown == moved.contributions[0].unknown == UNKNOWN


def test_those_of_a_contribution_stay_as_long_as_it_is_the_same_one() -> None:
    item = with_unknown_keys()
    first = replace(item.contributions[0], tasks={})
    ancestor = ForgeItem(item.base, item.strategy, (first,))
    merged = combine(plan_merge(ancestor, ancestor, item), 0.5, 0.5)
    assert [entry.unknown for entry in merged] == [UNKNOWN, UNKNOWN]


def test_a_recipe_reproduces_whatever_such_keys_say() -> None:
    item = with_unknown_keys()
    assert item.search is not None
    assert differences(item, replace(item, search=replace(item.search, unknown={}), unknown={})) == []


NESTED: Any = [[[[[[[[[1]]]]]]]]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(note="x"), "unknown key 'note' in the forge item"),
        (lambda d: d.update({"x-": 1}), "one that may be ignored is like x-some-name"),
        (lambda d: d.update({"x-A": 1}), "one that may be ignored"),
        (lambda d: d.update({"x-" + "a" * 63: 1}), "one that may be ignored"),
        (lambda d: d.update({"X-a": 1}), "unknown key 'X-a'"),
        (lambda d: d["base"].update({"x-a": 1}), "unknown key 'x-a' in base"),
        (lambda d: d["search"].update({"x_a": 1}), "unknown key 'x_a' in search"),
        (
            lambda d: d["contributions"]["lung"].update({"x-a": NESTED}),
            "x-a of contribution 'lung' is nested too deeply",
        ),
        (lambda d: d["scores"]["breast"].update({"x-a": "\ud800"}), "holds half of a character"),
        (lambda d: d.update({"x-a": {"\udfff": 1}}), "holds half of a character"),
        (lambda d: d.update({f"x-{number}": 1 for number in range(65)}), "more than 64 unknown keys"),
    ],
)
def test_what_is_no_key_that_may_be_ignored(change: Callable[[dict[str, Any]], object], message: str) -> None:
    document = json.loads(to_json(ITEM))
    change(document)
    with pytest.raises(ForgeError, match=message):
        from_json(with_digest(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("  ", "    "),
        lambda text: text.replace("\n", ""),
        lambda text: text + "\n",
        lambda text: text.replace('"benign"', '"\\u0062enign"'),
        lambda text: text.replace("0.25", "2.5e-1"),
        lambda text: text.replace('"images": 40,\n      "labels"', '"labels"').replace(
            '"malignant"\n      ]', '"malignant"\n      ],\n      "images": 40'
        ),
    ],
)
def test_the_same_values_in_another_encoding_are_refused(change: Callable[[str], str]) -> None:
    text = to_json(ITEM)
    other = change(text)
    assert other != text and json.loads(other) == json.loads(text)
    with pytest.raises(ForgeError, match="the digest does not match"):
        from_json(other)


def test_line_ends_of_a_work_tree_are_no_other_encoding() -> None:
    assert from_json(to_json(ITEM).replace("\n", "\r\n")) == ITEM
