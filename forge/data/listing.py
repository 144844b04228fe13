"""Which pictures a data set has, and their classes: a folder, a table (.csv, .tsv) or a MedMNIST-style .npz."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forge.data import archive, table
from forge.data.names import SPLITS, sorted_classes, split_called
from forge.data.reasons import Reason, another_split
from forge.data.walk import WAY_OUT, Walked, count_files, settle, sub_folders, together, walk
from forge.errors import ForgeError

KINDS = "a folder with one sub-folder a class, a .csv or .tsv with the columns path and label, or an .npz"


@dataclass(frozen=True)
class ReadOptions:
    """How a person wants data to be read.

    skip_unreadable: what cannot be read is left out and counted. grey: (low, high), the pixel values that become black
    and white in pictures of more than 8 bits. unsettled: why nobody can say which they are. group_by: the regular
    expression that finds the patient in a file's name, where no table says who it is.
    """

    skip_unreadable: bool = False
    grey: tuple[float, float] | None = None
    unsettled: str | None = None
    group_by: str | None = None


@dataclass(frozen=True)
class Listing:
    """Pictures of one split before any is read: `files`, or the arrays of an .npz, where `files` is empty.

    targets: [n] numbers into `classes`. patients: [n] whose pictures they are, None where nobody says. left_out: why
    how many files are not among them.
    """

    source: str
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    targets: tuple[int, ...]
    patients: tuple[str, ...] | None = None
    left_out: Mapping[Reason, int] = field(default_factory=dict)
    archive: archive.Archive | None = None


def list_images(data: Path, split: str = "train", options: ReadOptions | None = None) -> Listing:
    """List labelled images without reading a pixel.

    A folder holds one sub-folder a class, or folders for train, val and test that do; a table has the columns path and
    label, and may have patient and split; an .npz holds `<split>_images` and `<split>_labels` (MedMNIST), or `images`
    and `labels`. Raises ForgeError naming the files for anything missing, empty or unexplained.
    """
    options = options or ReadOptions()
    if not data.exists():
        raise ForgeError(f"no such data: {data}", hint=f"give {KINDS}")
    if data.is_dir():
        return _list_folder(data, split, options)
    if data.suffix.lower() == ".npz":
        if options.group_by is not None:
            raise ForgeError(
                f"{data} has no file names for --group-by", hint="list the images in a .csv with a patient column"
            )
        npz = archive.open_archive(data, split)
        return Listing(npz.source, npz.classes, (), npz.targets, left_out=npz.others, archive=npz)
    if data.suffix.lower() in table.SUFFIXES:
        return _list_table(data, split, options)
    raise ForgeError(f"{data} is neither a folder nor an .npz, .csv or .tsv", hint=f"give {KINDS}")


def has_split(data: Path, split: str) -> bool:
    """Whether the data set brings that split of its own (MedMNIST's val, say)."""
    if data.is_dir():
        return split in _splits_in(sub_folders(data)[0])
    if data.suffix.lower() == ".npz":
        return split in archive.splits_in(data)
    return data.suffix.lower() in table.SUFFIXES and any(row.split == split for row in table.read_table(data))


def list_pictures(place: Path, options: ReadOptions) -> tuple[list[Path], Mapping[Reason, int]]:
    """(pictures, why how many files are none) of a picture, a folder of pictures, or a table with a column path."""
    if place.is_dir():
        contents = walk(place)
        if not contents.pictures and not contents.unexplained:
            raise ForgeError(f"{place} holds no images", hint="name pictures, a folder of pictures, or a .csv of paths")
        return list(contents.pictures), settle(contents, str(place), options.skip_unreadable)
    if not place.exists():
        raise ForgeError(f"no such image: {place}", hint="check the path")
    if place.suffix.lower() not in table.SUFFIXES:
        return [place], {}
    rows = table.read_table(place, labelled=False)
    contents = _looked_up([row.path for row in rows])
    return list(contents.pictures), settle(contents, str(place), options.skip_unreadable)


def pictures_below(folder: Path) -> list[Path]:
    """All pictures in a folder and its sub-folders, sorted; nothing else may lie there unexplained."""
    contents = _class_pictures(folder, ReadOptions())
    settle(contents, str(folder), skip=False)
    return list(contents.pictures)


def patient_finder(pattern: str) -> re.Pattern[str]:
    """The compiled --group-by. Raises ForgeError where it is no regular expression."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ForgeError(
            f"--group-by {pattern!r} is no regular expression: {error}", hint=r"such as '^(P\d+)_'"
        ) from error


def _list_folder(data: Path, split: str, options: ReadOptions) -> Listing:
    folders, beside = sub_folders(data)
    splits = _splits_in(folders)
    left_out: Counter[Reason] = Counter()
    top = data
    if splits:
        beside = _beside_splits(folders, beside, splits)
        left_out.update(settle(beside, str(data), options.skip_unreadable))
        if split not in splits:  # they are splits, not classes
            raise ForgeError(
                f"{data} has {', '.join(splits.values())}, but no {split}",
                hint=f"add {data / split}, or name the folder that holds the classes",
            )
        top = data / splits[split]
        left_out.update({another_split(name): count_files(data / name) for name in splits.values()})
        del left_out[another_split(splits[split])]
        folders, beside = sub_folders(top)
    if not folders:
        raise ForgeError(f"{top} has no sub-folders", hint="put the images of each class in a folder of its own")
    classes = sorted_classes(folder.name for folder in folders)
    each = [_class_pictures(top / name, options) for name in classes]
    whole = together([*each, beside])
    left_out.update(settle(whole, str(top), options.skip_unreadable))
    for name, walked in zip(classes, each, strict=True):
        if not walked.pictures:
            raise _empty(top / name)
    targets = tuple(target for target, walked in enumerate(each) for _ in walked.pictures)
    return Listing(str(top), tuple(classes), whole.pictures, targets, _patients(whole.pictures, options), +left_out)


def _class_pictures(folder: Path, options: ReadOptions) -> Walked:
    walked = walk(folder)
    if not walked.pictures and not walked.unexplained:
        raise _empty(folder)
    inside = _splits_in(sub_folders(folder)[0])
    if inside:
        raise ForgeError(
            f"{folder} holds the splits {', '.join(inside.values())}: they would be taken for one",
            hint="put the splits outside and the classes inside, or list the images in a .csv with a column split",
        )
    return walked


def _empty(folder: Path) -> ForgeError:
    return ForgeError(f"{folder} holds no images", hint="add images, or keep the empty class elsewhere")


def _splits_in(folders: Sequence[Path]) -> Mapping[str, str]:
    """The split folders among these by split; none where they are classes, one of which may be called "valid"."""
    called = [(split_called(folder.name), folder.name) for folder in folders]
    pairs = [(split, name) for split, name in called if split is not None]
    exact = any(name in SPLITS for _, name in pairs)
    if not pairs or not (exact or len(pairs) == len(folders) or any(split == "train" for split, _ in pairs)):
        return {}
    splits: dict[str, str] = {}
    for split, name in pairs:
        if split in splits:
            raise ForgeError(
                f"{folders[0].parent} has two folders for {split}: {splits[split]} and {name}",
                hint="put them together, or name the folder that holds the classes",
            )
        splits[split] = name
    return {split: splits[split] for split in SPLITS if split in splits}


def _beside_splits(folders: Sequence[Path], beside: Walked, splits: Mapping[str, str]) -> Walked:
    reason = Reason(f"lies beside {', '.join(splits.values())}", "beside the splits")
    others = {folder: reason for folder in folders if folder.name not in splits.values()}
    return Walked((), beside.left_out, {**beside.unexplained, **others})


def _patients(files: Sequence[Path], options: ReadOptions) -> tuple[str, ...] | None:
    if options.group_by is None:
        return None
    pattern = patient_finder(options.group_by)
    matches = [pattern.search(path.name) for path in files]
    without = [str(path) for path, match in zip(files, matches, strict=True) if match is None]
    if without:
        raise ForgeError(
            f"--group-by {options.group_by!r} finds no patient in {len(without)} of {len(files)} names: "
            + ", ".join(without[:3]),
            hint="the first group of the expression, or all that it matches, is the patient",
        )
    return tuple((match[1] or "") if pattern.groups else match[0] for match in matches if match is not None)


def _list_table(data: Path, split: str, options: ReadOptions) -> Listing:
    rows = table.read_table(data)
    splits = {name: name for name in SPLITS if any(row.split == name for row in rows)}
    left_out: Counter[Reason] = Counter()
    if splits:
        if split not in splits:
            raise ForgeError(f"{data} has {', '.join(splits)}, but no {split}", hint="check the column split")
        table.check_patients(rows, data)
        left_out.update(another_split(row.split or "none") for row in rows if row.split != split)
        rows = [row for row in rows if row.split == split]
    contents = _looked_up([row.path for row in rows])
    left_out.update(settle(contents, str(data), options.skip_unreadable))
    there = set(contents.pictures)
    rows = [row for row in rows if row.path in there]
    if not rows:
        raise ForgeError(f"{data} names no image that can be read", hint=WAY_OUT)
    classes = sorted_classes({row.label for row in rows})
    files = tuple(row.path for row in rows)
    patients = tuple(row.patient for row in rows)
    named = tuple(patient for patient in patients if patient is not None)
    return Listing(
        str(data), tuple(classes), files, tuple(classes.index(row.label) for row in rows),
        named if named else _patients(files, options), +left_out,
    )  # fmt: skip


def _looked_up(paths: Sequence[Path]) -> Walked:
    missing = {path: Reason("is not there") for path in paths if not path.is_file()}
    return Walked(tuple(path for path in paths if path not in missing), {}, missing)
