"""How pictures are to be read: what a person has said, checked, and for the rest what the card says."""

from __future__ import annotations

from dataclasses import replace

from forge.data.listing import ReadOptions, patient_finder
from forge.data.pixels import check_grey
from forge.recipe.card import Card, grey_range, patient_pattern


def complete_options(options: ReadOptions | None, card: Card | None = None) -> ReadOptions:
    """`options` with the card's grey range and pattern of patients where they name none.

    Raises ForgeError for a range that is none, and for a pattern that is no regular expression.
    """
    options = options or ReadOptions()
    group_by = options.group_by or patient_pattern(card)
    if group_by is not None:
        patient_finder(group_by)
    grey = check_grey(options.grey) if options.grey else grey_range(card)
    return replace(options, grey=grey, group_by=group_by)
