"""What reads files of strangers: for each, valid files to start from, and a check that no file may break.

A check takes any bytes. ForgeError is an answer; any other exception, or an assertion of what must hold for a file
that was taken, is a bug. Both the tests and the fuzzer run by hand (by_hand.py) call these.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from forge.clone.filter_process import LARGEST_PACKET, serve
from forge.commands.model_json import item_as_json
from forge.errors import ForgeError
from forge.formats import adapter as adapter_format
from forge.formats import distilled as distilled_format
from forge.formats import safetensors as safetensors_format
from forge.formats.safetensors import Limits
from forge.formats.summary import summarise_item, summarise_safetensors
from forge.recipe import canonical_json, settings, three_way
from forge.recipe import item as recipe
from forge.recipe.card import Card, read_card
from forge.recipe.card import to_toml as card_text
from forge.recipe.item import Base, Entry, ForgeItem
from forge.recipe.item_text import from_json, to_json
from forge.recipe.layout import contribution_files, path_of
from forge.recipe.settings import LimitSettings, Settings, read_settings
from forge.repo.trailers import trailer_lines
from forge.repo.versions import changes

SOURCE = "this file"
LABELS = ("benign tissue", "bösartiger Tumor")
LONGEST_MESSAGE = 2000  # characters: what people are told fits on a screen, whatever the file holds

Check = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """seeds: valid files. check: raises ForgeError, or nothing. tokens: pieces that mutations put in."""

    seeds: tuple[bytes, ...]
    check: Check
    tokens: tuple[bytes, ...] = ()


def refuses_or_takes(target: Target, content: bytes) -> bool:
    """Whether the target takes `content`; any exception but a ForgeError that people can read is passed on."""
    try:
        target.check(content)
    except ForgeError as error:
        assert error.message, "an error without words"
        for text in (error.message, error.hint or ""):
            assert len(text) < LONGEST_MESSAGE, f"{len(text)} characters"
            assert not any(character in text for character in "\x1b\r\x07\u202e"), repr(text)
        return False
    return True


# -- valid files ------------------------------------------------------------------------------------------


def _adapter(dora: bool = False) -> bytes:
    key = "base_model.model.trunk.layer.0.q_proj"
    tensors = {
        f"{key}.lora_A.weight": np.arange(8, dtype=np.float32).reshape(2, 4),
        f"{key}.lora_B.weight": np.ones((3, 2), np.float32),
    }
    if dora:
        tensors[f"{key}.lora_magnitude_vector"] = np.ones(3, np.float32)
    return safetensors_format.to_bytes(tensors, {"format": "pt"})


def _distilled() -> bytes:
    tensors = {
        "images": np.zeros((4, 3, 2, 2), np.uint8),
        "labels": np.array([0, 1, 0, 1]),
        "offset": np.zeros(3, np.float32),
        "scale": np.ones(3, np.float32),
    }
    return safetensors_format.to_bytes(tensors, {"task": "breast", "labels": json.dumps(LABELS), "method": "dm"})


def _config(**more: object) -> bytes:
    return json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 16, "bias": "none", **more}).encode()


BASE = Base("embedded", "sha256:" + "0" * 64)


def sample_item() -> ForgeItem:
    """An item with all that an item can have."""
    modules = {"trunk.q": 0.25, "trunk.v": 1.5}
    entries = [
        Entry(name, *(digit * 40 for digit in digits), modules, {"breast": modules, "lung": 0.5})
        for name, digits in (("breast", "abc"), ("lung", "def"))
    ]
    search = recipe.Search(
        "joint", "module", "distillation", 0.003, "Shiwa", 0, 40, 0.5, 1.5, 0.05, {"ours": 0.5}, None, 0.25
    )
    scores = [recipe.TaskScore(task, LABELS, 4, 0.75, 0.5, 0.5, 1.0) for task in ("breast", "lung")]
    residual = recipe.Consolidation("1" * 40, "2" * 40, 40, 0.001, 0, 0.5, 0.25)
    return ForgeItem(BASE, "mixture", tuple(entries), search, tuple(scores), residual)


def sample_card() -> Card:
    return Card(
        "breast",
        LABELS,
        BASE,
        training={"seed": 0, "validation_share": 0.2, "optimizer": "adamw"},
        distillation={"method": "dm", "steps": 400},
        metrics={"validation_accuracy": 0.9, "by_class": {"benign": 0.8}},
        privacy={"epsilon": 8.0, "delta": 1e-5, "accountant": "opacus"},
        other={"site": {"name": "St. Elsewhere"}},
    )


def packet(content: bytes) -> bytes:
    return b"%04x" % (len(content) + 4) + content


def conversation() -> bytes:
    """What git says to a filter process: hello, one file to clean, one to smudge."""
    text = packet(b"git-filter-client\n") + packet(b"version=2\n") + b"0000"
    text += packet(b"capability=clean\n") + packet(b"capability=smudge\n") + b"0000"
    for verb, path, content in (("clean", "a.safetensors", _adapter()), ("smudge", "b", b"text")):
        text += packet(f"command={verb}\n".encode()) + packet(f"pathname={path}\n".encode()) + b"0000"
        text += packet(content) + b"0000"
    return text


# -- what must hold ---------------------------------------------------------------------------------------


def check_header(content: bytes) -> None:
    header = safetensors_format.parse_header(content, SOURCE)
    assert header.data_start + sum(each.end - each.begin for each in header.tensors) == len(content)
    assert summarise_safetensors(io.BytesIO(content), header)


def check_canonical(content: bytes) -> None:
    clean = b"".join(safetensors_format.canonicalise(content, SOURCE))
    assert b"".join(safetensors_format.canonicalise(clean, SOURCE)) == clean
    assert len(clean) <= 2 * len(content) + 4096
    arrays, metadata = safetensors_format.load_numpy(content, SOURCE)
    again, metadata_again = safetensors_format.load_numpy(clean, SOURCE)
    assert metadata == metadata_again and arrays.keys() == again.keys()
    assert all(arrays[name].tobytes() == again[name].tobytes() for name in arrays)


def check_adapter(content: bytes) -> None:
    for config in (
        adapter_format.AdapterConfig(2, 16.0, False),
        adapter_format.AdapterConfig(2, 16.0, True, dora=True),
    ):
        try:
            view = adapter_format.check_adapter(content, config, SOURCE)
        except ForgeError:
            if config.dora:
                raise
        else:
            assert view.parameters > 0
            return


def check_distilled(content: bytes) -> None:
    view = distilled_format.check_distilled(content, SOURCE)
    assert sum(view.per_class) == view.images and len(view.per_class) == len(view.labels) >= 2


def check_config(content: bytes) -> None:
    config = adapter_format.check_adapter_config(content, SOURCE)
    assert 1 <= config.rank <= adapter_format.MAX_RANK and abs(config.alpha) < 1e9


def check_card(content: bytes) -> None:
    card = read_card(content, SOURCE)
    assert read_card(card_text(card), SOURCE).labels == card.labels
    assert replace(card).task == card.task


def check_settings(content: bytes) -> None:
    found = read_settings(content, SOURCE)
    assert read_settings(settings.to_toml(found), SOURCE) == found


def check_item(content: bytes) -> None:
    item = from_json(content, SOURCE)
    assert to_json(item) == content.decode() or from_json(to_json(item)) == item
    check_uses_of_item(item)


def check_uses_of_item(item: ForgeItem) -> None:
    """Everything that commands do with an item before they look at a payload."""
    for name in item.names:
        for file in contribution_files():
            path = PurePosixPath(path_of(name, file))
            assert len(path.parts) == 3 and path.parts[0] == "contributions" and ".." not in path.parts
    assert json.dumps(item_as_json(item), allow_nan=False)
    assert "\x1b" not in summarise_item(item)
    other = sample_item()
    assert not any("\n" in line or "\x1b" in line for line in trailer_lines(item, other))
    assert changes(other, item) is not None
    for ancestor, ours, theirs in ((None, other, item), (other, item, other), (item, other, other)):
        for merge in (three_way.plan_merge, three_way.union):
            try:
                merge(ancestor, ours, theirs)
            except ForgeError as error:
                assert len(error.message) < LONGEST_MESSAGE


def signed(document: Mapping[str, object]) -> bytes:
    """A document as a forge item with the digest that belongs to it: what a stranger can make of anything."""
    text = canonical_json.canonical(document).removeprefix("{\n")
    return f'{{\n  "digest": "{canonical_json.digest_of(document)}",\n{text}'.encode("utf-8", "surrogatepass")


def check_signed_item(content: bytes) -> None:
    """As check_item, for the JSON of an item whose digest is made to fit."""
    try:
        document = json.loads(content)
        text = signed(document) if isinstance(document, dict) else content
    except (ValueError, RecursionError, TypeError):
        return
    check_item(text)


def check_conversation(content: bytes) -> None:
    replies, errors = io.BytesIO(), io.StringIO()
    try:
        serve(io.BytesIO(content), replies, errors, lambda: Limits(file=1 << 20))
    finally:
        stream = replies.getvalue()
        assert len(stream) <= 2 * len(content) + 4096
        while stream:  # whole packets only
            length = int(stream[:4], 16)
            assert length == 0 or 4 < length <= LARGEST_PACKET + 4
            assert len(stream) >= length
            stream = stream[max(length, 4) :]
        assert "Traceback" not in errors.getvalue() and "this is a bug" not in errors.getvalue()


_JSON = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"null", b"true", b"-1", b"0", b"1.5", b"1e999", b"NaN", b"1" * 400,
    b"[" * 50, b'"a":', b'{"a":1}', b"18446744073709551616", b'"__metadata__":', b"\\ud800", b"\\u0000", b"\xff",
)  # fmt: skip
_TOML = (
    b"[", b"]", b"=", b'"', b"'", b"\n", b"{", b"}", b",", b'"""', b"[task]\n", b"[[x]]\n", b"a = 1\n", b"a." * 40,
    b"true", b"-1", b"1979-05-27", b"nan", b"inf", b"1e400", b"9" * 400, b"0x" + b"f" * 40, b"\x00", b"\xff",
)  # fmt: skip
_PACKETS = (
    b"0000", b"0001", b"0004", b"0005", b"ffff", b"zzzz", b"command=clean\n", b"command=smudge\n",
    b"pathname=../x\n",
)  # fmt: skip

_ITEM = to_json(sample_item()).encode()
_DOCUMENT = {key: value for key, value in json.loads(_ITEM).items() if key != "digest"}

TARGETS = {
    "header": Target((_adapter(), _distilled()), check_header, _JSON),
    "canonical form": Target((_adapter(True), _distilled()), check_canonical, _JSON),
    "adapter": Target((_adapter(), _adapter(True)), check_adapter, _JSON),
    "distilled": Target((_distilled(),), check_distilled, _JSON),
    "adapter config": Target((_config(), _config(use_dora=True, use_rslora=True)), check_config, _JSON),
    "card": Target((card_text(sample_card()).encode(),), check_card, _TOML),
    "forge.toml": Target((settings.to_toml(Settings(BASE, limits=LimitSettings())).encode(),), check_settings, _TOML),
    "forge item": Target((_ITEM,), check_item, _JSON),
    "forge item, signed": Target((json.dumps(_DOCUMENT).encode(),), check_signed_item, _JSON),
    "filter protocol": Target((conversation(),), check_conversation, _PACKETS),
}
