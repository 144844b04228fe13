"""Readable, deterministic summaries of what a model repository holds, for git diff and git log -p (textconv).

A textconv that fails makes `git diff` fail: whatever a file holds, something is printed for it. Each summary
of a binary file names its digest, so that two different files never look the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from forge.errors import ForgeError
from forge.formats.adapter import LORA_A, LORA_B, MAGNITUDE, PREFIX, WEIGHT
from forge.formats.distilled import IMAGES, LABELS, LABELS_KEY, OFFSET, SCALE, TASK_KEY
from forge.formats.safetensors import (
    CHUNK,
    FLOATS,
    Header,
    TensorInfo,
    read_chunks,
    read_header,
)
from forge.recipe.item import ForgeItem
from forge.recipe.item_text import MAX_BYTES, from_json
from forge.recipe.wording import (
    Table,
    by_numbers,
    coefficient_words,
    module_table,
    search_rows,
    strategy_words,
    task_table,
)
from forge.text import aligned, printable, printable_lines

if TYPE_CHECKING:
    from forge.formats.safetensors import Array

_A, _B, _M = f".{LORA_A}{WEIGHT}", f".{LORA_B}{WEIGHT}", f".{MAGNITUDE}"  # how the names of factors end
LONGEST = 1000  # characters shown of one text in the metadata
MAX_TEXT = MAX_BYTES  # bytes: no text of a model repository is larger
MAX_IMAGES, MAX_CHANNELS = 1_000_000, 16  # beyond, it is shown as any tensors are


def summarise(path: Path) -> bytes:
    """The summary of a file, told by its content (git hands over a temporary name); text as it is.

    However large a file is, little of it is held at once: git asks for every version that it shows. Raises ForgeError
    only if there is no such file.
    """
    try:
        with path.open("rb") as stream:
            return _summarised(stream)
    except OSError as error:
        raise ForgeError(f"{path}: {error.strerror}", hint="name a file that is there") from error


def _summarised(stream: BinaryIO) -> bytes:
    try:
        # First, because a header's length may look like the start of a text: 32 is a space, 123 a brace.
        text = summarise_safetensors(stream, read_header(stream, "this file"))
    except ForgeError as error:
        stream.seek(0)
        content = stream.read(MAX_TEXT + 1)
        if len(content) <= MAX_TEXT and _is_text(content):
            return _item_or_as_is(content)
        text = f"{error.message}\n"
    stream.seek(0)
    digest = hashlib.sha256()
    while block := stream.read(CHUNK):
        digest.update(block)
    size = f"{stream.tell():,} bytes, sha256 {digest.hexdigest()[:16]}\n"
    return (text + size).encode("utf-8", "backslashreplace")


def summarise_safetensors(stream: BinaryIO, header: Header) -> str:
    """Tables for an adapter, a distilled dataset, or tensors of any kind."""
    names = {tensor.name for tensor in header.tensors}
    if all(_factor(name) for name in names) and any(name.endswith((_A, _B)) for name in names):
        return _adapter(stream, header)
    if {IMAGES, LABELS} <= names:
        text = _distilled(stream, header)
        if text is not None:
            return text
    return _metadata(header.metadata) + _tensors(stream, header)


def summarise_item(item: ForgeItem) -> str:
    """A forge item as tables: contributions with their coefficients, the search, the scores."""
    lines = [f"forge item: {strategy_words(item)} on {printable(item.base.reference)} ({item.base.fingerprint[:23]})\n"]
    if item.contributions:
        entries = [
            (entry.name, coefficient_words(entry.coefficient), entry.adapter[:10], entry.distilled[:10])
            for entry in item.contributions
        ]
        lines += ["\n", aligned(("contribution", "coefficient", "adapter", "distilled"), entries, right={1})]
    else:
        lines.append("no contributions: the base itself\n")
    lines += _coefficients(item)
    if item.search is not None:
        lines.append("\nsearch\n")
        lines += [f"{name}: {printable(value)}\n" for name, value in search_rows(item.search)]
    if item.consolidation is not None:
        consolidation = item.consolidation
        lines.append(
            f"\nconsolidation: adapter {consolidation.adapter[:10]}, {consolidation.steps} steps at "
            f"{consolidation.learning_rate:g}, seed {consolidation.seed}, objective "
            f"{consolidation.objective_before:.6f} -> {consolidation.objective_after:.6f}\n"
        )
    if item.scores:
        scores = [
            (
                score.task,
                score.images,
                _share(score.accuracy_before),
                _share(score.accuracy),
                _loss(score.cross_entropy_before),
                _loss(score.cross_entropy),
            )
            for score in item.scores
        ]
        headers = ("task", "images", "accuracy before", "after", "cross-entropy before", "after")
        lines += ["\n", aligned(headers, scores, right=range(1, 6))]
        lines += [
            f"labels of {printable(each.task)}: {'; '.join(map(printable, each.labels))}\n" for each in item.scores
        ]
    return "".join(lines)


def _coefficients(item: ForgeItem) -> list[str]:
    """Tables of all coefficients that are not one number a contribution, and of those for single tasks."""
    tables: list[tuple[str, Table | None]] = [
        ("coefficients by module", module_table({entry.name: entry.coefficient for entry in item.contributions})),
        ("coefficients by task", task_table(item)),
    ]
    tables += [
        (f"coefficients by module for {task}", module_table({e.name: e.tasks[task] for e in item.contributions}))
        for task in item.tasks
    ]
    return [
        f"\n{printable(title)}\n{aligned(table[0], table[1], right=range(1, len(table[0])))}"
        for title, table in tables
        if table is not None
    ]


def _item_or_as_is(data: bytes) -> bytes:
    try:
        return summarise_item(from_json(data)).encode("utf-8", "backslashreplace")
    except ForgeError:
        # Edited, in conflict or something else: a reader needs it as it stands, but no terminal is to obey it.
        text = data.decode("utf-8")
        return "\t".join(map(printable_lines, text.split("\t"))).encode("utf-8", "backslashreplace")


def _adapter(stream: BinaryIO, header: Header) -> str:
    factors = {_without_weight(tensor.name): tensor for tensor in header.tensors}
    modules = sorted({_module(tensor.name) for tensor in header.tensors}, key=by_numbers)
    dora = any(name.endswith(_M) for name in factors)
    rows, parameters = [], 0
    for module in modules:
        pair = [factors.get(_without_weight(module + part)) for part in (_A, _B)]
        magnitude = factors.get(module + _M)
        present = [factor for factor in (*pair, magnitude) if factor is not None]
        parameters += sum(int(np.prod(factor.shape)) for factor in present)
        rank = pair[0].shape[0] if pair[0] is not None and pair[0].shape else "-"
        shapes = [_shape(factor) if factor is not None else "missing" for factor in pair]
        measured = [*pair, magnitude] if dora else pair
        norms = [_figures(stream, header, each).norm if each is not None else "-" for each in measured]
        dtypes = "/".join(sorted({factor.dtype for factor in present}))
        rows.append((module.removeprefix(PREFIX), rank, *shapes, dtypes, *norms))
    headers = ("module", "rank", "A", "B", "dtype", "||A||", "||B||", *(["||m||"] if dora else []))
    table = aligned(headers, rows, right={1, 5, 6, 7})
    kind = "DoRA" if dora else "LoRA"
    return (
        f"adapter: {kind} on {len(modules)} modules, {parameters:,} parameters\n\n{table}\n{_metadata(header.metadata)}"
    )


def _factor(name: str) -> bool:
    """Whether a tensor of this name is a part of a LoRA or DoRA."""
    return name.endswith((_A, _B, _M, _M + WEIGHT))


def _without_weight(name: str) -> str:
    return name.removesuffix(WEIGHT)


def _module(name: str) -> str:
    """The adapted module that a tensor belongs to."""
    return name.removesuffix(_A).removesuffix(_B).removesuffix(WEIGHT).removesuffix(_M)


def _distilled(stream: BinaryIO, header: Header) -> str | None:
    """The summary of a distilled dataset; None if it only looks like one."""
    tensors = {tensor.name: tensor for tensor in header.tensors}
    images, labels = tensors[IMAGES], tensors[LABELS]
    if len(images.shape) != 4 or labels.shape != images.shape[:1] or labels.dtype in FLOATS:
        return None
    if images.shape[0] > MAX_IMAGES or images.shape[1] > MAX_CHANNELS:
        return None
    texts = _label_texts(header.metadata)
    counts = Counter(value for chunk in read_chunks(stream, header, labels) for value in chunk.tolist())
    rows = [
        (index, texts[index] if texts is not None and 0 <= index < len(texts) else "-", counts[index])
        for index in sorted(counts.keys() | set(range(len(texts or ()))))
    ]
    count, channels, height, width = images.shape
    lines = [
        f"distilled dataset: {count} images of {height} x {width}, {channels} channels, {images.dtype}\n",
        f"task: {printable(header.metadata.get(TASK_KEY, '-'))}\n\n",
        aligned(("label", "text", "images"), rows, right={0, 2}),
        "\n",
    ]
    if prod(images.shape):
        figures = _by_channel(stream, header, images)
        scaling = _scaling(stream, tensors, header, channels)
        ranges = [(channel, *figures[channel].range(*scaling[channel])) for channel in range(channels)]
        lines += [aligned(("channel", "least", "mean", "most"), ranges, right=range(4)), "\n"]
    rest = {name: value for name, value in header.metadata.items() if name not in (TASK_KEY, LABELS_KEY)}
    return "".join(lines) + _metadata(rest)


def _scaling(
    stream: BinaryIO, tensors: dict[str, TensorInfo], header: Header, channels: int
) -> list[tuple[float, float]]:
    """(offset, scale) of each channel: pixel = offset + scale * stored; (0, 1) where the file has none."""
    pair = [tensors.get(OFFSET), tensors.get(SCALE)]
    numbers = [
        [value for chunk in read_chunks(stream, header, each) for value in chunk.tolist()]
        for each in pair
        if each and each.shape == (channels,)
    ]
    return list(zip(*numbers, strict=True)) if len(numbers) == 2 else [(0.0, 1.0)] * channels


def _tensors(stream: BinaryIO, header: Header) -> str:
    rows = []
    for tensor in sorted(header.tensors, key=lambda each: each.name):
        figures = _figures(stream, header, tensor)
        rows.append((tensor.name, tensor.dtype, _shape(tensor), *figures.range(), figures.norm))
    headers = ("tensor", "dtype", "shape", "least", "mean", "most", "norm")
    return aligned(headers, rows, right=range(3, 7)) + "\n"


@dataclass
class _Figures:
    """Least, most, sum and sum of squares of values that are seen a part at a time."""

    count: int = 0
    least: float = math.inf
    most: float = -math.inf
    total: float = 0.0
    squares: float = 0.0

    def see(self, values: Array) -> None:
        if not values.size:
            return
        with np.errstate(all="ignore"):
            exact = values.astype(np.float64)
            self.count += values.size
            self.least, self.most = min(self.least, float(exact.min())), max(self.most, float(exact.max()))
            self.total += float(exact.sum())
            self.squares += float(np.square(exact).sum())

    @property
    def norm(self) -> str:
        return f"{self.squares**0.5:.4g}"

    def range(self, offset: float = 0.0, scale: float = 1.0) -> tuple[str, str, str]:
        """Least, mean and most of offset + scale * values."""
        if not self.count:
            return "-", "-", "-"
        least, most = sorted((offset + scale * self.least, offset + scale * self.most))
        return f"{least:.4g}", f"{offset + scale * self.total / self.count:.4g}", f"{most:.4g}"


def _figures(stream: BinaryIO, header: Header, tensor: TensorInfo) -> _Figures:
    figures = _Figures()
    for chunk in read_chunks(stream, header, tensor, CHUNK):
        figures.see(chunk)
    return figures


def _by_channel(stream: BinaryIO, header: Header, images: TensorInfo) -> list[_Figures]:
    """The figures of each channel of [n, channels, h, w]: some whole images at a time, or parts of one channel."""
    channels, plane = images.shape[1], images.shape[2] * images.shape[3]
    figures = [_Figures() for _ in range(channels)]
    if channels * plane <= CHUNK:
        whole = CHUNK // (channels * plane) * channels * plane
        for chunk in read_chunks(stream, header, images, whole):
            for channel, values in enumerate(chunk.reshape(-1, channels, plane).swapaxes(0, 1)):
                figures[channel].see(values)
        return figures
    size = (images.end - images.begin) // prod(images.shape)
    for number in range(images.shape[0] * channels):
        begin = images.begin + number * plane * size
        part = TensorInfo(images.name, images.dtype, (plane,), begin, begin + plane * size)
        for chunk in read_chunks(stream, header, part, CHUNK):
            figures[number % channels].see(chunk)
    return figures


def _metadata(metadata: dict[str, str]) -> str:
    return "".join(f"{printable(name)}: {printable(value[:LONGEST])}\n" for name, value in sorted(metadata.items()))


def _label_texts(metadata: dict[str, str]) -> list[str] | None:
    try:
        texts = json.loads(metadata.get(LABELS_KEY, ""))
    except (ValueError, RecursionError):
        return None
    return [str(text) for text in texts] if isinstance(texts, list) else None


def _shape(tensor: TensorInfo) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return "\0" not in text
