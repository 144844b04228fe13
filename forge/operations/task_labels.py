"""Which labels a data set is about, when versions of the model are asked: by name, before any model is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from forge.data.listing import ReadOptions
from forge.data.matching import Given, KnownTask, by_name, check_texts, differ, fits, given_for
from forge.errors import ForgeError
from forge.git.places import Place, list_files, read_file
from forge.git.running import Repository, fetch_promised
from forge.operations.loading import Payloads, entry_named
from forge.recipe.card import Card, check_labels, grey_range, read_card
from forge.recipe.item import ForgeItem
from forge.recipe.layout import CARD_FILE, CONTRIBUTIONS, path_of
from forge.text import same_labels


@dataclass(frozen=True)
class VersionTask:
    """A task that a version knows; contribution: whose card says so, None where the forge item alone does."""

    known: KnownTask
    contribution: str | None = None
    grey: tuple[float, float] | None = None


@dataclass(frozen=True)
class Asked:
    """What a data set asks a model: all labels of its task, and which of them stands for each of its classes."""

    labels: tuple[str, ...]
    of_class: Mapping[str, str]


def labels_of(item: ForgeItem, name: str, payloads: Payloads) -> tuple[str, ...]:
    """The labels of a contribution in a recipe, in the order of its class numbers."""
    return payloads.view_distilled(entry_named(item, name)).labels


def known_tasks(item: ForgeItem) -> Mapping[str, tuple[str, ...]]:
    """The tasks that a recipe was scored on, with their labels."""
    return {score.task: score.labels for score in item.scores}


def tasks_of(repo: Repository, place: Place, item: ForgeItem, only: str | None = None) -> list[VersionTask]:
    """The tasks of a version, or of one contribution in it, with their classes where cards name them."""
    names = item.names if only is None else (entry_named(item, only).name,)
    cards = cards_of(repo, place, names)
    tasks = [VersionTask(KnownTask(card.labels, card.classes), name, grey_range(card)) for name, card in cards.items()]
    named = {same_labels(task.known.labels) for task in tasks}
    scored = [] if only is not None else known_tasks(item).values()
    return tasks + [VersionTask(KnownTask(labels)) for labels in scored if same_labels(labels) not in named]


def ask(groups: Sequence[Sequence[VersionTask]], classes: Sequence[str], given: Given, source: str) -> Asked | None:
    """The task that the classes of a data set fit, in the first group where they fit any; None where they fit none.

    What is given for every class needs no task. Where no task is known at all, the names of the classes are the labels.
    Raises ForgeError where they fit tasks that differ, and where --label names a text that no task has.
    """
    given_labels = given_for(given, classes, source)
    if len(given_labels) == len(classes):
        texts = list(given_labels.values())
        wider = next((asked for group in groups for asked in _fitting(group, classes, given_labels, source)), None)
        if wider is not None:
            return wider
        check_texts(texts, classes, source)
        return Asked(check_labels(texts, "the labels"), given_labels)
    for group in groups:
        candidates = _fitting(group, classes, given_labels, source)
        if len(candidates) > 1:
            tasks = "; ".join(", ".join(each.labels) for each in candidates)
            raise ForgeError(
                f"{source}: its classes ({', '.join(classes)}) fit more than one task: {tasks}",
                hint="say which texts they are: --label CLASS=TEXT once per class",
            )
        if candidates:
            return candidates[0]
    if any(groups):
        return None
    check_texts(classes, classes, source)
    return Asked(check_labels(tuple(classes), "the labels"), {name: name for name in classes})


def unfit(groups: Sequence[Sequence[VersionTask]], classes: Sequence[str], source: str) -> ForgeError:
    """The message for a data set that fits no task."""
    known = {same_labels(task.known.labels): task.known for group in reversed(groups) for task in reversed(group)}
    return differ(source, classes, list(reversed(known.values())), "the tasks of this model have the labels")


def with_grey(
    options: ReadOptions, groups: Sequence[Sequence[VersionTask]], labels: Sequence[str], only: str | None = None
) -> ReadOptions:
    """The grey range of the cards with these labels, unless one is given; `only` that contribution's, if asked."""
    if options.grey is not None:
        return options
    tasks = [task for group in groups for task in group if same_labels(task.known.labels) == same_labels(labels)]
    ranges = {task.grey for task in tasks if task.grey is not None and only in (None, task.contribution)}
    if len(ranges) == 1:
        return replace(options, grey=ranges.pop())
    if ranges:
        shown = ", ".join(f"{low:g} to {high:g}" for low, high in sorted(ranges))
        return replace(options, unsettled=f"and the contributions of this task differ in their range: {shown}")
    return options


def _fitting(
    tasks: Sequence[VersionTask], classes: Sequence[str], given_labels: Mapping[str, str], source: str
) -> list[Asked]:
    """How classes fit tasks, each way once: those that they fill come before those of which they lack a class."""
    ways: dict[tuple[object, ...], Asked] = {}
    for task in tasks:
        labels = by_name(classes, task.known, given_labels)
        if fits(labels, classes):
            rest = [label for label in task.known.labels if label not in labels.values()]
            way = (same_labels(task.known.labels), *(same_labels([labels[name]]) for name in classes))
            ways.setdefault(way, Asked((*(labels[name] for name in classes), *rest), labels))
    full = [asked for asked in ways.values() if len(asked.labels) == len(classes)]
    return full or list(ways.values())


def cards_of(repo: Repository, place: Place, names: Iterable[str]) -> dict[str, Card]:
    """The cards of contributions by name, those that can be read: the forge item says the labels as well."""
    cards = {}
    paths = {name: path_of(name, CARD_FILE) for name in names}
    listed = list_files(repo, place, CONTRIBUTIONS)
    fetch_promised(repo, [listed[path].blob or "" for path in paths.values() if path in listed and listed[path].blob])
    for name, path in paths.items():
        with suppress(ForgeError):
            text = read_file(repo, place, path)
            if text is not None:
                cards[name] = read_card(text, path)
    return cards
