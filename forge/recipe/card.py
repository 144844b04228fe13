"""card.toml: what a contributor says about a contribution, in tables that people read and edit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forge.errors import ForgeError
from forge.recipe.checks import check_text
from forge.recipe.item import Base
from forge.recipe.layout import CARD_FILE
from forge.recipe.licences import check_license
from forge.recipe.toml_text import format_toml, parse_toml, take_table

MAX_LABEL = 400  # characters; a base reads fewer, how many its context says
MAX_LABELS = 10_000
DEFAULT_SHARE = 0.2  # of the data that training holds back

SECTIONS = ("data", "training", "distillation", "metrics", "privacy")


@dataclass(frozen=True)
class Card:
    """A contribution's card.

    task and labels: what it classifies; the labels are the texts that CLIP compares with, in the order of
    the class numbers. classes: what the source calls them, in the same order, where that is known. data: how many
    images of each there were, what was left out, the grey range. training and distillation: settings and seed.
    metrics: figures that the contributor claims. privacy: what is released, with "epsilon" only if an "accountant"
    computed it. other: everything
    else in the file, kept as it is; its `license` must be an SPDX expression.
    """

    task: str
    labels: tuple[str, ...]
    base: Base
    classes: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)
    training: Mapping[str, Any] = field(default_factory=dict, hash=False)
    distillation: Mapping[str, Any] = field(default_factory=dict, hash=False)
    metrics: Mapping[str, Any] = field(default_factory=dict, hash=False)
    privacy: Mapping[str, Any] = field(default_factory=dict, hash=False)
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_text(self.task, "[task] name")
        object.__setattr__(self, "labels", check_labels(self.labels, "[task] labels"))
        object.__setattr__(self, "classes", _check_classes(self.classes, len(self.labels)))
        _check_metrics(self.metrics)
        if "epsilon" in self.privacy and not {"delta", "accountant"} <= self.privacy.keys():
            raise ForgeError(
                "[privacy] claims an epsilon without delta and accountant",
                hint="name delta and the accountant that computed it, or leave epsilon out",
            )
        if self.license is not None:
            check_license(self.license, "license")

    @property
    def license(self) -> str | None:
        """The contribution's licence, an SPDX expression; None where the card states none."""
        return self.other.get("license")


def check_labels(labels: object, what: str) -> tuple[str, ...]:
    """Labels that a task can be scored on: at least two texts, all different.

    Two labels that differ in case or outer spaces only are the same text to CLIP's tokeniser.
    """
    if not isinstance(labels, Sequence) or isinstance(labels, str | bytes):
        raise ForgeError(f"{what} must be a list of texts")
    if not 2 <= len(labels) <= MAX_LABELS:
        raise ForgeError(
            f"{what}: {len(labels)} given, but a task has 2 to {MAX_LABELS} labels",
            hint="a single label cannot be told from anything: name what it is not, too",
        )
    seen: dict[str, str] = {}
    for label in labels:
        check_text(label, f"each of {what}")
        if len(label) > MAX_LABEL:
            raise ForgeError(f"{what}: {label[:40]!r}... is longer than {MAX_LABEL} characters")
        folded = " ".join(label.split()).casefold()
        if folded in seen:
            raise ForgeError(f"{what}: {label!r} is there twice", hint="give each class a text of its own")
        seen[folded] = label
    return tuple(labels)


def read_card(text: str | bytes, source: str = CARD_FILE) -> Card:
    """A card from the text of card.toml. Raises ForgeError naming `source`; unknown keys are kept."""
    tables = parse_toml(text, source)
    task, base = take_table(tables, "task", source), take_table(tables, "base", source)
    for table, name, key in (
        (task, "task", "name"),
        (task, "task", "labels"),
        (base, "base", "reference"),
        (base, "base", "fingerprint"),
    ):
        if key not in table:
            raise ForgeError(f"{source}: [{name}] has no {key}", hint=f"add `{key} = ...` below [{name}]")
    sections = {name: take_table(tables, name, source) for name in SECTIONS}
    other = {name: value for name, value in tables.items() if name not in ("task", "base", *SECTIONS)}
    name, labels, classes = task.pop("name"), task.pop("labels"), task.pop("classes", ())
    reference, fingerprint = base.pop("reference"), base.pop("fingerprint")
    other |= {name: rest for name, rest in (("task", task), ("base", base)) if rest}
    try:
        return Card(name, labels, Base(reference, fingerprint), classes, **sections, other=other)
    except ForgeError as error:
        raise ForgeError(f"{source}: {error.message}", hint=error.hint) from None


def grey_range(card: Card | None) -> tuple[float, float] | None:
    """The pixel values that are black and white in the images of more than 8 bits; None where a card says none."""
    ends = card.data.get("grey") if card is not None else None
    if not isinstance(ends, list) or len(ends) != 2 or not all(type(end) in (int, float) for end in ends):
        return None
    low, high = map(float, ends)
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def patient_pattern(card: Card | None) -> str | None:
    """The regular expression that found the patients in training, where a card says one."""
    pattern = card.training.get("group_by") if card is not None else None
    return pattern if isinstance(pattern, str) else None


def validation_split(card: Card | None) -> tuple[float, int]:
    """(share, seed) of the validation split in training; the defaults where a card says nothing that could be one."""
    training = card.training if card is not None else {}
    share, seed = training.get("validation_share"), training.get("seed")
    return (
        share if isinstance(share, float) and 0 < share < 1 else DEFAULT_SHARE,
        seed if type(seed) is int and seed >= 0 else 0,
    )


def to_toml(card: Card, before: str = "") -> str:
    """The text of card.toml; sections without content are left out.

    before: the text that it takes the place of; a person's comments in it stay.
    """
    other = dict(card.other)
    tables: dict[str, Any] = {name: value for name, value in other.items() if not isinstance(value, Mapping)}
    classes = {"classes": list(card.classes)} if card.classes else {}
    tables["task"] = {"name": card.task, "labels": list(card.labels), **classes, **other.pop("task", {})}
    base = {"reference": card.base.reference, "fingerprint": card.base.fingerprint}
    tables["base"] = base | other.pop("base", {})
    tables |= {name: dict(getattr(card, name)) for name in SECTIONS if getattr(card, name)}
    return format_toml(tables | other, before)


def _check_classes(classes: object, labels: int) -> tuple[str, ...]:
    if not isinstance(classes, Sequence) or isinstance(classes, str | bytes) or len(classes) not in (0, labels):
        raise ForgeError(f"[task] classes must be a list of {labels} names, one for each label")
    for name in classes:
        check_text(name, "each of [task] classes")
    if len(set(classes)) != len(classes):
        raise ForgeError("[task] classes: a name is there twice")
    return tuple(classes)


def _check_metrics(metrics: Mapping[str, Any], path: str = "[metrics]") -> None:
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            _check_metrics(value, f"{path} {key}")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ForgeError(f"{path} {key} is not a finite number")
