"""Looking for a data set below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from forge.errors import ForgeError

DEPTH = 6  # archives unpack into folders of their own, often twice the same: BreaKHis_v1/BreaKHis_v1/...


def find_folder(root: Path, parts: Sequence[str], *, dataset: str, layout: str) -> Path:
    """The folder nearest to `root`, itself or below, that has all these sub-folders; of equally near ones the first.

    Raises ForgeError that names what is missing, and says what layout is expected, where there is none.
    """
    incomplete = None
    for folder in folders_below(root, dataset=dataset, layout=layout):
        missing = [part for part in parts if not (folder / part).is_dir()]
        if not missing:
            return folder
        if len(missing) < len(parts):
            incomplete = incomplete or folder / missing[0]
    if incomplete is not None:
        raise ForgeError(f"{dataset} is not complete: no {incomplete}", hint=f"expected is {layout}")
    raise ForgeError(f"no {dataset} in {root} or below", hint=f"unpack the release there; expected is {layout}")


def folders_below(root: Path, *, dataset: str, layout: str) -> Iterator[Path]:
    """`root` and the folders below it as absolute paths, nearest first, without hidden ones."""
    if not root.is_dir():
        raise ForgeError(f"no such folder: {root}", hint=f"give the folder that {dataset} was unpacked in: {layout}")
    level = [root.absolute()]
    for _ in range(DEPTH + 1):
        yield from level
        level = [child for folder in level for child in _children(folder)]


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:  # not ours to read
        return []
    return [folder / name for name in names if not name.startswith(".") and name != "__MACOSX"]
