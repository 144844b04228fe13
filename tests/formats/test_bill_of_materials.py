"""bom.cdx.json as values in, text out: valid for any label, the same for the same values."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import example, given
from hypothesis import strategies as st

from forge.formats.bill_of_materials import Bill, Contributed, Material, shown_reference, to_cyclonedx
from forge.recipe.item import Base, Consolidation, Entry, ForgeItem, Search, TaskScore
from forge.recipe.item_text import digest

VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)
LABELS = ("benign tissue", "malignant tumor")
SEARCH = Search("joint", "module", "distillation", 0.003, "Shiwa", 0, 40, 0.5, 1.5, 0.05, {}, 0.7, 0.4)
BREAST = Entry("breast", "a" * 40, "b" * 40, "c" * 40, 0.5, {"breast": 1.0, "lung": {"x": 0.0, "y": -0.25}})
LUNG = Entry("lung", "d" * 40, "e" * 40, "f" * 40, {"y": 0.25, "x": 0.125}, {"breast": 0.0, "lung": 1.5})
ITEM = ForgeItem(
    Base("ViT-B-16=/home/ada/models/vit_b_16.safetensors", "sha256:" + "0" * 64),
    "mixture",
    (BREAST, LUNG),
    SEARCH,
    tuple(TaskScore(task, LABELS, 4, 0.75, 0.5) for task in ("breast", "lung")),
    Consolidation("1" * 40, "2" * 40, 40, 5e-4, 0, 0.5, 0.25),
)


def material(path: str, blob: str) -> Material:
    return Material(path, blob, blob[0] * 64)


def contributed(entry: Entry, **changes: Any) -> Contributed:
    folder = f"contributions/{entry.name}"
    made = Contributed(
        entry,
        adapter=material(f"{folder}/adapter_model.safetensors", entry.adapter),
        config=material(f"{folder}/adapter_config.json", entry.config),
        distilled=material(f"{folder}/distilled.safetensors", entry.distilled),
        kind="LoRA r 16",
        task=entry.name,
        labels=LABELS,
        images=40,
        card=material(f"{folder}/card.toml", "9" * 40),
    )
    return replace(made, **changes)


BILL = Bill(
    commit="0123456789" * 4,
    date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    item=ITEM,
    contributions=(contributed(BREAST, license="CC-BY-NC-4.0", signer="Ada of Breast"), contributed(LUNG)),
    consolidation=(
        material("consolidation/adapter_model.safetensors", "1" * 40),
        material("consolidation/adapter_config.json", "2" * 40),
    ),
    task="breast",
    license="MIT OR Apache-2.0",
    base_license="LicenseRef-weights",
    files={"adapter_model.safetensors": "5" * 64, "adapter_config.json": "6" * 64},
)


def valid(text: str) -> Any:
    """The document, after the library's strict validator has found nothing."""
    assert VALIDATOR.validate_str(text) is None
    return json.loads(text)


def properties(component: Any) -> dict[str, str]:
    found = {each["name"].removeprefix("git-forge:"): each["value"] for each in component["properties"]}
    assert len(found) == len(component["properties"])
    return found


def by_ref(document: Any) -> dict[str, Any]:
    return {each["bom-ref"]: each for each in document["components"]}


def sha256(component: Any) -> str:
    [entry] = component["hashes"]
    assert entry["alg"] == "SHA-256"
    return str(entry["content"])


def test_the_model() -> None:
    document = valid(to_cyclonedx(BILL))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["timestamp"] == "2026-01-02T03:04:05+00:00"
    model = document["metadata"]["component"]
    assert (model["type"], model["version"]) == ("machine-learning-model", BILL.commit)
    assert model["licenses"] == [{"expression": "MIT OR Apache-2.0", "acknowledgement": "declared"}]
    told = properties(model)
    assert (told["strategy"], told["forge-item"], told["exported-task"]) == ("mixture", digest(ITEM), "breast")
    assert (told["search:method"], told["search:objective_after"], told["search:scales"]) == ("joint", "0.4", "{}")
    assert {each["name"]: sha256(each) for each in model["components"]} == BILL.files
    assert {each["type"] for each in model["components"]} == {"file"}


def test_what_it_is_made_of() -> None:
    document = valid(to_cyclonedx(BILL))
    parts = by_ref(document)
    assert list(parts) == [
        "base", "consolidation", "contribution:breast:adapter", "contribution:breast:distilled",
        "contribution:lung:adapter", "contribution:lung:distilled",
    ]  # fmt: skip
    base = parts["base"]
    assert (base["type"], base["name"]) == ("machine-learning-model", "ViT-B-16=vit_b_16.safetensors")
    assert properties(base) == {"fingerprint": ITEM.base.fingerprint}
    assert base["licenses"] == [{"expression": "LicenseRef-weights", "acknowledgement": "declared"}]
    for name, entry in (("breast", BREAST), ("lung", LUNG)):
        adapter, distilled = (parts[f"contribution:{name}:{part}"] for part in ("adapter", "distilled"))
        assert (adapter["type"], adapter["version"]) == ("machine-learning-model", entry.adapter)
        assert (distilled["type"], distilled["version"]) == ("data", entry.distilled)
        assert (sha256(adapter), sha256(distilled)) == (entry.adapter[0] * 64, entry.distilled[0] * 64)
        assert properties(adapter)["path"] == f"contributions/{name}/adapter_model.safetensors"
        assert properties(adapter)["config:blob"] == entry.config
        for part in (adapter, distilled):
            told = properties(part)
            assert (told["contribution"], told["task"], json.loads(told["labels"])) == (name, name, list(LABELS))
            assert told["signer"] == ("Ada of Breast" if name == "breast" else "not signed")
            wanted = [{"license": {"id": "CC-BY-NC-4.0", "acknowledgement": "declared"}}] if name == "breast" else None
            assert part.get("licenses") == wanted
    assert parts["consolidation"]["version"] == "1" * 40
    assert properties(parts["consolidation"])["steps"] == "40"


def test_coefficients() -> None:
    parts = by_ref(valid(to_cyclonedx(BILL)))
    breast, lung = (properties(parts[f"contribution:{name}:adapter"]) for name in ("breast", "lung"))
    assert (breast["coefficient"], breast["coefficient:breast"]) == ("0.5", "1.0")
    assert json.loads(breast["coefficient:lung"]) == {"x": 0.0, "y": -0.25}
    assert lung["coefficient"] == '{"x": 0.125, "y": 0.25}'


def test_what_depends_on_what() -> None:
    document = valid(to_cyclonedx(BILL))
    depends = {each["ref"]: each.get("dependsOn", []) for each in document["dependencies"]}
    assert depends["model"] == list(by_ref(document))
    assert depends["contribution:lung:adapter"] == depends["consolidation"] == ["base"]
    assert depends["contribution:lung:distilled"] == depends["base"] == []


def test_a_model_without_contributions_or_licences() -> None:
    item = ForgeItem(Base("embedded", "sha256:0"), "fusion")
    document = valid(to_cyclonedx(Bill(BILL.commit, BILL.date, item, ())))
    assert list(by_ref(document)) == ["base"]
    assert "licenses" not in document["metadata"]["component"] and "licenses" not in document["components"][0]


def test_the_same_values_are_the_same_bytes() -> None:
    text = to_cyclonedx(BILL)
    assert text.isascii() and text.endswith("}\n")
    turned = replace(
        BILL,
        item=replace(ITEM, contributions=(LUNG, BREAST)),
        contributions=BILL.contributions[::-1],
        files=dict(reversed(BILL.files.items())),
    )
    assert to_cyclonedx(turned) == text


@pytest.mark.parametrize(
    "changes",
    [
        {"commit": "f" * 40},
        {"license": None},
        {"files": {**BILL.files, "adapter_config.json": "7" * 64}},
        {"contributions": (contributed(BREAST), contributed(LUNG))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_model_has_another_serial_number(changes: dict[str, Any]) -> None:
    one, other = (valid(to_cyclonedx(bill))["serialNumber"] for bill in (BILL, replace(BILL, **changes)))
    assert one != other and one.startswith("urn:uuid:")


@example(["\x7f\x9b", '"}],'], "\x1b]0;\u202e", "\ud800")
@given(st.lists(st.text(max_size=40), min_size=2, max_size=3), st.text(max_size=40), st.none() | st.text(max_size=40))
def test_any_text_leaves_the_document_valid(labels: list[str], task: str, signer: str | None) -> None:
    bill = replace(
        BILL,
        contributions=(contributed(BREAST, labels=tuple(labels), task=task, signer=signer), BILL.contributions[1]),
    )
    text = to_cyclonedx(bill)
    told = properties(by_ref(valid(text))["contribution:breast:adapter"])
    assert text.isascii() and "\x1b" not in text and "\x7f" not in text
    assert (json.loads(told["labels"]), told["task"]) == (labels, task)
    assert told["signer"] == ("not signed" if signer is None else signer)


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("embedded", "embedded"),
        ("ViT-B-16/openai", "ViT-B-16/openai"),
        ("bases/tiny", "bases/tiny"),
        ("/srv/ada/bases/tiny", "tiny"),
        ("ViT-B-16=/srv/ada/vit.safetensors", "ViT-B-16=vit.safetensors"),
        ("ViT-B-16=vit.safetensors", "ViT-B-16=vit.safetensors"),
        (r"C:\Users\Ada\tiny", "tiny"),
    ],
)
def test_a_reference_without_somebody_s_folders(reference: str, shown: str) -> None:
    assert shown_reference(Base(reference, "sha256:0")) == shown
