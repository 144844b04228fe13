"""What lies in a folder: every entry is a picture, something known that is none, or something that nobody explains."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forge.data import names
from forge.data.reasons import Reason
from forge.errors import ForgeError

SHOWN = 5  # names in a message; the rest is counted
WAY_OUT = "convert them or keep them elsewhere; --skip-unreadable leaves them out and counts them"


@dataclass(frozen=True)
class Walked:
    """pictures: sorted. left_out: why how many files are none. unexplained: files by name, with what is wrong."""

    pictures: tuple[Path, ...] = ()
    left_out: Mapping[Reason, int] = field(default_factory=dict)
    unexplained: Mapping[Path, Reason] = field(default_factory=dict)


def walk(folder: Path) -> Walked:
    """All that lies in a folder and its sub-folders. Links are followed; a circle of them is unexplained."""
    pictures: list[Path] = []
    left_out: Counter[Reason] = Counter()
    unexplained: dict[Path, Reason] = {}
    _walk(folder, (), pictures, left_out, unexplained)
    return Walked(tuple(sorted(pictures)), left_out, unexplained)


def sub_folders(folder: Path) -> tuple[list[Path], Walked]:
    """The folders right in a folder, unsorted and without junk, and what else lies beside them."""
    folders: list[Path] = []
    pictures: list[Path] = []
    left_out: Counter[Reason] = Counter()
    unexplained: dict[Path, Reason] = {}
    for entry in _entries(folder):
        path = folder / entry.name
        if entry.is_dir() and not names.is_junk_folder(entry.name):
            folders.append(path)
        else:
            _sort_in(path, entry, (), pictures, left_out, unexplained)
    unexplained |= dict.fromkeys(pictures, Reason("lies beside the classes, in none of them"))
    return folders, Walked((), left_out, unexplained)


def count_files(folder: Path) -> int:
    """How many files lie in a folder and below it."""
    return sum(len(files) for _, _, files in os.walk(folder))


def together(parts: Sequence[Walked]) -> Walked:
    """Several walks as one, pictures in the order of the parts."""
    left_out: Counter[Reason] = Counter()
    unexplained: dict[Path, Reason] = {}
    for part in parts:
        left_out.update(part.left_out)
        unexplained |= part.unexplained
    return Walked(tuple(picture for part in parts for picture in part.pictures), left_out, unexplained)


def settle(contents: Walked, source: str, skip: bool) -> Mapping[Reason, int]:
    """Why files are left out, and how many each. What is unexplained is an error, unless it may be skipped."""
    if not contents.unexplained:
        return contents.left_out
    if skip:
        return Counter(contents.left_out) + Counter(contents.unexplained.values())
    shown = [f"{path} ({reason})" for path, reason in sorted(contents.unexplained.items())[:SHOWN]]
    more = len(contents.unexplained) - len(shown)
    files = "1 file" if len(contents.unexplained) == 1 else f"{len(contents.unexplained)} files"
    raise ForgeError(
        f"{source}: {files} cannot be read as images: {', '.join(shown)}" + (f" and {more} more" if more else ""),
        hint=WAY_OUT,
    )


def _walk(
    folder: Path,
    above: tuple[tuple[int, int], ...],
    pictures: list[Path],
    left_out: Counter[Reason],
    unexplained: dict[Path, Reason],
) -> None:
    there = folder.stat()
    here = (there.st_dev, there.st_ino)
    if here in above:
        unexplained[folder] = Reason("a link to a folder around it")
        return
    for entry in _entries(folder):
        _sort_in(folder / entry.name, entry, (*above, here), pictures, left_out, unexplained)


def _sort_in(
    path: Path,
    entry: os.DirEntry[str],
    above: tuple[tuple[int, int], ...],
    pictures: list[Path],
    left_out: Counter[Reason],
    unexplained: dict[Path, Reason],
) -> None:
    name = entry.name
    suffix = path.suffix.lower()
    if entry.is_dir():
        if names.is_junk_folder(name):
            files = count_files(path)
            if files:
                left_out[Reason(f"in {name}", "in folders of programs")] += files
        else:
            _walk(path, above, pictures, left_out, unexplained)
    elif name.startswith(".") or name.casefold() in names.JUNK_FILES:
        left_out[Reason("hidden or system files")] += 1
    elif not entry.is_file():
        unexplained[path] = Reason("a link to nothing" if entry.is_symlink() else "no plain file")
    elif suffix in names.PICTURES or suffix in names.DICOM or _is_dicom(path):
        pictures.append(path)
    elif suffix in names.DOCUMENTS or path.stem.casefold() in names.DOCUMENT_NAMES:
        left_out[Reason("documents")] += 1
    else:
        what = suffix or "a file without a suffix"
        unexplained[path] = Reason(f"{what} is no known image format", "no known image format")


def _is_dicom(path: Path) -> bool:
    """Whether a file says so itself: archives hand DICOM out under numbers, without a suffix."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ForgeError(f"{folder} cannot be read: {error.strerror}", hint="check its rights and its mount") from error
