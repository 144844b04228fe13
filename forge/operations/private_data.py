"""A contributor's private images as `train` and `distill` use them: the same split, labels and task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from forge.console import track
from forge.data.listing import Listing, ReadOptions, has_split, list_images
from forge.data.matching import Given
from forge.data.summary import Summary, summarised
from forge.errors import ForgeError
from forge.operations.contributing import Labelling, choose_labels
from forge.recipe.card import Card
from forge.recipe.checks import check_between, check_whole

if TYPE_CHECKING:
    from forge.model.base import BaseModel
    from forge.model.scoring import TaskImages


@dataclass(frozen=True)
class PrivateListing:
    """A task's images before one is read: what is known without the base. `test` are held-out ones, where given."""

    train: Listing
    validation: Listing | None
    test: Listing | None
    labelling: Labelling
    given: Given
    options: ReadOptions


@dataclass(frozen=True)
class PrivateData:
    """A task's training and validation images, and its held-out ones; none is ever written anywhere."""

    task: str
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    train: TaskImages
    validation: TaskImages
    test: TaskImages | None
    summary: Summary
    others: tuple[Summary, ...] = ()  # of a validation split of its own, and of the held-out images

    def lines(self) -> Iterator[str]:
        """What was read, for people."""
        for summary in (self.summary, *self.others):
            yield from summary.lines()


def check_split(share: float, seed: int) -> None:
    """Raise ForgeError where no share of the images, or no split of them, can be held back for validation."""
    check_between(share, "the share held back for validation", 0, 1, open_ends="[]")
    check_whole(seed, "the seed", least=0)


def list_private_data(
    data: Path, given: Given, card: Card | None, options: ReadOptions, test: Path | None = None
) -> PrivateListing:
    """Look at DATA and the held-out images, and choose labels by name; no picture is read, and no torch."""
    train = list_images(data, "train", options)
    labelling = choose_labels(given, card, train.classes, str(data))
    validation = list_images(data, "val", options) if has_split(data, "val") else None
    if validation is not None and set(validation.classes) != set(train.classes):
        raise ForgeError(
            f"{validation.source} has the classes {', '.join(validation.classes)}, "
            f"but {train.source} has {', '.join(train.classes)}",
            hint="the two splits need the same classes",
        )
    if validation is not None:
        _check_apart(train, validation)
    held_out = None
    if test is not None:
        held_out = list_images(test, "test", options)
        labelling.of(held_out.source, held_out.classes, given)
        if options.group_by is not None:  # else equal names in two tables may be two people
            _check_apart(train, held_out)
    return PrivateListing(train, validation, held_out, labelling, given, options)


def read_private_data(
    base: BaseModel,
    data: Path,
    given: Sequence[str],
    card: Card | None,
    task: str,
    share: float,
    seed: int,
    options: ReadOptions | None = None,
) -> PrivateData:
    """As list_private_data and read_listed, for who has loaded the base already. given: label texts, one a class."""
    return read_listed(
        base, list_private_data(data, Given(tuple(given)), card, options or ReadOptions()), task, share, seed
    )


def read_listed(base: BaseModel, listed: PrivateListing, task: str, share: float, seed: int) -> PrivateData:
    """Read what is listed, and hold back `share` of every class for validation, unless it brings a split of its own.

    The grey range of the training images goes for all of them.
    """
    from forge.model.images import read_listing, split_validation, with_labels
    from forge.model.label_texts import check_label_texts

    labels, of_class, options = listed.labelling.labels, listed.labelling.of_class, listed.options
    cut = check_label_texts(base, labels, listed.train.source)
    whole = read_listing(
        listed.train, base, options, lambda items, total: track(items, total, f"reading {listed.train.source}")
    )
    if whole.depth is not None:
        options = replace(options, grey=whole.depth.grey)
    others = []
    if listed.validation is not None:
        train, validation = whole, read_listing(listed.validation, base, options)
        others.append(summarised(validation, listed.labelling.classes, of_class, {}))
    else:
        train, validation = split_validation(whole, share, seed)
    test, held_out = None, listed.test
    if held_out is not None:
        label = f"reading {held_out.source}"
        images = read_listing(held_out, base, options, lambda items, total: track(items, total, label))
        named = listed.labelling.of(images.source, images.classes, listed.given)
        test = with_labels(images, base, task, labels, named)
        others.append(summarised(images, images.classes, named, {}))
    split = "own" if listed.validation is not None else "image" if whole.patients is None else "patient"
    summary = summarised(whole, listed.labelling.classes, of_class, cut, split)
    return PrivateData(
        task,
        labels,
        listed.labelling.classes,
        with_labels(train, base, task, labels, of_class),
        with_labels(validation, base, task, labels, of_class),
        test,
        summary,
        tuple(others),
    )


def _check_apart(train: Listing, validation: Listing) -> None:
    """Refuse a patient who is on both sides."""
    both = sorted(set(train.patients or ()) & set(validation.patients or ()))
    if both:
        raise ForgeError(
            f"{validation.source}: {len(both)} patient(s) have images in {train.source} as well: {', '.join(both[:3])}",
            hint="keep each patient in one split",
        )
