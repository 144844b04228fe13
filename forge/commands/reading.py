"""Options of the verbs that read pictures: how they are to be read, and what their classes mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from forge.data.listing import ReadOptions
    from forge.recipe.card import Card

F = TypeVar("F", bound=Callable[..., Any])

label_option = click.option(
    "--label",
    "pairs",
    multiple=True,
    metavar="CLASS=TEXT",
    help="The label text of a class of the data, by its name; once per class.",
)
group_by_option = click.option(
    "--group-by",
    metavar="REGEX",
    help="Finds the patient in a file's name: each is on one side of the validation split. [default: by image]",
)


def picture_options(function: F) -> F:
    """--grey and --skip-unreadable."""
    grey = click.option(
        "--grey",
        nargs=2,
        type=float,
        metavar="LOW HIGH",
        help="The values that are black and white in pictures of more than 8 bits. [default: the card's, or 16 bits]",
    )
    skip = click.option(
        "--skip-unreadable", is_flag=True, help="Leave out, and count, what cannot be read as an image."
    )
    return grey(skip(function))


def read_options(
    grey: tuple[float, float] | None, skip_unreadable: bool, group_by: str | None = None, card: Card | None = None
) -> ReadOptions:
    """The options as given; what is not is taken from the card."""
    from forge.data.listing import ReadOptions, patient_finder
    from forge.data.pixels import check_grey
    from forge.recipe.card import grey_range, patient_pattern

    group_by = group_by or patient_pattern(card)
    if group_by is not None:
        patient_finder(group_by)
    return ReadOptions(skip_unreadable, check_grey(grey) if grey else grey_range(card), None, group_by)
