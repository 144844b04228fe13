"""Readable, deterministic summaries of what a model repository holds, for git diff and git log -p (textconv).

A textconv that fails makes `git diff` fail: whatever a file holds, something is printed for it. Each summary
of a binary file names its digest, so that two different files never look the same.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np

from forge.errors import ForgeError
from forge.repo.recipe import ForgeItem, from_json
from forge.repo.safetensors_format import (
    CHUNK,
    FLOATS,
    Array,
    Header,
    TensorInfo,
    parse_header,
    tensor_array,
)
from forge.text import aligned, printable

LORA_A = ".lora_A.weight"
LORA_B = ".lora_B.weight"
PEFT_PREFIX = "base_model.model."
LONGEST = 1000  # characters shown of one text in the metadata


def summarise(path: Path) -> bytes:
    """The summary of a file, told by its content (git hands over a temporary name); text as it is.

    Raises ForgeError only if there is no such file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ForgeError(f"{path}: {error.strerror}", hint="name a file that is there") from error
    try:
        # First, because a header's length may look like the start of a text: 32 is a space, 123 a brace.
        text = summarise_safetensors(data, parse_header(data, "this file"))
    except ForgeError as error:
        if _is_text(data):
            return _item_or_as_is(data)
        text = f"{error.message}\n"
    size = f"{len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}\n"
    return (text + size).encode("utf-8", "backslashreplace")


def summarise_safetensors(data: bytes, header: Header) -> str:
    """Tables for an adapter, a distilled dataset, or tensors of any kind."""
    names = {tensor.name for tensor in header.tensors}
    if names and all(name.endswith((LORA_A, LORA_B)) for name in names):
        return _adapter(data, header)
    if {"images", "labels"} <= names:
        text = _distilled(data, header)
        if text is not None:
            return text
    return _metadata(header.metadata) + _tensors(data, header)


def summarise_item(item: ForgeItem) -> str:
    """A forge item as tables: contributions with their coefficients, the search, the scores."""
    lines = [f"forge item: {item.strategy} on {printable(item.base.reference)} ({item.base.fingerprint[:23]})\n"]
    if item.contributions:
        entries = [
            (entry.name, f"{entry.coefficient:.6f}", entry.adapter[:10], entry.distilled[:10])
            for entry in item.contributions
        ]
        lines += ["\n", aligned(("contribution", "coefficient", "adapter", "distilled"), entries, right={1})]
    else:
        lines.append("no contributions: the base itself\n")
    if item.search is not None:
        search = item.search
        scales = ", ".join(f"{name} {scale:.6f}" for name, scale in search.scales.items())
        before = "" if search.objective_before is None else f"{search.objective_before:.6f} -> "
        lines.append(
            f"\nsearch: {printable(search.optimizer)}, seed {search.seed}, {search.evaluations} evaluations, "
            f"start {search.start:g}, bounds +-{search.bounds:g}, L1 {search.l1:g}\n"
            f"scales: {scales or 'none'}\n"
            f"objective: {before}{search.objective_after:.6f}\n"
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


def _item_or_as_is(data: bytes) -> bytes:
    try:
        return summarise_item(from_json(data)).encode("utf-8", "backslashreplace")
    except ForgeError:
        return data  # edited, in conflict or something else: a reader needs it as it stands


def _adapter(data: bytes, header: Header) -> str:
    factors = {tensor.name: tensor for tensor in header.tensors}
    modules = sorted({name.removesuffix(LORA_A).removesuffix(LORA_B) for name in factors}, key=_by_numbers)
    rows, parameters = [], 0
    for module in modules:
        pair = [factors.get(module + LORA_A), factors.get(module + LORA_B)]
        present = [factor for factor in pair if factor is not None]
        parameters += sum(int(np.prod(factor.shape)) for factor in present)
        rank = pair[0].shape[0] if pair[0] is not None and pair[0].shape else "-"
        shapes = [_shape(factor) if factor is not None else "missing" for factor in pair]
        norms = [_norm(tensor_array(data, header, each)) if each is not None else "-" for each in pair]
        dtypes = "/".join(sorted({factor.dtype for factor in present}))
        rows.append((module.removeprefix(PEFT_PREFIX), rank, *shapes, dtypes, *norms))
    table = aligned(("module", "rank", "A", "B", "dtype", "||A||", "||B||"), rows, right={1, 5, 6})
    return (
        f"adapter: LoRA on {len(modules)} modules, {parameters:,} parameters\n\n{table}\n{_metadata(header.metadata)}"
    )


def _distilled(data: bytes, header: Header) -> str | None:
    """The summary of a distilled dataset; None if it only looks like one."""
    tensors = {tensor.name: tensor for tensor in header.tensors}
    images, labels = tensors["images"], tensors["labels"]
    if len(images.shape) != 4 or labels.shape != images.shape[:1] or labels.dtype in FLOATS:
        return None
    texts = _label_texts(header.metadata)
    counts = Counter(tensor_array(data, header, labels).tolist())
    rows = [
        (index, texts[index] if texts is not None and 0 <= index < len(texts) else "-", counts[index])
        for index in sorted(counts.keys() | set(range(len(texts or ()))))
    ]
    count, channels, height, width = images.shape
    lines = [
        f"distilled dataset: {count} images of {height} x {width}, {channels} channels, {images.dtype}\n",
        f"task: {printable(header.metadata.get('task', '-'))}\n\n",
        aligned(("label", "text", "images"), rows, right={0, 2}),
        "\n",
    ]
    pixels, scaling = tensor_array(data, header, images), _scaling(data, tensors, header, channels)
    if pixels.size:
        ranges = [(channel, *_range(pixels[:, channel], *scaling[channel])) for channel in range(channels)]
        lines += [aligned(("channel", "least", "mean", "most"), ranges, right=range(4)), "\n"]
    rest = {name: value for name, value in header.metadata.items() if name not in ("task", "labels")}
    return "".join(lines) + _metadata(rest)


def _scaling(data: bytes, tensors: dict[str, TensorInfo], header: Header, channels: int) -> list[tuple[float, float]]:
    """(offset, scale) of each channel: pixel = offset + scale * stored; (0, 1) where the file has none."""
    pair = [tensors.get("offset"), tensors.get("scale")]
    found = [tensor_array(data, header, each).tolist() for each in pair if each and each.shape == (channels,)]
    return list(zip(*found, strict=True)) if len(found) == 2 else [(0.0, 1.0)] * channels


def _tensors(data: bytes, header: Header) -> str:
    rows = []
    for tensor in sorted(header.tensors, key=lambda each: each.name):
        values = tensor_array(data, header, tensor)
        rows.append((tensor.name, tensor.dtype, _shape(tensor), *_range(values), _norm(values)))
    headers = ("tensor", "dtype", "shape", "least", "mean", "most", "norm")
    return aligned(headers, rows, right=range(3, 7)) + "\n"


def _metadata(metadata: dict[str, str]) -> str:
    return "".join(f"{printable(name)}: {printable(value[:LONGEST])}\n" for name, value in sorted(metadata.items()))


def _label_texts(metadata: dict[str, str]) -> list[str] | None:
    try:
        texts = json.loads(metadata.get("labels", ""))
    except (ValueError, RecursionError):
        return None
    return [str(text) for text in texts] if isinstance(texts, list) else None


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Sorts block 10 after block 9."""
    return [(int(part), "") if part.isdecimal() and len(part) < 10 else (-1, part) for part in name.split(".")]


def _shape(tensor: TensorInfo) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _norm(values: Array) -> str:
    flat, total = values.reshape(-1), 0.0
    with np.errstate(all="ignore"):
        for start in range(0, len(flat), CHUNK):  # float64 of a whole file at once could fill the memory
            total += float(np.sum(np.square(flat[start : start + CHUNK].astype(np.float64))))
    return f"{total**0.5:.4g}"


def _range(values: Array, offset: float = 0.0, scale: float = 1.0) -> tuple[str, str, str]:
    """Least, mean and most of offset + scale * values."""
    if not values.size:
        return "-", "-", "-"
    with np.errstate(all="ignore"):
        ends = sorted(offset + scale * float(end) for end in (values.min(), values.max()))
        mean = offset + scale * float(values.mean(dtype=np.float64))
    return f"{ends[0]:.4g}", f"{mean:.4g}", f"{ends[1]:.4g}"


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
