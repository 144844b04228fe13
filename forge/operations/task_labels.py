"""Which label texts stand for the classes of a data set, when a version of the model is asked about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forge.errors import ForgeError
from forge.operations.loading import ReadBlobs, entry_named, view_distilled
from forge.repo.card import check_labels
from forge.repo.recipe import ForgeItem
from forge.repo.settings import LimitSettings


def labels_of(item: ForgeItem, name: str, read: ReadBlobs, limits: LimitSettings) -> tuple[str, ...]:
    """The labels of a contribution in a recipe, in the order of its class numbers."""
    return view_distilled(entry_named(item, name), read, limits).labels


def labels_for(
    item: ForgeItem, given: Sequence[str], of_contribution: Sequence[str], classes: Sequence[str], source: str
) -> tuple[str, ...]:
    """Label texts in the order of `classes`: given, the contribution's, those of a known task, or the names.

    Class names that are themselves the labels of a task need nothing else; a contribution's labels stand for
    other class names by their order.
    """
    if given:
        labels: Sequence[str] = given
    elif set(classes) in _label_sets(item) or set(classes) == set(of_contribution):
        labels = classes
    elif of_contribution:
        labels = of_contribution
    elif any(len(known) == len(classes) for known in _label_sets(item)):
        raise ForgeError(
            f"{source}: its classes ({', '.join(classes)}) are not the labels of a task of this model",
            hint="say which texts they are, in this order, with --labels; tasks: " + _shown(item),
        )
    else:
        labels = classes
    if len(labels) != len(classes):
        raise ForgeError(
            f"{source} has {len(classes)} classes ({', '.join(classes)}), but there are {len(labels)} labels",
            hint="give --labels once per class, in that order",
        )
    return check_labels(tuple(labels), "the labels")


def known_tasks(item: ForgeItem) -> Mapping[str, tuple[str, ...]]:
    """The tasks that a recipe was scored on, with their labels."""
    return {score.task: score.labels for score in item.scores}


def _label_sets(item: ForgeItem) -> list[set[str]]:
    return [set(labels) for labels in known_tasks(item).values()]


def _shown(item: ForgeItem) -> str:
    return "; ".join(f"{task}: {', '.join(labels)}" for task, labels in known_tasks(item).items())
