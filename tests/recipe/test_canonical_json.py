"""The canonical text of JSON, against Python's own encoder."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.recipe.canonical_json import canonical

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(st.dictionaries(st.text(), VALUES))
def test_it_is_the_text_of_pythons_encoder(document: dict[str, Any]) -> None:
    expected = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    assert canonical(document) == expected
    assert json.loads(canonical(document)) == document


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("around", [lambda number: number, lambda number: [number], lambda number: {"b": number}])
def test_a_number_that_is_not_finite_has_no_text(number: float, around: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": around(number)})
