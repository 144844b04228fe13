"""A MedMNIST-style .npz: uint8 images and a whole number for each, never anything pickled."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forge.data.names import SPLITS
from forge.data.reasons import Reason, another_split
from forge.errors import ForgeError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Archive:
    """One split of an .npz, its labels read: classes are the numbers in order, targets [n] say which each image has."""

    path: Path
    prefix: str
    source: str
    classes: tuple[str, ...]
    targets: tuple[int, ...]
    others: Mapping[Reason, int]


def splits_in(path: Path) -> Mapping[str, str]:
    """The splits of an .npz; none where it cannot be read, which reading it will say."""
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {split: split for split in SPLITS if f"{split}_images" in arrays.files}
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):
        return {}


def open_archive(path: Path, split: str) -> Archive:
    """The labels of one split. Raises ForgeError naming the file for what is no such archive."""
    import numpy as np

    splits = splits_in(path)
    prefix = f"{split}_" if split in splits else ""
    names = _names(path)
    if not {f"{prefix}images", f"{prefix}labels"} <= names:
        raise ForgeError(
            f"{path} has no {split}_images and {split}_labels",
            hint=f"it holds: {', '.join(sorted(names)) or 'nothing'}",
        )
    labels = _array(path, f"{prefix}labels")
    source = f"{path}[{split}]"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ForgeError(
            f"{source}: labels are {labels.dtype} {labels.shape}, not one whole number per image",
            hint="number the classes from 0; several labels per image are not supported",
        )
    values, targets = np.unique(labels, return_inverse=True)
    others = {
        another_split(other): len(_array(path, f"{other}_labels"))
        for other in splits
        if prefix and other != split and f"{other}_labels" in names
    }
    return Archive(path, prefix, source, tuple(map(str, values)), tuple(targets.tolist()), others)


def read_arrays(archive: Archive) -> np.ndarray:
    """The images of a split, uint8 [n, h, w] or [n, h, w, 3]."""
    import numpy as np

    images = _array(archive.path, f"{archive.prefix}images")
    what = f"{archive.source}: images are {images.dtype} {images.shape}, not uint8 [n, h, w] or [n, h, w, 3]"
    if images.dtype != np.uint8:
        raise ForgeError(what, hint="scale the values to 0..255 and save them as uint8")
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]  # one channel is grey
    if images.ndim == 5:
        raise ForgeError(what, hint="3-d sets are not supported: save their slices")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3):
        raise ForgeError(what, hint="save one or three channels, the last dimension")
    if len(images) != len(archive.targets):
        raise ForgeError(
            f"{archive.source}: {len(archive.targets)} labels for {len(images)} images, not one whole number per image",
            hint="check what wrote it",
        )
    if images.size == 0:
        raise ForgeError(f"{archive.source} is empty", hint="check what wrote it")
    return images


def _names(path: Path) -> set[str]:
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return set(arrays.files)
    except Exception as error:
        raise _unreadable(path) from error


def _array(path: Path, name: str) -> np.ndarray:
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            array = arrays[name]
    except Exception as error:  # a zip, a header and a compressed stream can be broken in many ways
        raise _unreadable(path, name) from error
    if not isinstance(array, np.ndarray):
        raise ForgeError(f"{path}: {name} is no array", hint="save it with np.savez")
    return array


def _unreadable(path: Path, name: str = "") -> ForgeError:
    """Without numpy's own words, which advise to load what is not safe."""
    what = f"{path}: {name} cannot" if name else f"{path} cannot"
    return ForgeError(
        f"{what} be read as an .npz of plain arrays",
        hint="save it with np.savez: uint8 images and whole-number labels; if it was downloaded, fetch it again",
    )
