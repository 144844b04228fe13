"""A distilled dataset, distilled.safetensors, checked and written; pure functions of bytes, with numpy only.

One byte a pixel: pixel = offset + scale * image, per channel, in the space where black is 0 and white 1. Task and
labels are in the file's metadata, so that it says by itself what its class numbers mean. It comes from someone else:
what is not one is refused by the name of what is wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forge.errors import ForgeError
from forge.recipe.card import check_labels
from forge.recipe.checks import check_text
from forge.text import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SIDE = 4096  # pixels
MAX_IMAGES = 100_000

# The tensors, and the keys of the metadata. method is how the images were made, and may be missing.
IMAGES, LABELS, OFFSET, SCALE = "images", "labels", "offset", "scale"
TASK_KEY, LABELS_KEY, METHOD_KEY = "task", "labels", "method"
_TENSORS = {IMAGES: "U8", LABELS: "I64", OFFSET: "F32", SCALE: "F32"}


@dataclass(frozen=True)
class DistilledView:
    """distilled.safetensors without its pixels; per_class counts the images of each label. digest: as an adapter's."""

    task: str
    labels: tuple[str, ...]
    images: int
    height: int
    width: int
    per_class: tuple[int, ...]
    method: str | None
    digest: str = ""


def distilled_bytes(
    arrays: Mapping[str, NDArray[Any]], task: str, labels: Sequence[str], method: str, source: str
) -> bytes:
    """The canonical bytes of a distilled dataset.

    arrays: IMAGES uint8 [n, 3, h, w], LABELS int64 [n], numbers of `labels`, OFFSET and SCALE float32 [3].
    """
    from forge.formats.safetensors import to_bytes

    return to_bytes(arrays, {TASK_KEY: task, LABELS_KEY: _labels_text(labels), METHOD_KEY: method}, source)


def relabelled(distilled: bytes, task: str, labels: Sequence[str], source: str) -> bytes:
    """A distilled dataset under another task name or other label texts; the images stay."""
    from forge.formats.safetensors import load_numpy, to_bytes

    arrays, metadata = load_numpy(distilled, source)
    return to_bytes(arrays, {**metadata, TASK_KEY: task, LABELS_KEY: _labels_text(labels)}, source)


def check_distilled(
    data: bytes, source: str, most: int = MAX_IMAGES, size: tuple[int, int] | None = None
) -> DistilledView:
    """A distilled dataset of at most `most` images: uint8 [n, 3, h, w], every label with an image.

    size: the height and width that the base takes, where that is known; looked at before anything of the pixels is.
    """
    from forge.formats.safetensors import check_finite, parse_header, whole_numbers

    header = parse_header(data, source)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    for name in tensors:
        if name not in _TENSORS:
            raise ForgeError(f"{source}: unknown tensor {printable(name)!r}", hint=_DISTIL)
    for name, dtype in _TENSORS.items():
        if name not in tensors:
            raise ForgeError(f"{source}: the tensor {name!r} is missing", hint=_DISTIL)
        if tensors[name].dtype != dtype:
            raise ForgeError(f"{source}: {name!r} is {tensors[name].dtype}, not {dtype}", hint=_DISTIL)
    shape = tensors[IMAGES].shape
    if len(shape) != 4 or shape[1] != 3 or not all(1 <= side <= MAX_SIDE for side in shape[2:]):
        raise ForgeError(f"{source}: 'images' has the shape {shape}, not [n, 3, h, w]", hint=_DISTIL)
    count = shape[0]
    if not 1 <= count <= most:
        raise ForgeError(
            f"{source}: {count:,} images, but 1 to {most:,} are allowed",
            hint="distil fewer per class, or raise limits.distilled_images in forge.toml",
        )
    if size is not None and shape[2:] != size:
        raise ForgeError(
            f"{source}: images of {shape[2]}x{shape[3]}, but this base takes {size[0]}x{size[1]}",
            hint="distil again for this base with git forge distill",
        )
    for name, expected in ((LABELS, (count,)), (OFFSET, (3,)), (SCALE, (3,))):
        if tensors[name].shape != expected:
            raise ForgeError(f"{source}: {name!r} has the shape {tensors[name].shape}, not {expected}", hint=_DISTIL)
    check_finite(data, header, source)
    task, labels = _task_of(header.metadata, source)
    numbers = whole_numbers(data, header, tensors[LABELS])
    if min(numbers) < 0 or max(numbers) >= len(labels):
        raise ForgeError(f"{source}: class numbers go beyond the {len(labels)} labels", hint=_DISTIL)
    counts = Counter(numbers)
    per_class = tuple(counts[number] for number in range(len(labels)))
    for label, images in zip(labels, per_class, strict=True):
        if not images:
            raise ForgeError(f"{source}: no image of the label {label!r}", hint=_DISTIL)
    method = header.metadata.get(METHOD_KEY)
    digest = hashlib.sha256(data).hexdigest()
    return DistilledView(task, labels, count, shape[2], shape[3], per_class, method, digest)


_DISTIL = "make it again with `git forge distill`"


def _labels_text(labels: Sequence[str]) -> str:
    return json.dumps(list(labels), ensure_ascii=False)


def _task_of(metadata: Mapping[str, str], source: str) -> tuple[str, tuple[str, ...]]:
    for key in (TASK_KEY, LABELS_KEY):
        if key not in metadata:
            raise ForgeError(f"{source}: the metadata names no {key}", hint=_DISTIL)
    try:
        labels = json.loads(metadata[LABELS_KEY])
    except (ValueError, RecursionError):
        raise ForgeError(f"{source}: the labels in the metadata are not a JSON list", hint=_DISTIL) from None
    try:
        return check_text(metadata[TASK_KEY], "the task"), check_labels(labels, "the labels")
    except ForgeError as error:
        raise ForgeError(f"{source}: {error.message}", hint=error.hint) from None
