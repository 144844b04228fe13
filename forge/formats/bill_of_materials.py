"""A bill of materials of one model: what it is made of, as a CycloneDX 1.6 ML-BOM in JSON. Values in, text out.

The same values are the same bytes: no clock, no chance, no name of a machine, and no version of git forge, which
would make two exports of one commit differ. cyclonedx-python-lib knows neither modelCard nor the data of a component
yet; what they would hold stands in properties, whose names start with "git-forge:".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from forge.recipe.item import Base, Entry, ForgeItem, Search
from forge.recipe.item_keys import known_fields
from forge.recipe.item_text import digest

if TYPE_CHECKING:
    from cyclonedx.model import HashType, Property
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import License

MODEL, BASE, CONSOLIDATION = "model", "base", "consolidation"  # how the parts of the document refer to each other
NOT_SIGNED = "not signed"


@dataclass(frozen=True)
class Material:
    """One file of a contribution or consolidation: its path in the tree, its blob there, and what is in it.

    With git-lfs the blob is the pointer, and the SHA-256 that of the content.
    """

    path: str
    blob: str
    sha256: str


@dataclass(frozen=True)
class Contributed:
    """A contribution as the bill names it. signer: who has signed it, None where nobody has. others: files that are not
    among those above, by what they are called.
    """

    entry: Entry
    adapter: Material
    config: Material
    distilled: Material
    kind: str  # "LoRA r 16"
    task: str
    labels: tuple[str, ...]
    images: int
    card: Material
    license: str | None = None
    signer: str | None = None
    others: Mapping[str, Material] = field(default_factory=dict)


@dataclass(frozen=True)
class Bill:
    """All that the document says. Licences are SPDX expressions, None where nobody has stated one.

    date: of the committer. task: whose weights a task-aware model was exported with. consolidation: the two files of
    the item's consolidation. files: the exported ones, name -> SHA-256.
    """

    commit: str
    date: datetime
    item: ForgeItem
    contributions: tuple[Contributed, ...]
    consolidation: tuple[Material, ...] = ()
    task: str | None = None
    license: str | None = None
    base_license: str | None = None
    files: Mapping[str, str] = field(default_factory=dict, hash=False)


def to_cyclonedx(bill: Bill) -> str:
    """The document's text: ASCII JSON with sorted keys, whose serial number follows from all the rest."""
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.bom_ref import BomRef
    from cyclonedx.model.component import ComponentType
    from cyclonedx.model.dependency import Dependency
    from cyclonedx.output.json import JsonV1Dot6

    files = [_component(ComponentType.FILE, f"file:{name}", name, sha256=sha256) for name, sha256 in bill.files.items()]
    model = _model(bill, files)
    parts = [_base(bill), *(part for each in bill.contributions for part in _contribution(each))]
    if bill.item.consolidation is not None:
        parts.append(_consolidation(bill))
    adapters = [part for part in parts if part.type is ComponentType.MACHINE_LEARNING_MODEL and part is not parts[0]]
    made_of = [
        Dependency(BomRef(MODEL), [Dependency(BomRef(part.bom_ref.value)) for part in parts]),
        *(Dependency(BomRef(part.bom_ref.value), [Dependency(BomRef(BASE))]) for part in adapters),
    ]
    bom = Bom(components=parts, dependencies=made_of, metadata=BomMetaData(component=model, timestamp=bill.date))
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    document["components"].sort(key=lambda part: part["bom-ref"])  # the library's order is its own affair
    del document["serialNumber"]  # a new one each time
    document["serialNumber"] = uuid5(NAMESPACE_URL, _text(document)).urn
    return _text(document)


def shown_reference(base: Base) -> str:
    """The base's reference without the folders of somebody's machine: `ViT-B-16=vit_b_16.safetensors`."""
    name, equals, path = base.reference.rpartition("=")
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(path).is_absolute():
            return f"{name}{equals}{kind(path).name or path}"
    return base.reference


def _model(bill: Bill, files: Iterable[Component]) -> Component:
    from cyclonedx.model.component import ComponentType

    item = bill.item
    properties: dict[str, object] = {
        "strategy": item.strategy,
        "forge-item": digest(item),
        "exported-task": bill.task,
        "accepted": list(item.accepted) or None,
    }
    if item.search is not None:
        properties |= {f"search:{each.name}": getattr(item.search, each.name) for each in known_fields(Search)}
    return _component(
        ComponentType.MACHINE_LEARNING_MODEL, MODEL, "git-forge-model",
        version=bill.commit, license=bill.license, properties=properties, components=files,
    )  # fmt: skip


def _base(bill: Bill) -> Component:
    from cyclonedx.model.component import ComponentType

    base = bill.item.base
    properties = {"fingerprint": base.fingerprint}
    return _component(
        ComponentType.MACHINE_LEARNING_MODEL,
        BASE,
        shown_reference(base),
        license=bill.base_license,
        properties=properties,
    )


def _contribution(of: Contributed) -> tuple[Component, Component]:
    """Its adapter and its distilled dataset."""
    from cyclonedx.model.component import ComponentType

    name = of.entry.name
    shared = {
        "contribution": name,
        "task": of.task,
        "labels": list(of.labels),
        "signer": NOT_SIGNED if of.signer is None else of.signer,
        **_told(of.card, "card:"),
        **{key: value for word, file in of.others.items() for key, value in _told(file, f"{word}:").items()},
    }
    adapter = {
        **shared,
        **_where(of.adapter),
        **_told(of.config, "config:"),
        "kind": of.kind,
        "coefficient": of.entry.coefficient,
        **{f"coefficient:{task}": coefficient for task, coefficient in of.entry.tasks.items()},
    }
    distilled = {**shared, **_where(of.distilled), "images": of.images}
    return (
        _component(
            ComponentType.MACHINE_LEARNING_MODEL, f"contribution:{name}:adapter", f"{name}/adapter",
            version=of.adapter.blob, sha256=of.adapter.sha256, license=of.license, properties=adapter,
        ),
        _component(
            ComponentType.DATA, f"contribution:{name}:distilled", f"{name}/distilled",
            version=of.distilled.blob, sha256=of.distilled.sha256, license=of.license, properties=distilled,
        ),
    )  # fmt: skip


def _consolidation(bill: Bill) -> Component:
    from cyclonedx.model.component import ComponentType

    consolidation = bill.item.consolidation
    assert consolidation is not None
    adapter, config = bill.consolidation
    properties = {
        **_where(adapter),
        **_told(config, "config:"),
        "steps": consolidation.steps,
        "learning-rate": consolidation.learning_rate,
        "seed": consolidation.seed,
    }
    return _component(
        ComponentType.MACHINE_LEARNING_MODEL, CONSOLIDATION, CONSOLIDATION,
        version=adapter.blob, sha256=adapter.sha256, properties=properties,
    )  # fmt: skip


def _where(material: Material, prefix: str = "") -> dict[str, object]:
    return {f"{prefix}path": material.path, f"{prefix}blob": material.blob}


def _told(material: Material, prefix: str) -> dict[str, object]:
    return {**_where(material, prefix), f"{prefix}sha256": material.sha256}


def _component(
    type: ComponentType,
    ref: str,
    name: str,
    *,
    version: str | None = None,
    sha256: str | None = None,
    license: str | None = None,
    properties: Mapping[str, object] | None = None,
    components: Iterable[Component] = (),
) -> Component:
    from cyclonedx.model.component import Component

    return Component(
        type=type, bom_ref=ref, name=name, version=version, hashes=_hashes(sha256), licenses=_licenses(license),
        properties=_properties(properties or {}), components=components,
    )  # fmt: skip


def _hashes(sha256: str | None) -> list[HashType]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [] if sha256 is None else [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]


def _licenses(expression: str | None) -> list[License]:
    """None at all where none is stated: CycloneDX has no word for "nobody says"."""
    from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement, LicenseExpression
    from cyclonedx.spdx import fixup_id

    if expression is None:
        return []
    declared = LicenseAcknowledgement.DECLARED
    identifier = fixup_id(expression)
    if identifier is not None:
        return [DisjunctiveLicense(id=identifier, acknowledgement=declared)]
    return [LicenseExpression(expression, acknowledgement=declared)]


def _properties(values: Mapping[str, object]) -> list[Property]:
    """Texts as they are, everything else as JSON; what is None is left out."""
    from cyclonedx.model import Property

    return [
        Property(name=f"git-forge:{name}", value=value if isinstance(value, str) else _short(value))
        for name, value in values.items()
        if value is not None
    ]


def _short(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _text(document: Mapping[str, object]) -> str:
    text = json.dumps(document, sort_keys=True, indent=2, allow_nan=False) + "\n"
    return text.replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is
