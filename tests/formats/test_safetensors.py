"""Oracle: the safetensors library itself."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from forge.errors import ForgeError
from forge.formats import safetensors as format_
from forge.formats.safetensors import (
    Limits,
    canonicalise,
    check_finite,
    is_zero,
    load_numpy,
    parse_header,
    to_bytes,
    whole_numbers,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda t: t != "__metadata__")
DTYPES = st.sampled_from(["f4", "f2", "f8", "u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "?"])


@st.composite
def array_values(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    dtype = np.dtype(draw(DTYPES))
    shape = draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    elements = None
    if dtype.kind == "f":
        elements = {"allow_nan": False, "allow_infinity": False}
    return draw(arrays.arrays(dtype, shape, elements=elements))


TENSORS = st.dictionaries(NAMES, array_values(), max_size=5)
METADATA = st.dictionaries(NAMES, NAMES, max_size=3)


def raw_file(header: Any, data: bytes = b"", *, pad: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * pad
    return len(text).to_bytes(8, "little") + text + data


def any_order(tensors: dict[str, np.ndarray[Any, Any]], names: list[str], metadata: dict[str, str]) -> bytes:
    """A valid file with its tensors in the order `names`, written without the code under test."""
    codes = {"f4": "F32", "f2": "F16", "f8": "F64", "u1": "U8", "i1": "I8", "i2": "I16", "u2": "U16"}
    codes |= {"i4": "I32", "u4": "U32", "i8": "I64", "u8": "U64", "b1": "BOOL"}
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name in names:
        array = tensors[name]
        content = array.tobytes()
        offsets = [len(data), len(data) + len(content)]
        header[name] = {
            "shape": list(array.shape),
            "data_offsets": offsets,
            "dtype": codes[array.dtype.str[1:]],
        }
        data += content
    return raw_file(dict(reversed(header.items())), data)


def clean(data: bytes) -> bytes:
    return b"".join(canonicalise(data))


@given(TENSORS, METADATA, st.randoms(use_true_random=False))
def test_any_order_becomes_the_same_bytes(tensors: Any, metadata: dict[str, str], random: Any) -> None:
    names = list(tensors)
    random.shuffle(names)
    once = clean(any_order(tensors, names, metadata))
    assert once == clean(any_order(tensors, sorted(tensors), dict(sorted(metadata.items()))))
    assert once == to_bytes(tensors, metadata)
    assert clean(once) == once
    loaded = safetensors.numpy.load(once)
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()
    assert int.from_bytes(once[:8], "little") % 8 == 0


@given(TENSORS)
def test_without_metadata_it_is_what_the_library_writes(tensors: Any) -> None:
    assert to_bytes(tensors) == safetensors.numpy.save(tensors)


@given(TENSORS, METADATA)
def test_load_returns_what_the_library_wrote(tensors: Any, metadata: dict[str, str]) -> None:
    # Without tensors, the library (0.8) writes invalid JSON for empty metadata.
    loaded, found = load_numpy(safetensors.numpy.save(tensors, metadata or None))
    assert found == metadata
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].flags.writeable


@given(st.floats(width=16, allow_nan=False, allow_infinity=False))
def test_bfloat16_is_read_as_float32(value: float) -> None:
    bits = np.array([value], "<f4").view("<u4") >> 16  # truncation: some bfloat16, exactly known
    data = raw_file({"x": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, bits.astype("<u2").tobytes())
    tensors, _ = load_numpy(data)
    assert tensors["x"].dtype == np.float32
    assert tensors["x"].view("<u4") == bits << 16
    assert clean(data)[-2:] == data[-2:]


SEED = any_order(
    {"a": np.arange(6, dtype="f4").reshape(2, 3), "b": np.ones(4, "f2"), "c": np.zeros((), "i8")},
    ["b", "c", "a"],
    {"format": "pt"},
)


@given(st.data())
def test_a_mutated_file_is_refused_or_loads_with_the_library(data: st.DataObject) -> None:
    content = bytearray(SEED)
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "digit"]))
        if kind == "flip":
            content[where] = data.draw(st.integers(0, 255))
        elif kind == "digit":
            content[where] = data.draw(st.sampled_from(b'0123456789",:[]{}'))
        elif kind == "cut":
            del content[where : where + data.draw(st.integers(1, 20))]
        else:
            content[where:where] = data.draw(st.binary(max_size=8))
        assume(content)
    try:
        cleaned = clean(bytes(content))
    except ForgeError as error:
        assert "\x1b" not in error.message
        return
    library = safetensors.numpy.load(bytes(content))
    again = safetensors.numpy.load(cleaned)
    assert {name: array.tobytes() for name, array in library.items()} == {
        name: array.tobytes() for name, array in again.items()
    }


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_taken(content: bytes) -> None:
    for data in (content, raw_file(content)):
        try:
            clean(data)
        except ForgeError:
            continue


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def entry(**changes: Any) -> dict[str, Any]:
    return {"x": ONE | changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "only 0 bytes"),
        (b"\x08\0\0", "only 3 bytes"),
        (raw_file(entry(), b"\0" * 4)[:-2], "it is cut off"),
        (raw_file(entry(), b"\0" * 4)[:30], "ends after 30: it is cut off"),
        (raw_file(entry(), b"\0" * 5), "1 bytes after the last tensor"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "claims a header of"),
        (raw_file(b"[]"), "not a JSON object"),
        (raw_file(b"{"), "not valid JSON"),
        (raw_file(b"{" + b'"a":' * 1 + b"[" * 100_000), "not valid JSON"),
        (raw_file(b'{"\xff": 1}'), "not valid JSON"),
        (raw_file(b'{"\\ud800": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "not valid JSON"),
        (raw_file(b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,0]}}'), "valid JSON"),
        (raw_file(b'{"x": 1, "x": 1}'), "has x twice"),
        (raw_file(b'{"__metadata__": {"k": "1", "k": "2"}}'), "has k twice"),
        (raw_file({"__metadata__": {"k": 1}}), "metadata are not texts"),
        (raw_file({"__metadata__": None}), "metadata are not texts"),
        (raw_file({"x": 1}), "tensor x does not have just"),
        (raw_file(entry(extra=1), b"\0" * 4), "tensor x does not have just"),
        (raw_file(entry(dtype="F8_E4M3"), b"\0" * 4), "dtype F8_E4M3, which git forge does not take"),
        (raw_file(entry(dtype=["\x1b[31m"]), b"\0" * 4), "which git forge does not take"),
        (raw_file(entry(shape=[-1]), b"\0" * 4), "no shape"),
        (raw_file(entry(shape=[True]), b"\0" * 4), "no shape"),
        (raw_file(entry(shape=[1.0]), b"\0" * 4), "no shape"),
        (raw_file(entry(shape=[1] * 9), b"\0" * 4), "no shape"),
        (raw_file(entry(shape=[0, 1 << 60], data_offsets=[0, 0])), "no shape"),
        (raw_file(entry(shape=[2]), b"\0" * 4), "does not have 4 bytes"),
        (raw_file(entry(data_offsets=[4, 0]), b"\0" * 4), "does not have -4 bytes"),
        (raw_file(entry(data_offsets=[0]), b"\0" * 4), "no two sensible data_offsets"),
        (raw_file(entry(data_offsets=[4, 8]), b"\0" * 8), "leave a gap at x"),
        (raw_file({"x": ONE, "y": ONE}, b"\0" * 4), "overlap at y"),
        (
            raw_file(entry(), np.array([np.nan], "<f4").tobytes()),
            "tensor x holds NaN or infinity (element 0)",
        ),
        (raw_file(entry(), np.array([-np.inf], "<f4").tobytes()), "tensor x holds NaN or infinity"),
        (raw_file(entry(dtype="BF16", shape=[2]), b"\0\0\x80\x7f"), "holds NaN or infinity (element 1)"),
        (raw_file(entry(dtype="BOOL", shape=[4]), b"\1\0\2\0"), "neither 0 nor 1 (element 2)"),
        (pickle.dumps({"lora": [1.0]}), "this is a pickle"),
        (pickle.dumps({"lora": [1.0]}, protocol=2), "this is a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html>not found</html>", "this is text"),
        (b"<<<<<<< HEAD\nx\n=======\n", "this is text"),
    ],
)
def test_what_is_wrong_is_named(content: bytes, message: str) -> None:
    with pytest.raises(ForgeError) as raised:
        clean(content)
    assert raised.value.message.startswith("safetensors data: ")
    assert message in raised.value.message
    assert raised.value.hint
    assert "\x1b" not in raised.value.message


def test_a_zip_is_named_and_safetensors_advised() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(ForgeError, match=r"a\.bin: this is a zip archive") as raised:
        parse_header(file.getvalue(), "a.bin")
    assert "safetensors" in str(raised.value.hint)


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480])
def test_a_header_length_that_looks_like_a_pickle_is_taken(length: int) -> None:
    text = json.dumps({"__metadata__": {"k": "v"}}).encode()
    data = raw_file(text, pad=length - len(text))
    assert data[:1] == b"\x80"
    assert parse_header(data).metadata == {"k": "v"}


def test_limits_are_checked_before_anything_is_read() -> None:
    data = to_bytes({"a": np.zeros(4, "f4"), "b": np.zeros(4, "f4")})
    for limits, message in [
        (Limits(file=20), "more than the limit of 20"),
        (Limits(header=20), "at most 20 are read"),
        (Limits(tensors=1), "has 2 tensors"),
        (Limits(rank=0), "no shape of at most 0"),
    ]:
        with pytest.raises(ForgeError, match=message):
            parse_header(data, limits=limits)


def test_values_are_checked_beyond_the_first_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format_, "CHUNK", 8)
    values = np.ones(100, "f2")
    values[57] = np.inf
    with pytest.raises(ForgeError, match=r"tensor w holds NaN or infinity \(element 57\)"):
        to_bytes({"w": values})


def test_a_dtype_that_safetensors_has_not_is_refused() -> None:
    with pytest.raises(ForgeError, match="tensor z has dtype complex128"):
        to_bytes({"z": np.zeros(2, complex)})


def test_big_endian_and_strided_arrays_are_written_right() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4).T
    assert np.array_equal(safetensors.numpy.load(to_bytes({"x": array}))["x"], array)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_what_is_finite_and_what_is_not_by_all_their_bits(dtype: str) -> None:
    """Every value of 16 bits, and as many spread over the wider ones."""
    bits = np.arange(1 << 16, dtype="u8") << (8 * int(dtype[1]) - 16)
    values = (bits | np.arange(1 << 16, dtype="u8") % 3).astype(f"<u{dtype[1]}").view(f"<{dtype}")
    finite = np.isfinite(values)
    data = to_bytes({"w": values[finite]})
    check_finite(data, parse_header(data))
    for value in values[~finite][::97]:
        start = len(data) - values[finite].nbytes
        with pytest.raises(ForgeError, match=r"NaN or infinity \(element 5\)"):
            size = values.itemsize
            broken = data[: start + 5 * size] + value.tobytes() + data[start + 6 * size :]
            check_finite(broken, parse_header(broken))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize(
    ("values", "zero"),
    [([0, -0.0, 0], True), ([0, 1e-7, 0], False), ([-2.0, 0, 0], False), ([np.nextafter(0, 1, dtype="f4")], False)],
)
def test_what_is_zero(dtype: str, values: list[float], zero: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format_, "CHUNK", 8)
    array = np.array(values, dtype)
    data = to_bytes({"w": array})
    header = parse_header(data)
    assert is_zero(data, header, header.tensors[0]) == (zero or not array.any())


def test_what_a_sign_bit_alone_hides_is_no_zero() -> None:
    """A denormal whose only byte that is not 0 looks like the sign of -0."""
    array = np.array([0x80, 0], "<u4").view("<f4")
    data = to_bytes({"w": array})
    header = parse_header(data)
    assert not is_zero(data, header, header.tensors[0])


def test_whole_numbers_are_those_of_the_array() -> None:
    array = np.array([[0, -1, 2**62], [5, 6, -(2**63)]], "i8")
    data = to_bytes({"n": array, "w": np.ones(3, "f4")})
    header = parse_header(data)
    (tensor,) = (each for each in header.tensors if each.name == "n")
    assert list(whole_numbers(data, header, tensor)) == array.ravel().tolist()
