"""docs/forge-item.schema.json against the code: the same keys, and the same items taken and refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from recipe.test_growing import KEPT, with_unknown_keys
from recipe.test_item import ITEM, items, with_digest

from forge.errors import ForgeError
from forge.recipe import catalogue, item_text
from forge.recipe import item as recipe
from forge.recipe.item import ForgeItem
from forge.recipe.item_keys import MAX_UNKNOWN, key_of, known_fields
from forge.recipe.item_text import from_json, to_json

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "forge-item.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
OBJECTS = {
    "entry": recipe.Entry,
    "search": recipe.Search,
    "score": recipe.TaskScore,
    "own_score": recipe.OwnScore,
    "consolidation": recipe.Consolidation,
}


def is_later(each: Any) -> bool:
    return bool(each.metadata)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", OBJECTS)
def test_the_keys_are_those_of_the_code(name: str) -> None:
    told = SCHEMA["$defs"][name]
    assert set(told["properties"]) == {key_of(each) for each in known_fields(OBJECTS[name])}
    assert set(told["required"]) == {each.name for each in known_fields(OBJECTS[name]) if not is_later(each)}


def test_the_keys_of_the_whole_are_those_of_the_code() -> None:
    by_hand = {"digest", "format", item_text.NOTE_KEY}
    assert set(SCHEMA["properties"]) == by_hand | {key_of(each) for each in known_fields(ForgeItem)}
    obligatory = {each.name for each in known_fields(ForgeItem) if not is_later(each)}
    assert set(SCHEMA["required"]) == by_hand - {item_text.NOTE_KEY} | obligatory
    assert set(SCHEMA["properties"]["base"]["required"]) == {each.name for each in known_fields(recipe.Base)}


def test_the_choices_are_those_of_the_code() -> None:
    search = SCHEMA["$defs"]["search"]["properties"]
    assert SCHEMA["properties"]["strategy"]["enum"] == list(catalogue.STRATEGIES)
    assert search["method"]["enum"] == list(catalogue.SEARCH_METHODS)
    assert search["per"]["enum"] == list(catalogue.PER)
    assert search["objective"]["enum"] == list(catalogue.OBJECTIVES)
    assert SCHEMA["properties"][item_text.NOTE_KEY]["const"] == item_text.NOTE
    assert SCHEMA["properties"]["format"]["const"] == item_text.FORMAT


@given(items)
def test_what_is_written_is_valid(item: ForgeItem) -> None:
    VALIDATOR.validate(json.loads(to_json(item)))


def test_kept_items_and_unknown_keys_are_valid() -> None:
    for file in KEPT.glob("*.forge-item.json"):
        VALIDATOR.validate(json.loads(file.read_text(encoding="utf-8")))
    VALIDATOR.validate(json.loads(to_json(with_unknown_keys())))


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document, itself included."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from objects(inner)


WRONG = [None, True, -1, 2**70, 0.5, "", " ", "x", "../x", [], ["x", "x"], {}, {"": 1}, {"a": "b"}]


@given(st.data())
def test_what_the_schema_refuses_the_code_refuses(data: st.DataObject) -> None:
    """Mutations, each with a right digest. What the schema takes may be refused all the same: no schema says it all."""
    document = copy.deepcopy(json.loads(to_json(with_unknown_keys() if data.draw(st.booleans()) else ITEM)))
    del document["digest"]  # which is made anew
    place = data.draw(st.sampled_from([each for each in objects(document) if each]))
    key = data.draw(st.sampled_from(sorted(place)))
    how = data.draw(st.sampled_from(["take out", "add", "replace"]))
    if how == "take out":
        del place[key]
    elif how == "add":
        place[data.draw(st.sampled_from(["note", "x-", "x-A", "X-a", "X_a"]))] = 1
    else:
        place[key] = data.draw(st.sampled_from(WRONG))
    try:
        from_json(with_digest(document))
        refusal = None
    except ForgeError as error:
        refusal = error.message
    if not VALIDATOR.is_valid({"digest": "sha256:" + "0" * 64, **document}):
        assert refusal is not None and "digest does not match" not in refusal


STRUCTURAL = (
    "is missing in", "unknown key", "must be a JSON object", "must be a list", "must be a number", "must be text",
    "must be a whole number", "must be one of", "unknown strategy", "is not the id of a git blob", "must lie between",
    "must name 1 to",
)  # fmt: skip


@given(st.data())
def test_what_the_code_refuses_for_its_structure_the_schema_refuses(data: st.DataObject) -> None:
    document = json.loads(to_json(ITEM))
    place = data.draw(st.sampled_from([each for each in objects(document) if each]))
    key = data.draw(st.sampled_from(sorted(place)))
    if data.draw(st.booleans()):
        del place[key]
    else:
        place[key] = data.draw(st.sampled_from(WRONG))
    try:
        from_json(with_digest(document))
    except ForgeError as error:
        if any(words in error.message for words in STRUCTURAL):
            assert not VALIDATOR.is_valid({"digest": "sha256:" + "0" * 64, **document}), error.message


def test_the_most_unknown_keys_are_said_in_the_specification() -> None:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    assert f"at most {MAX_UNKNOWN}" in text
