"""A simulated consortium: a model repository of many contributions and versions, made by `git fast-import` in seconds.

Every commit adds one contribution and the forge item of a version that holds all so far, with scores of its tasks and
own scores of each, as a merge would record them. Payloads are valid and small, each another one. The figures in the
items are made up; everything else verifies (`git forge verify --no-scores`).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from forge.formats.safetensors import to_bytes
from forge.recipe.card import Card
from forge.recipe.card import to_toml as card_to_toml
from forge.recipe.item import Base, Entry, ForgeItem, OwnScore, Search, TaskScore
from forge.recipe.item_text import to_json
from forge.recipe.layout import (
    ADAPTER_FILE,
    ATTRIBUTES_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DISTILLED_FILE,
    ITEM_FILE,
    SETTINGS_FILE,
    path_of,
)
from forge.recipe.settings import Settings
from forge.recipe.settings import to_toml as settings_to_toml
from forge.repo.storage import attribute_lines

BASE = Base("embedded", "sha256:" + "0" * 64)
TASKS = 40  # of all contributions, that share them
IMAGES = 4  # in each distilled dataset
MODULES = tuple(f"trunk.layer.{layer}.{module}" for layer in range(4) for module in ("q_proj", "v_proj"))
START = 1_767_225_600  # seconds since 1970, of the first commit; one an hour follows

_CONFIG = json.dumps(
    {"peft_type": "LORA", "r": 2, "lora_alpha": 16, "bias": "none", "target_modules": ["q_proj", "v_proj"]}
).encode()
_SEARCH = Search(
    method="joint", per="module", objective="distillation", pull=0.0, optimizer="Shiwa", seed=0, evaluations=40,
    start=0.5, bounds=1.5, l1=0.05, scales={}, objective_before=0.4, objective_after=0.3,
)  # fmt: skip


def make_consortium(top: Path, contributions: int, versions: int = 0) -> None:
    """Make a model repository in the new folder `top`, checked out, with a version for each contribution that joins.

    versions: how many there are to be at least; those beyond weigh everybody anew.
    """
    top.mkdir(parents=True)
    _git(top, "init", "--quiet", "--initial-branch=main")
    importing = subprocess.Popen(
        ["git", "fast-import", "--quiet", "--date-format=raw"], cwd=top, stdin=subprocess.PIPE, env=_environment()
    )
    assert importing.stdin is not None
    with importing.stdin as stream:
        for piece in _history(contributions, max(versions, contributions)):
            stream.write(piece)
    if importing.wait() != 0:
        raise RuntimeError("git fast-import failed")
    _git(top, "reset", "--quiet", "--hard", "main")
    _git(top, "repack", "-adq")  # as a server or a gc would have it: deltas between all items


def _history(contributions: int, versions: int) -> Iterator[bytes]:
    """What fast-import reads: payloads first, then the items one after the other (deltas are short), then commits."""
    names = [f"site-{number:05}" for number in range(contributions)]
    files = [_files(name, number) for number, name in enumerate(names)]
    blobs = [blob for each in files for blob in each.values()]
    marks = {content: number for number, content in enumerate(dict.fromkeys(blobs), 1)}
    for content, mark in marks.items():
        yield b"blob\nmark :%d\n" % mark + _data(content)
    first_item = len(marks) + 1
    entries = [
        Entry(name, blob_id(own[ADAPTER_FILE]), blob_id(own[CONFIG_FILE]), blob_id(own[DISTILLED_FILE]), 0.5)
        for name, own in zip(names, files, strict=True)
    ]
    for count in range(versions + 1):
        yield b"blob\nmark :%d\n" % (first_item + count) + _data(to_json(_item(entries[:count], count)).encode())
    for count in range(versions + 1):
        yield _commit(
            count, "new coefficients" if count > contributions else names[count - 1] if count else "the model"
        )
        yield b"M 100644 :%d %s\n" % (first_item + count, ITEM_FILE.encode())
        if count == 0:
            for path, text in (
                (SETTINGS_FILE, settings_to_toml(Settings(BASE))),
                (ATTRIBUTES_FILE, "".join(f"{line}\n" for line in attribute_lines())),
            ):
                yield b"M 100644 inline %s\n" % path.encode() + _data(text.encode())
        elif count <= contributions:
            for file, content in files[count - 1].items():
                yield b"M 100644 :%d %s\n" % (marks[content], path_of(names[count - 1], file).encode())


def _files(name: str, number: int) -> dict[str, bytes]:
    """The files of a contribution: modules of 4 -> 3 features, and images of 4 x 5 pixels."""
    task = f"task {number % TASKS:02}"
    labels = (f"no finding in {task}", f"finding in {task}")
    factors: dict[str, np.ndarray] = {}
    for module in MODULES:
        factors[f"base_model.model.{module}.lora_A.weight"] = np.full((2, 4), number + 1, np.float32)
        factors[f"base_model.model.{module}.lora_B.weight"] = np.full((3, 2), 0.01, np.float32)
    images = np.zeros((IMAGES, 3, 4, 5), np.uint8)
    images.reshape(-1)[:8] = np.frombuffer(number.to_bytes(8, "big"), np.uint8)
    distilled: dict[str, np.ndarray] = {
        "images": images,
        "labels": np.arange(IMAGES, dtype=np.int64) % len(labels),
        "offset": np.zeros(3, np.float32),
        "scale": np.full(3, 1 / 255, np.float32),
    }
    metadata = {"task": task, "labels": json.dumps(labels), "method": "dm"}
    return {
        CONFIG_FILE: _CONFIG,
        ADAPTER_FILE: to_bytes(factors),
        DISTILLED_FILE: to_bytes(distilled, metadata),
        CARD_FILE: card_to_toml(Card(task, labels, BASE, data={"images": 100 + number})).encode(),
    }


def _item(entries: list[Entry], version: int) -> ForgeItem:
    """A forge item with figures that every version has otherwise, as every merge weighs all contributions anew."""
    count = len(entries)
    if not count:
        return ForgeItem(BASE, "mixture")

    def share(number: int) -> float:
        return round(0.5 + ((number * 7919 + version * 104_729) % 500_000) / 1e6, 6)

    tasks = sorted({number % TASKS for number in range(count)})
    return ForgeItem(
        BASE,
        "mixture",
        tuple(
            replace(each, coefficient={module: share(number + i) / 2 for i, module in enumerate(MODULES)})
            for number, each in enumerate(entries)
        ),
        _SEARCH,
        tuple(
            TaskScore(
                f"task {task:02}", (f"no finding in task {task:02}", f"finding in task {task:02}"),
                IMAGES, share(task), share(task + 1), share(task + 2), share(task + 3),
            )
            for task in tasks
        ),
        own_scores=tuple(
            OwnScore(each.name, IMAGES, share(number), share(number + 1), share(number + 2), share(number + 3))
            for number, each in enumerate(entries)
        ),
    )  # fmt: skip


def _commit(count: int, what: str) -> bytes:
    who = b"Ada <ada@example.org> %d +0000\n" % (START + 3600 * count)
    message = _data(f"Add {what}\n".encode())
    return b"commit refs/heads/main\nauthor " + who + b"committer " + who + message


def _data(content: bytes) -> bytes:
    return b"data %d\n" % len(content) + content + b"\n"


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _git(top: Path, *args: str) -> None:
    subprocess.run(["git", *args], cwd=top, env=_environment(), check=True)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
