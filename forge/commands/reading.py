"""Options of the verbs that read pictures: how they are to be read, and what their classes mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from forge.data.listing import ReadOptions
    from forge.data.matching import Given

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


def read_options(grey: tuple[float, float] | None, skip_unreadable: bool, group_by: str | None = None) -> ReadOptions:
    """The options as given; what is not, the operation takes from the card."""
    from forge.data.listing import ReadOptions

    return ReadOptions(skip_unreadable, grey, None, group_by)


def given_labels(labels: tuple[str, ...], pairs: tuple[str, ...]) -> Given:
    """--labels and --label as given."""
    from forge.data.matching import Given

    return Given(labels, pairs)
