"""What the tree of a revision tells of its contributions besides the forge item: for tables that people read.

Nothing here decides anything, so what cannot be read is simply not known; `git forge verify` says why. However many
contributions there are, git is asked four times.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from forge.errors import ForgeError
from forge.formats.adapter import MAX_CONFIG, check_adapter_config
from forge.git.quiet import quiet
from forge.git.running import Repository, git, stream_blobs
from forge.recipe.card import read_card
from forge.recipe.layout import ADAPTER_FILE, CARD_FILE, CONFIG_FILE, CONTRIBUTIONS, DISTILLED_FILE, path_of
from forge.recipe.toml_text import MAX_BYTES


class Details(NamedTuple):
    """Of one contribution; None for what is not known. author: of the last commit that changed it. Sizes in bytes."""

    task: str | None = None
    labels: tuple[str, ...] = ()
    kind: str | None = None
    author: str | None = None
    adapter_bytes: int | None = None
    distilled_bytes: int | None = None


def find_details(repo: Repository, commit: str, names: Iterable[str]) -> dict[str, Details]:
    """The details of contributions in a commit, by name."""
    contributions = list(names)
    if not contributions:
        return {}
    files = _files(repo, commit)
    small = {
        (name, file): files[path_of(name, file)][0]
        for name in contributions
        for file in (CARD_FILE, CONFIG_FILE)
        if path_of(name, file) in files
    }
    contents = dict(stream_blobs(repo, list(dict.fromkeys(small.values())), max(MAX_BYTES, MAX_CONFIG)))
    authors = _last_authors(repo, commit, contributions)

    def content(name: str, file: str) -> bytes | None:
        data = contents.get(small.get((name, file), ""))
        return data if isinstance(data, bytes) else None

    def size(name: str, file: str) -> int | None:
        return files.get(path_of(name, file), ("", None))[1]

    return {
        name: Details(
            *_card(content(name, CARD_FILE)),
            kind=_kind(content(name, CONFIG_FILE)),
            author=authors.get(name),
            adapter_bytes=size(name, ADAPTER_FILE),
            distilled_bytes=size(name, DISTILLED_FILE),
        )
        for name in contributions
    }


def _card(text: bytes | None) -> tuple[str | None, tuple[str, ...]]:
    try:
        card = None if text is None else read_card(text)
    except ForgeError:
        card = None
    return (card.task, card.labels) if card else (None, ())


@lru_cache(maxsize=256)  # most contributions of a model have one config
def _kind(text: bytes | None) -> str | None:
    try:
        config = None if text is None else check_adapter_config(text, CONFIG_FILE)
    except ForgeError:
        config = None
    return f"{config.kind} r {config.rank}" if config else None


def _files(repo: Repository, commit: str) -> dict[str, tuple[str, int | None]]:
    """(blob, bytes) of every file below contributions/, by path."""
    listing = git(repo, "ls-tree", "-r", "-l", "-z", "--full-tree", commit, "--", CONTRIBUTIONS)
    files = {}
    for line in os.fsdecode(listing).split("\0"):
        head, _, path = line.partition("\t")
        if path:
            _, _, blob, size = head.split()
            files[path] = (blob, int(size) if size.isdigit() else None)
    return files


def _last_authors(repo: Repository, commit: str, names: Iterable[str]) -> dict[str, str]:
    """Who made the last change of each contribution up to a commit, as the commit itself names them."""
    listing = git(
        repo, *quiet("log"), "--format=%x01%an", "--name-only", "-z", commit, "--", f":(top,literal){CONTRIBUTIONS}"
    )
    missing, author = set(names), ""
    authors: dict[str, str] = {}
    for field in listing.decode("utf-8", "replace").split("\0"):
        if field.startswith("\x01"):
            author = field[1:].strip()
            continue
        name = field.lstrip("\n").removeprefix(f"{CONTRIBUTIONS}/").partition("/")[0]
        if name in missing:
            missing.discard(name)
            authors[name] = author
    return authors
