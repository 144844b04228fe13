"""Which label text stands for which class of a data set: by name or as a person says, never by position."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forge.data.names import is_number
from forge.errors import ForgeError
from forge.text import same_text


@dataclass(frozen=True)
class KnownTask:
    """A task's labels, and the names that its classes had in the data it was trained on, in the same order."""

    labels: tuple[str, ...]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Given:
    """What a person says of a data set: `labels` for its classes in their order, or `pairs` of CLASS=TEXT."""

    labels: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.labels and self.pairs:
            raise ForgeError("--labels and --label say the same thing", hint="give --label CLASS=TEXT alone")


def given_for(given: Given, classes: Sequence[str], source: str, others: Sequence[str] = ()) -> dict[str, str]:
    """The label of each class of `classes` that a person has given one. `others` are classes of another data set.

    Raises ForgeError for --labels that are not one a class, and for a --label of no class.
    """
    if given.labels:
        if len(given.labels) != len(classes):
            raise ForgeError(
                f"{source} has {len(classes)} classes ({', '.join(classes)}), but there are {len(given.labels)} labels "
                f"({', '.join(given.labels)})",
                hint="give --label CLASS=TEXT once per class",
            )
        return dict(zip(classes, map(_nfc, given.labels), strict=True))
    labels: dict[str, str] = {}
    for pair in given.pairs:
        cuts = [place for place, character in enumerate(pair) if character == "="]
        names = {_nfc(name): name for name in (*others, *classes)}
        fitting = [(names[_nfc(pair[:cut])], pair[cut + 1 :]) for cut in cuts if _nfc(pair[:cut]) in names]
        if len(fitting) != 1:
            raise ForgeError(
                f"--label {pair!r} names no class of {source}; it has: {', '.join(classes)}",
                hint="give --label CLASS=TEXT, such as " + _example(classes),
            )
        name, text = fitting[0]
        if name in labels and labels[name] != text:
            raise ForgeError(f"--label names the class {name!r} twice", hint="give each class one text")
        labels[name] = _nfc(text)
    return {name: text for name, text in labels.items() if name in classes}


def by_name(classes: Sequence[str], known: KnownTask, given: Mapping[str, str]) -> dict[str, str]:
    """The known label of each class that has one: given, or of the same name as the label or as its class.

    A class that has the name of one label and of another one's class has none.
    """
    labels: dict[str, str] = {}
    for name in classes:
        text = same_text(given.get(name, name))
        fitting = {label for label in known.labels if same_text(label) == text}
        if name not in given:
            fitting |= {
                label for label, own in zip(known.labels, known.classes, strict=False) if same_text(own) == text
            }
        if len(fitting) == 1:
            labels[name] = fitting.pop()
    return labels


def fits(labels: Mapping[str, str], classes: Sequence[str]) -> bool:
    """Whether every class has found a label, each its own."""
    return len(labels) == len(classes) == len(set(labels.values()))


def differ(
    source: str, classes: Sequence[str], known: Sequence[KnownTask], whose: str, way: str = "--label CLASS=TEXT"
) -> ForgeError:
    """The message where the classes of a data set are not those of a task, with both lists and the way out."""
    theirs = "; ".join(_shown(task) for task in known)
    return ForgeError(
        f"{source} has the classes {', '.join(classes)}, but {whose}: {theirs}",
        hint=f"classes are matched by name: say which label stands for which class with {way}"
        + (f", such as {_example(classes)}" if "=" in way else ", once per class in their order"),
    )


def check_texts(labels: Sequence[str], classes: Sequence[str], source: str) -> None:
    """Refuse label texts that are equal to the model, or that it knows nothing of: numbers."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.get(same_text(label))
        if other is not None:
            same = "is there twice" if other == label else f"and {other!r} are the same text to the model, there twice"
            raise ForgeError(f"{source}: the label {label!r} {same}", hint="give each class a text of its own")
        seen[same_text(label)] = label
    numbers = [label for label in labels if is_number(label)]
    if numbers:
        raise ForgeError(
            f"{source}: the labels {', '.join(numbers)} are numbers, and CLIP compares images with what texts mean",
            hint="say in words what each class shows: --label CLASS=TEXT, such as "
            + _example(classes, "benign breast tissues")
            + ", or --labels TEXT once per class in their order",
        )


def _example(classes: Sequence[str], text: str = "TEXT") -> str:
    return f'--label "{classes[0] if classes else "CLASS"}={text}"'


def _shown(task: KnownTask) -> str:
    if not task.classes or list(map(same_text, task.classes)) == list(map(same_text, task.labels)):
        return ", ".join(task.labels)
    return ", ".join(f"{label} (class {name})" for label, name in zip(task.labels, task.classes, strict=True))


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
