"""Files of strangers, mutated: an answer in words or a file that is what it must be; no traceback, no hang, no blow-up.

FORGE_TEST_FUZZ: how many files for each reader; tests/fuzz/by_hand.py looks for more, guided by coverage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz.targets import TARGETS, Target, packet, refuses_or_takes, signed
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.errors import ForgeError
from forge.recipe.card import read_card
from forge.recipe.settings import read_settings
from forge.recipe.toml_text import MAX_BYTES as MOST_TOML

COUNT = int(os.environ.get("FORGE_TEST_FUZZ", "30"))
MOST_PER_BYTE = 200  # bytes of memory for a byte of a file: Python's objects, or the stack of a regular expression
MOST_AT_ALL = 4 << 20  # bytes besides
LONGEST = 120  # seconds: a safety net against hours, not an expectation

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["a" * 40, "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn, target: Target) -> bytes:
    """One of the target's valid files after a few changes."""
    content = bytearray(draw(st.sampled_from(target.seeds)))
    tokens = st.sampled_from(target.tokens)
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 2, 4, 8, 16, 64])))
        how = draw(st.sampled_from(["token", "bytes", "again", "cut"]))
        if how == "token":
            content[start:end] = draw(tokens)
        elif how == "bytes":
            content[start:end] = draw(st.binary(max_size=8))
        elif how == "again":
            content[start:start] = content[start:end]
        else:
            del content[start:end]
    return bytes(content)


@st.composite
def reshaped(draw: st.DrawFn, document: Any) -> Any:
    """A JSON document with another value, another name or nothing in a few of its places."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        place = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if not isinstance(inner, dict | list) or not draw(st.booleans()):
                how = draw(st.sampled_from(["value", "value", "gone", "name", "again"]))
                if how == "value" or isinstance(place, list):
                    place[key] = draw(VALUES)
                elif how == "gone":
                    del place[key]
                else:
                    place[draw(st.text(max_size=4) | st.just("lung"))] = inner
                    if how == "name":
                        place.pop(key, None)
                break
            place = inner
    return document


@pytest.mark.parametrize("name", TARGETS)
def test_a_valid_file_is_taken(name: str) -> None:
    target = TARGETS[name]
    assert all(refuses_or_takes(target, seed) for seed in target.seeds)


@pytest.mark.parametrize("name", TARGETS)
def test_a_mutated_file_is_refused_in_words_or_right(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=COUNT)
    @given(mutated(target))
    def check(content: bytes) -> None:
        refuses_or_takes(target, content)

    check()


@pytest.mark.parametrize("name", ["forge item, signed", "adapter config"])
def test_a_reshaped_document_is_refused_in_words_or_right(name: str) -> None:
    """Valid JSON with other things in it; of an item, with the digest that belongs to it."""
    target = TARGETS[name]

    @settings(max_examples=2 * COUNT)
    @given(reshaped(json.loads(target.seeds[0])))
    def check(document: Any) -> None:
        refuses_or_takes(target, json.dumps(document).encode())

    check()


@settings(max_examples=COUNT)
@given(st.data())
def test_a_header_with_other_things_in_it(data: st.DataObject) -> None:
    for name in ("header", "canonical form", "adapter", "distilled"):
        seed = TARGETS[name].seeds[0]
        length = int.from_bytes(seed[:8], "little")
        text = json.dumps(data.draw(reshaped(json.loads(seed[8 : 8 + length])))).encode()
        refuses_or_takes(TARGETS[name], len(text).to_bytes(8, "little") + text + seed[8 + length :])


# -- files made to cost time or memory --------------------------------------------------------------------

SIZE = 1 << 18  # bytes, about


def with_header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def wide_item() -> bytes:
    """Three thousand contributions that all have coefficients for tasks of their own."""
    document = json.loads(TARGETS["forge item, signed"].seeds[0])
    entry = document["contributions"]["breast"]
    document["contributions"] = {f"n{number}": entry for number in range(3000)}
    document.pop("consolidation")
    return signed(document)


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a key of nothing but dots": ("card", lambda: b"a." * SIZE + b"a = 1"),
    "a table of nothing but dots": ("forge.toml", lambda: b"[" + b"a . " * (SIZE // 4) + b"a]"),
    "quoted parts": ("card", lambda: b"'a'.\"b\"." * (SIZE // 8) + b"a = 1"),
    "nearly too many parts": ("card", lambda: (b"a." * 31 + b" ") * (SIZE // 64)),
    "a word": ("card", lambda: b"a" * SIZE),
    "quotes": ("card", lambda: b'"' * SIZE),
    "spaces": ("card", lambda: (b"a" + b" " * 1000) * (SIZE // 1000)),
    "arrays in arrays": ("card", lambda: b"a = " + b"[" * SIZE),
    "tables in tables": ("card", lambda: b"a = " + b"{a=" * (SIZE // 2)),
    "many tables": ("card", lambda: b"".join(b"[a%d]\n" % number for number in range(40_000))),
    "a number of half a million digits": ("card", lambda: b"a = 0x" + b"f" * SIZE),
    "settings of many digits": ("forge.toml", lambda: b"[search]\nevaluations = 0x" + b"f" * 5000),
    "a float of many digits": ("forge.toml", lambda: b"[search]\nstart = " + b"9" * 400),
    "lists in lists": ("forge item", lambda: b"[" * SIZE),
    "objects in objects": ("forge item", lambda: b'{"a":' * (SIZE // 4)),
    "empty lists": ("forge item", lambda: b'{"format":1,"a":[' + b"[]," * (SIZE // 4) + b"[]]}"),
    "many contributions": ("forge item", wide_item),
    "a header of lists": ("header", lambda: with_header(b'{"a":[' + b"[]," * (SIZE // 4) + b"[]]}")),
    "a header of names": ("header", lambda: with_header(b"{" + b",".join(b'"%x":1' % n for n in range(60_000)) + b"}")),
    "deep header": ("canonical form", lambda: with_header(b'{"a":' * (SIZE // 4))),
    "a promise of an exabyte": ("canonical form", lambda: (1 << 60).to_bytes(8, "little") + b"{" * 100),
    "a tensor of an exabyte": (
        "canonical form",
        lambda: with_header(b'{"a":{"dtype":"U8","shape":[1073741824,1073741824],"data_offsets":[0,%d]}}' % (1 << 60)),
    ),
    "a config of lists": ("adapter config", lambda: b'{"peft_type":[' + b"[]," * (SIZE // 4) + b"[]]}"),
    "a long kind": ("adapter config", lambda: b'{"peft_type":"' + b"x" * SIZE + b'"}'),
    "a long key": ("adapter config", lambda: b'{"peft_type":"LORA","' + b"x" * SIZE + b'":1}'),
    "an open end": ("filter protocol", lambda: TARGETS["filter protocol"].seeds[0] + packet(b"x" * 60_000) * 20),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_is_bounded_by_the_size_of_the_file(bomb: str) -> None:
    name, make = BOMBS[bomb]
    content = make()
    assert name not in ("card", "forge.toml") or len(content) <= MOST_TOML  # else only the limit would be tested
    tracemalloc.start()
    try:
        refuses_or_takes(TARGETS[name], content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= MOST_PER_BYTE * len(content) + MOST_AT_ALL, f"{peak:,} bytes for a file of {len(content):,}"


def test_no_bomb_takes_for_ever() -> None:
    """In a process of its own, with a limit on its processor time and its memory."""
    script = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from faults.test_mutated_files import BOMBS
from fuzz.targets import TARGETS, refuses_or_takes
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2])))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 1 << 32
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), used + (256 << 20)))
for bomb, (name, make) in BOMBS.items():
    print(bomb, flush=True)
    refuses_or_takes(TARGETS[name], make())
"""
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tests), str(LONGEST)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-100:], done.stderr[-2000:])
    assert done.stdout.splitlines() == list(BOMBS)


@pytest.mark.parametrize(
    "number", ["0x" + "f" * 17, "9223372036854775808", "-9223372036854775809", "0b" + "1" * 20_000]
)
def test_a_whole_number_of_more_than_64_bits(number: str) -> None:
    text = TARGETS["card"].seeds[0].decode() + f"\n[more]\nvalues = [{{a = {number}}}]\n"
    with pytest.raises(ForgeError, match=r"^card\.toml: not valid TOML: a whole number of more than 64 bits$"):
        read_card(text)


def test_texts_with_many_dots_are_no_keys() -> None:
    labels = ["a.b." * 15 + "c", "one. two. three. " * 20, "...", "v1.2.3.4.5.6.7.8.9.10"]
    text = TARGETS["card"].seeds[0].decode()
    before, _, after = text.partition("labels = [")
    card = read_card(f"{before}labels = {json.dumps(labels)}{after.partition(']')[2]}")
    assert card.labels == tuple(labels)
    dotted = "search.evaluations = 7\n" + TARGETS["forge.toml"].seeds[0].decode().partition("[search]")[0]
    assert read_settings(dotted).search.evaluations == 7
