"""What a bill of materials takes from a commit: signers, licences by fingerprint, the date, a consolidation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sample_models
from sample_models import LABELS, SampleModel

from forge.errors import ForgeError
from forge.git.places import resolve
from forge.model.base import load_base
from forge.operations.bills import bill_of
from forge.recipe import layout
from forge.recipe.item import Base, Consolidation, TaskScore
from forge.repo.items import read_item

SCORES = [TaskScore(name, LABELS, 4, 0.5, 0.6) for name in ("breast", "lung")]


@pytest.fixture
def model(tmp_path: Path) -> SampleModel:
    made = SampleModel(tmp_path / "model")
    made.add_contribution("breast", {"breast": 1.0})
    made.add_contribution("lung", {"breast": 0.5, "lung": 0.25}, SCORES)
    return made


def bill(model: SampleModel, signers: dict[str, str | None] | None = None, rev: str = "HEAD") -> Any:
    return json.loads(bill_of(model.repo, rev, read_item(model.repo, rev), signers, {"weights": "0" * 64}))


def part(document: Any, ref: str) -> Any:
    [found] = [each for each in document["components"] if each["bom-ref"] == ref]
    return found


def told(component: Any, name: str) -> str:
    [value] = [each["value"] for each in component["properties"] if each["name"] == f"git-forge:{name}"]
    return str(value)


@pytest.mark.parametrize(
    ("signers", "wanted"),
    [
        (None, ("not signed", "not signed")),
        ({"lung": "Lung Clinic"}, ("not signed", "Lung Clinic")),
        ({"breast": "ada@example.org", "lung": None, "colon": "nobody here"}, ("ada@example.org", "not signed")),
    ],
)
def test_who_has_signed(model: SampleModel, signers: dict[str, str | None] | None, wanted: tuple[str, str]) -> None:
    document = bill(model, signers)
    for name, signer in zip(("breast", "lung"), wanted, strict=True):
        for kind in ("adapter", "distilled"):
            assert told(part(document, f"contribution:{name}:{kind}"), "signer") == signer


def test_the_date_is_that_of_the_commit(model: SampleModel) -> None:
    """Not of the author, who may have written it long before; the same in every time zone."""
    model.git("commit", "--quiet", "--allow-empty", "--date", "2020-01-01T00:00:00+09:00", "-m", "Amended")
    metadata = bill(model)["metadata"]
    assert metadata["timestamp"] == "2026-01-01T03:00:00+00:00"
    assert metadata["component"]["version"] == resolve(model.repo, "HEAD")


def test_the_embedded_base_is_known_by_its_weights(model: SampleModel) -> None:
    """Another base that calls itself embedded has the licence that forge.toml states for it, or none."""
    fingerprint = load_base("embedded").fingerprint
    for base, stated, wanted in (
        (Base("embedded", "sha256:" + "0" * 64), "", None),
        (Base("embedded", "sha256:" + "0" * 64), 'license = "CC0-1.0"\n', "CC0-1.0"),
        (Base("/some/where/copied", fingerprint), "", "Apache-2.0"),
        (Base("embedded", fingerprint), 'license = "CC0-1.0"\n', "Apache-2.0"),
    ):
        lines = f'[base]\nreference = "{base.reference}"\nfingerprint = "{base.fingerprint}"\n{stated}'
        model.write("forge.toml", f"format = 1\n{lines}".encode())
        model.write_item(replace(read_item(model.repo, "HEAD"), base=base))
        model.commit("Another base")
        found = part(bill(model), "base")
        assert [each["license"]["id"] for each in found.get("licenses", [])] == ([wanted] if wanted else [])


def test_a_consolidation_is_named(model: SampleModel) -> None:
    model.write("consolidation/adapter_model.safetensors", sample_models.adapter(9.0))
    model.write("consolidation/adapter_config.json", sample_models.adapter_config())
    model.commit("A residual")
    adapter, config = (
        model.git("rev-parse", f"HEAD:consolidation/{file}")
        for file in ("adapter_model.safetensors", "adapter_config.json")
    )
    made = Consolidation(adapter, config, 40, 5e-4, 0, 0.5, 0.25)
    model.write_item(replace(read_item(model.repo, "HEAD"), consolidation=made))
    model.commit("Name it")
    found = part(bill(model), "consolidation")
    assert (found["version"], told(found, "config:blob"), told(found, "steps")) == (adapter, config, "40")
    model.write("consolidation/adapter_config.json", sample_models.adapter_config(lora_alpha=1))
    model.commit("Another one in its place")
    with pytest.raises(ForgeError, match=r"no bill of materials for HEAD: consolidation/adapter_config\.json is "):
        bill(model)


@pytest.mark.parametrize("file", ["card.toml", "distilled.safetensors"])
def test_a_file_that_is_missing(model: SampleModel, file: str) -> None:
    (model.top / "contributions/lung" / file).unlink()
    model.commit("Less of it")
    with pytest.raises(ForgeError, match=rf"contributions/lung/{file.replace('.', '[.]')} is missing"):
        bill(model)


def test_a_file_that_is_new_in_the_layout(model: SampleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    row = layout.ModelFile("contributions/*/consent.txt", 20, word="consent", is_optional=True)
    monkeypatch.setattr(layout, "ROWS", (*layout.ROWS, row))
    model.write("contributions/lung/consent.txt", b"yes\n")
    model.commit("Consent")
    document = bill(model)
    for kind in ("adapter", "distilled"):
        component = part(document, f"contribution:lung:{kind}")
        assert told(component, "consent:path") == "contributions/lung/consent.txt"
        assert told(component, "consent:sha256") == hashlib.sha256(b"yes\n").hexdigest()
