"""The safetensors format, read without trust and written in one canonical way, with numpy at most.

A file is an 8-byte little-endian header length, a JSON header and the data. Everything the header says is
checked against the format's rules and against the file, because every contribution comes from someone else.

Canonical form, which the clean filter stores, so that the same tensors are the same blob whoever wrote them:
tensors in the order in which the safetensors library writes them (dtype descending, then name; data stay
aligned), metadata sorted, compact JSON, header padded with spaces to a multiple of 8 bytes.

git waits for this at every `git add`: what only looks at headers and bytes imports neither numpy nor dataclasses,
which take longer than it does.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from forge.errors import ForgeError
from forge.text import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Data = bytes | bytearray | memoryview

# dtype: numpy's name of it, in the library's own order. BF16 has no numpy dtype: its bits are read as uint16.
DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "I16": "<i2",
    "U16": "<u2",
    "F16": "<f2",
    "BF16": "<u2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
}
DTYPE_ORDER = {name: index for index, name in enumerate(DTYPES)}
FLOATS = ("F16", "BF16", "F32", "F64")
BF16_EXPONENT = 0x7F80  # all ones: infinity or NaN
CHUNK = 1 << 20  # elements looked at in one go, so that memory stays bounded
LENGTH_BYTES = 8
ALIGNMENT = 8
LARGEST = 1 << 48  # of a dimension or an offset: beyond any file, and far from overflow


class Limits(NamedTuple):
    """What a file may have at most; beyond it, it is refused before it is read in full."""

    file: int = 256 << 20  # bytes
    header: int = 16 << 20  # bytes
    tensors: int = 100_000
    rank: int = 8  # dimensions of one tensor


DEFAULT_LIMITS = Limits()


class TensorInfo(NamedTuple):
    """One tensor as the header has it; begin and end count bytes from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """A checked header: the tensors in the order of their data, and where the data begin in the file."""

    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, str]
    data_start: int


def parse_header(data: Data, source: str = "safetensors data", limits: Limits = DEFAULT_LIMITS) -> Header:
    """The header of a whole file in memory, every statement in it checked.

    source: what to call the file in an error. Raises ForgeError naming it and what is wrong.
    """
    view = memoryview(data)
    length = _header_length(bytes(view[: LENGTH_BYTES + 64]), len(view), source, limits)
    text = bytes(view[LENGTH_BYTES : LENGTH_BYTES + length])
    return _checked_header(text, len(view), source, limits)


def read_header(stream: BinaryIO, source: str = "safetensors data", limits: Limits = DEFAULT_LIMITS) -> Header:
    """As parse_header, of a file of which no more than the header is read."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    length = _header_length(stream.read(LENGTH_BYTES + 64), size, source, limits)
    stream.seek(LENGTH_BYTES)
    return _checked_header(stream.read(length), size, source, limits)


def read_chunks(stream: BinaryIO, header: Header, tensor: TensorInfo, elements: int = CHUNK) -> Iterator[Array]:
    """The values of one tensor of a file, one-dimensional and so many at a time; BF16 as float32."""
    import numpy as np

    size = _item_size(tensor.dtype)
    for begin in range(tensor.begin, tensor.end, elements * size):
        stream.seek(header.data_start + begin)
        flat = np.frombuffer(stream.read(min(elements * size, tensor.end - begin)), dtype=DTYPES[tensor.dtype])
        yield _widen(flat) if tensor.dtype == "BF16" else flat


def check_finite(data: Data, header: Header, source: str = "safetensors data") -> None:
    """Raise ForgeError, naming the tensor, if any float is NaN or infinite or a BOOL is neither 0 nor 1."""
    body = memoryview(data)[header.data_start :]
    for tensor in header.tensors:
        suspicious = _SUSPICIOUS.get(tensor.dtype)
        if suspicious is None or _has_none_of(suspicious, body[tensor.begin : tensor.end], _item_size(tensor.dtype)):
            continue
        _check_values(_flat(memoryview(data), header, tensor), tensor.name, tensor.dtype, source)


def canonicalise(
    data: Data, source: str = "safetensors data", limits: Limits = DEFAULT_LIMITS
) -> Iterator[bytes | memoryview]:
    """The pieces of the canonical form of a file, after checking all of it.

    canonicalise(canonicalise(x)) = canonicalise(x). The data pieces are views of `data`, not copies.
    Raises ForgeError before the first piece if anything is wrong with the file.
    """
    header = parse_header(data, source, limits)
    check_finite(data, header, source)
    body = memoryview(data)[header.data_start :]
    ordered = sorted(header.tensors, key=_canonical_key)
    head = _header_bytes([(each.name, each.dtype, each.shape) for each in ordered], header.metadata)
    return _pieces(head, [body[each.begin : each.end] for each in ordered])


def load_numpy(
    data: Data, source: str = "safetensors data", limits: Limits = DEFAULT_LIMITS
) -> tuple[dict[str, Array], dict[str, str]]:
    """(tensors by name, metadata) of a file, after checking all of it; writable copies, BF16 as float32."""
    header = parse_header(data, source, limits)
    check_finite(data, header, source)
    view = memoryview(data)
    return {each.name: tensor_array(view, header, each) for each in header.tensors}, dict(header.metadata)


def tensor_array(data: Data, header: Header, tensor: TensorInfo) -> Array:
    """One tensor of a file as a writable copy in its shape; BF16 as float32."""
    flat = _flat(memoryview(data), header, tensor)
    values = _widen(flat) if tensor.dtype == "BF16" else flat.copy()
    return values.reshape(tensor.shape)


def is_zero(data: Data, header: Header, tensor: TensorInfo) -> bool:
    """Whether all values of one tensor of floats are 0 or -0."""
    part = memoryview(data)[header.data_start + tensor.begin : header.data_start + tensor.end]
    for start in range(0, len(part), CHUNK):
        if part[start : start + CHUNK].tobytes().translate(None, b"\0\x80"):
            return False  # a byte that neither of them has
    return not tensor_array(data, header, tensor).any()


def whole_numbers(data: Data, header: Header, tensor: TensorInfo) -> tuple[int, ...]:
    """The values of one tensor of I64, in their order."""
    part = memoryview(data)[header.data_start + tensor.begin : header.data_start + tensor.end]
    return struct.unpack(f"<{prod(tensor.shape)}q", part)


def to_bytes(
    tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None, source: str = "safetensors data"
) -> bytes:
    """The canonical file of numpy arrays and metadata.

    Raises ForgeError, naming the tensor, for NaN, infinity or a dtype that safetensors has not.
    """
    import numpy as np

    arrays = {}
    for name, array in tensors.items():
        dtype = _dtype_name(array, name, source)
        flat = np.ascontiguousarray(array, dtype=DTYPES[dtype]).reshape(-1)
        if dtype in FLOATS:
            _check_values(flat, name, dtype, source)
        arrays[name] = (dtype, tuple(array.shape), flat)
    ordered = sorted(arrays.items(), key=lambda item: (-DTYPE_ORDER[item[1][0]], item[0]))
    head = _header_bytes([(name, dtype, shape) for name, (dtype, shape, _) in ordered], metadata or {})
    return b"".join([head, *(flat.tobytes() for _, (_, _, flat) in ordered)])


def _canonical_key(tensor: TensorInfo) -> tuple[int, str]:
    return -DTYPE_ORDER[tensor.dtype], tensor.name


def _header_bytes(tensors: list[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """Length and header for tensors (name, dtype, shape) whose data follow in this order."""
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    begin = 0
    for name, dtype, shape in tensors:
        end = begin + prod(shape) * _item_size(dtype)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _pieces(head: bytes, parts: list[memoryview]) -> Iterator[bytes | memoryview]:
    yield head
    yield from parts


def _header_length(start: bytes, size: int, source: str, limits: Limits) -> int:
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    fits = LENGTH_BYTES + length <= size
    # A header length may itself look like another format's first bytes (640 is a pickle's); "{" decides.
    if not (fits and start[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{"):
        _refuse_other_formats(start, source)
    if size > limits.file:
        raise _over(source, f"{size:,} bytes", f"{limits.file:,}", "file_mebibytes")
    if size < LENGTH_BYTES:
        raise _broken(source, f"only {size} bytes: it is cut off, or no safetensors file")
    if length > limits.header:
        raise _broken(source, f"claims a header of {length:,} bytes; at most {limits.header:,} are read")
    if not fits:
        raise _broken(source, f"claims a header of {length:,} bytes but ends after {size:,}: it is cut off")
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{":
        raise _broken(source, "its header is not a JSON object: no safetensors file")
    return length


def _checked_header(text: bytes, size: int, source: str, limits: Limits) -> Header:
    entries = _json_object(text, source)
    metadata = _checked_metadata(entries.pop("__metadata__", {}), source)
    if len(entries) > limits.tensors:
        raise _broken(source, f"has {len(entries):,} tensors; at most {limits.tensors:,} are read")
    tensors = [_checked_tensor(name, entry, source, limits) for name, entry in entries.items()]
    tensors.sort(key=lambda each: (each.begin, each.end))
    data_start = LENGTH_BYTES + len(text)
    _check_tiling(tensors, size - data_start, source)
    return Header(tuple(tensors), metadata, data_start)


def _json_object(text: bytes, source: str) -> dict[str, Any]:
    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, value in pairs:
            if name in members:
                raise _broken(source, f"its header has {printable(name)} twice")
            members[name] = value
        return members

    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=without_doubles)
        json.dumps(entries, ensure_ascii=False).encode("utf-8")  # a lone surrogate could not be written again
    except (ValueError, RecursionError) as error:
        raise _broken(source, "its header is not valid JSON in UTF-8") from error
    if not isinstance(entries, dict):
        raise _broken(source, "its header is not a JSON object")
    return entries


def _checked_metadata(metadata: Any, source: str) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _broken(source, "its metadata are not texts by name")
    return metadata


def _checked_tensor(name: str, entry: Any, source: str, limits: Limits) -> TensorInfo:
    where = f"tensor {printable(name)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _broken(source, f"{where} does not have just dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ForgeError(
            f"{source}: {where} has dtype {printable(dtype)[:40]}, which git forge does not take",
            hint=f"convert it to one of {', '.join(DTYPES)} and save it again",
        )
    if not _whole_numbers(shape) or len(shape) > limits.rank:
        raise _broken(source, f"{where} has no shape of at most {limits.rank} sensible whole numbers")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise _broken(source, f"{where} has no two sensible data_offsets")
    begin, end = offsets
    if end - begin != prod(shape) * _item_size(dtype):
        raise _broken(source, f"{where} of shape {shape} and {dtype} does not have {end - begin:,} bytes")
    return TensorInfo(name, dtype, tuple(shape), begin, end)


def _check_tiling(tensors: list[TensorInfo], available: int, source: str) -> None:
    """The data of the tensors must follow each other from the first byte to the last."""
    reached = 0
    for each in tensors:
        if each.begin != reached:
            what = "leave a gap" if each.begin > reached else "overlap"
            raise _broken(source, f"the data of its tensors {what} at {printable(each.name)}")
        reached = each.end
    if reached > available:
        raise _broken(source, f"has {available:,} bytes of data but claims {reached:,}: it is cut off")
    if reached < available:
        raise _broken(source, f"has {available - reached:,} bytes after the last tensor")


def _whole_numbers(value: Any) -> bool:
    # type, not isinstance: true is an int to Python.
    return isinstance(value, list) and all(type(each) is int and 0 <= each <= LARGEST for each in value)


def _flat(data: memoryview, header: Header, tensor: TensorInfo) -> Array:
    """The values of one tensor as stored, one-dimensional: a view, possibly unaligned; BF16 as its bits."""
    import numpy as np

    part = data[header.data_start + tensor.begin : header.data_start + tensor.end]
    return np.frombuffer(part, dtype=DTYPES[tensor.dtype])


# By dtype, what the last byte of an element, its highest, may be where the element is NaN, infinite or no BOOL: sign,
# then an exponent of ones as far as that byte has it. Values beyond 1e38 (F64: 1e303) begin so as well.
_SUSPICIOUS = {
    "BOOL": bytes(range(2, 256)),
    "F16": bytes(each for each in range(256) if each & 0x7C == 0x7C),
    **dict.fromkeys(("BF16", "F32", "F64"), b"\x7f\xff"),
}


def _has_none_of(suspicious: bytes, part: memoryview, size: int) -> bool:
    """Whether no element, `size` bytes each, ends in such a byte: then all are as they should be."""
    for start in range(0, len(part), CHUNK * size):
        highest = part[start : start + CHUNK * size].tobytes()[size - 1 :: size]
        if len(highest) != len(highest.translate(None, suspicious)):
            return False
    return True


def _check_values(flat: Array, name: str, dtype: str, source: str) -> None:
    import numpy as np

    for start in range(0, len(flat), CHUNK):
        chunk = flat[start : start + CHUNK]
        if dtype == "BF16":
            bad = (chunk & BF16_EXPONENT) == BF16_EXPONENT
        elif dtype == "BOOL":
            bad = chunk.view(np.uint8) > 1
        else:
            bad = ~np.isfinite(chunk)
        if bad.any():
            what = "a BOOL that is neither 0 nor 1" if dtype == "BOOL" else "NaN or infinity"
            raise ForgeError(
                f"{source}: tensor {printable(name)} holds {what} (element {start + int(bad.argmax())})",
                hint="it cannot be part of a model: make the file again, and see where the values come from",
            )


def _widen(bits: Array) -> Array:
    """float32 values of bfloat16 bits: the same sign, exponent and leading mantissa bits."""
    widened: Array = (bits.astype("<u4") << 16).view("<f4")
    return widened


def _item_size(dtype: str) -> int:
    return int(DTYPES[dtype][2])


def _dtype_name(array: Array, name: str, source: str) -> str:
    little = array.dtype.newbyteorder("<").str
    for dtype, code in DTYPES.items():
        if code == little and dtype != "BF16":
            return dtype
    raise ForgeError(f"{source}: tensor {printable(name)} has dtype {array.dtype}, which safetensors has not")


def _refuse_other_formats(start: bytes, source: str) -> None:
    save = "save it with safetensors.torch.save_file and add that file instead"
    if start.startswith(b"\x80") and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise ForgeError(f"{source}: this is a pickle, which can run code when it is loaded", hint=save)
    if start.startswith(b"PK\x03\x04"):
        raise ForgeError(
            f"{source}: this is a zip archive (a PyTorch .pt or .bin file, or .npz), not safetensors",
            hint=save,
        )
    if start.startswith(b"version https://git-lfs."):
        raise ForgeError(
            f"{source}: this is a git-lfs pointer, not the file that it stands for", hint="run: git lfs pull"
        )
    if start.startswith((b"<<<<<<<", b"<!", b"<html")):
        raise ForgeError(f"{source}: this is text, not a safetensors file", hint="get the file once more")


def _broken(source: str, what: str) -> ForgeError:
    return ForgeError(f"{source}: {what}", hint="get or save the file once more; it must load with safetensors")


def _over(source: str, size: str, limit: str, setting: str) -> ForgeError:
    return ForgeError(
        f"{source}: {size}, more than the limit of {limit}",
        hint=f"if it is meant to be that large, raise limits.{setting} in forge.toml",
    )
