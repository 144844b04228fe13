"""What was read of a data set, and what was not: for people after reading, and for the card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forge.data.reasons import Reason
from forge.text import aligned

if TYPE_CHECKING:
    from forge.model.images import LabelledImages

IMBALANCE = 10  # times as many images of one class as of another are worth a word


@dataclass(frozen=True)
class Summary:
    """classes, labels and images go together. left_out: why how many files were not read. grey: pictures of more than
    8 bits, their lowest and highest value, and what is black and white. cut: what the base reads of labels that it
    cuts. patients: how many, where anybody says. split: validation is by "image", "patient" or the data's "own";
    empty where nothing is held back.
    """

    source: str
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    images: tuple[int, ...]
    left_out: Mapping[Reason, int]
    grey: tuple[int, tuple[float, float], tuple[float, float]] | None
    cut: Mapping[str, str]
    patients: int | None
    split: str

    def lines(self) -> Iterator[str]:
        """For people, a line each."""
        yield f"Read {sum(self.images)} images of {self.source}:"
        rows = list(zip(self.classes, self.labels, self.images, strict=True))
        yield from ("  " + line for line in aligned(["class", "label", "images"], rows, {2}).splitlines())
        for reason, count in sorted(self.left_out.items()):
            yield f"  not read: {count} {'file' if count == 1 else 'files'}, {reason}"
        if self.grey is not None:
            count, (lowest, highest), (low, high) = self.grey
            yield f"  grey: {low:g} is black and {high:g} white in {count} of them; they have {lowest:g} to {highest:g}"
        for label, read in self.cut.items():
            yield f"  label cut: of {label!r} the base reads {read!r}"
        if min(self.images) * IMBALANCE <= max(self.images):
            yield f"  imbalance: {max(self.images)} images of one class, {min(self.images)} of another"
        if self.split == "image":
            yield "  validation is split by image: nobody says which are one patient's (--group-by or a column patient)"
        elif self.patients is not None:
            yield f"  patients: {self.patients}" + (", each on one side of the validation split" if self.split else "")

    def for_card(self) -> dict[str, Any]:
        """[data] of a card: numbers and texts, no name of a file or folder."""
        reasons: Counter[str] = Counter()
        for reason, count in self.left_out.items():
            reasons[reason.general] += count
        record: dict[str, Any] = {"images": list(self.images), "validation_split": self.split}
        if reasons:
            record["not_read"] = dict(sorted(reasons.items()))
        if self.grey is not None:
            record["grey"] = [_plain(end) for end in self.grey[2]]
        if self.cut:
            record["labels_cut"] = dict(self.cut)
        if self.patients is not None:
            record["patients"] = self.patients
        return record


def summarised(
    images: LabelledImages,
    classes: Sequence[str],
    of_class: Mapping[str, str],
    cut: Mapping[str, str],
    split: str = "",
) -> Summary:
    """The summary of images that were read, class by class in the order of `classes`."""
    depth = images.depth
    counts = Counter(images.targets.tolist())
    return Summary(
        source=images.source,
        classes=tuple(classes),
        labels=tuple(of_class[name] for name in classes),
        images=tuple(counts[images.classes.index(name)] for name in classes),
        left_out=images.left_out,
        grey=None if depth is None else (depth.pictures, depth.values, depth.grey),
        cut=cut,
        patients=None if images.patients is None else len(set(images.patients)),
        split=split,
    )


def _plain(number: float) -> float | int:
    return int(number) if number.is_integer() else number
