"""PEFT's names stand in one module, and what is written under them is read back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from source_literals import modules_that_spell

from forge.formats.adapter import (
    BASE_KEY,
    LORA_A,
    LORA_B,
    MAGNITUDE,
    MODULES_KEY,
    PREFIX,
    AdapterConfig,
    check_adapter,
    check_adapter_config,
    config_bytes,
    factor_of,
    key_of,
    minimal_config,
    rank_and_scaling,
    weights_bytes,
)


def test_no_other_module_spells_the_names_of_peft() -> None:
    keys = ("lora_alpha", "use_dora", "use_rslora", "init_lora_weights", "auto_mapping", "peft_type")
    found = modules_that_spell(PREFIX.rstrip("."), LORA_A, LORA_B, MAGNITUDE, BASE_KEY, MODULES_KEY, *keys)
    found.pop("model/random_adapters.py", None)  # attributes of PEFT's own objects, not names in a file
    assert set(found) == {"formats/adapter.py"}


@pytest.mark.parametrize("factor", [LORA_A, LORA_B, MAGNITUDE])
def test_a_name_is_taken_apart_as_it_was_put_together(factor: str) -> None:
    assert factor_of(key_of("trunk.layer.0.q_proj", factor)) == ("trunk.layer.0.q_proj", factor)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("base_model.model.x.lora_magnitude_vector.weight", ("x", MAGNITUDE)),  # PEFT reads it so, too
        ("base_model.model.x.lora_A", None),
        ("x.lora_A.weight", None),
        ("base_model.model.x.lora_C.weight", None),
        ("base_model.model.x.bias", None),
    ],
)
def test_what_is_the_name_of_a_factor(key: str, place: tuple[str, str] | None) -> None:
    assert factor_of(key) == place


@pytest.mark.parametrize("dora", [False, True])
def test_what_is_written_is_read(dora: bool) -> None:
    config = config_bytes({"peft_type": "LORA", **minimal_config(2, 8, dora=dora)})
    read = check_adapter_config(config, "config")
    assert read == AdapterConfig(2, 8.0, rslora=False, dora=dora)
    assert rank_and_scaling(json.loads(config), "config") == (2, 4.0)
    factors = {key_of("x", LORA_A): np.ones((2, 5), np.float32), key_of("x", LORA_B): np.ones((3, 2), np.float32)}
    if dora:
        factors[key_of("x", MAGNITUDE)] = np.ones(3, np.float32)
    view = check_adapter(weights_bytes(factors, "weights"), read, "weights")
    assert view.modules == {"x": (3, 5)} and view.parameters == 2 * 5 + 3 * 2 + 3 * dora
