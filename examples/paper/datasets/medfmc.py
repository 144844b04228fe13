"""MedFMC (Wang et al., 2023), its colon part (ColonPath): 1024 x 1024 patches, with tumour or without.

Three releases are known, which name the same images in different ways; the first that is there is taken:

    MedFMC/colon/{images/, trainval.txt, train_20.txt, val_20.txt, test_WithLabel.txt}     github.com/openmedlab/MedFM
    ColonPath/{images/, fewshot-pool.txt, test.txt}                  github.com/wllfore/MedFMC_fewshot_baseline
    MedFMC_train/colon/{images/, colon_train.csv} and MedFMC_val/colon/{images/, colon_val.csv}       the challenge's

A list has a line `NAME.png 0` or `NAME.png 1` for each image (names hold spaces); a table has the columns img_id and
tumor. The lists and the images need not lie in the same folder. The challenge gave its validation images without
labels; they came later as a table in MedFMC_trainval_annotation.

The lists keep whole regions of a slide together, but 50 of the 68 slides in trainval.txt are in test_WithLabel.txt
as well. That is the release's own split, which the paper reports on.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from examples.paper.datasets.folders import folders_below
from examples.paper.datasets.splits import LabelledFile, at_most, check_split, divide, read_task
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.images import Progress
from forge.model.scoring import TaskImages

LAYOUT = (
    "colon/{images/, trainval.txt, test_WithLabel.txt}, ColonPath/{images/, fewshot-pool.txt, test.txt}, or "
    "MedFMC_train/colon/{images/, colon_train.csv} beside MedFMC_val/colon/{images/, colon_val.csv}"
)
LABELS = ("negative colon tumor", "positive colon tumor")
ANNOTATION = "MedFMC_trainval_annotation"


@dataclass(frozen=True)
class _Named:
    """Which images are for what; a release without a validation set has `validation` None."""

    train: dict[str, int]
    validation: dict[str, int] | None
    test: dict[str, int]


def find_medfmc(root: Path) -> Path:
    """The folder that holds the colon part's lists, or the challenge's training table."""
    found = _first(root, _has_lists) or _first(root, lambda folder: (folder / "colon_train.csv").is_file())
    if found is None:
        raise ForgeError(f"no MedFMC-Colon in {root} or below", hint=f"unpack the release there; expected is {LAYOUT}")
    return found


def load_medfmc_colon(
    root: Path,
    base: BaseModel,
    *,
    split: str = "train",
    seed: int = 0,
    validation: float = 0.1,
    per_class: int | None = None,
    progress: Progress = lambda items, total: items,
) -> TaskImages:
    """One split of the colon part, as released.

    Where the release has no validation list, a share `validation` of its training images is held back: whole
    regions, as the patches of one overlap. `per_class` takes that many images of each class only.
    Source: MedForge (2025), section 4.
    """
    check_split(split)
    folder = find_medfmc(root)
    named = _from_lists(folder) if _has_lists(folder) else _from_tables(root, folder)
    places = _places(root)
    if split == "test":
        files = _files(named.test, places, folder)
    elif named.validation is not None:
        files = _files(named.train if split == "train" else named.validation, places, folder)
    else:
        training = _files(named.train, places, folder)
        files = divide(training, LABELS, test=0, validation=validation, seed=seed, source=str(folder))[split]
    return read_task("colon", LABELS, at_most(files, per_class, seed), base, progress=progress)


def _first(root: Path, fits: Callable[[Path], bool]) -> Path | None:
    return next((folder for folder in folders_below(root, dataset="MedFMC-Colon", layout=LAYOUT) if fits(folder)), None)


def _has_lists(folder: Path) -> bool:
    # The release's other parts, chest and endo, have lists of the same names.
    return "colon" in folder.name.lower() and any(
        (folder / train).is_file() and (folder / test).is_file()
        for train, test in (("trainval.txt", "test_WithLabel.txt"), ("fewshot-pool.txt", "test.txt"))
    )


def _from_lists(folder: Path) -> _Named:
    if not (folder / "trainval.txt").is_file():
        return _Named(_read_list(folder / "fewshot-pool.txt"), None, _read_list(folder / "test.txt"))
    test = _read_list(folder / "test_WithLabel.txt")
    train, validation = folder / "train_20.txt", folder / "val_20.txt"
    if train.is_file() and validation.is_file():  # trainval.txt in two
        return _Named(_read_list(train), _read_list(validation), test)
    return _Named(_read_list(folder / "trainval.txt"), None, test)


def _from_tables(root: Path, folder: Path) -> _Named:
    test_folder = _first(root, lambda each: (each / "colon_val.csv").is_file())
    if test_folder is None:
        raise ForgeError(
            f"{folder} has the training images only: no colon_val.csv in {root} or below", hint=f"expected is {LAYOUT}"
        )
    table = test_folder / "colon_val.csv"
    test = _read_table(table)
    if None in test.values():
        annotation = _first(root, lambda each: each.name == ANNOTATION)
        known = {} if annotation is None else _merged(sorted(annotation.glob("*[cC]olon*.csv")))
        test = {name: known.get(name) for name in test}
    train = _read_table(folder / "colon_train.csv")
    return _Named(_complete(train, folder / "colon_train.csv"), None, _complete(test, table))


def _merged(tables: list[Path]) -> dict[str, int | None]:
    return {name: target for table in tables for name, target in _read_table(table).items()}


def _complete(found: dict[str, int | None], table: Path) -> dict[str, int]:
    labelled = {name: target for name, target in found.items() if target is not None}
    if len(labelled) < len(found) or not labelled:
        raise ForgeError(
            f"{table}: {len(found) - len(labelled)} of {len(found)} images have no label in its column tumor",
            hint=f"add {ANNOTATION}, or the lists trainval.txt and test_WithLabel.txt of github.com/openmedlab/MedFM",
        )
    return labelled


def _read_list(path: Path) -> dict[str, int]:
    targets: dict[str, int] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, _, target = line.strip().rpartition(" ")
        if not name or target not in ("0", "1"):
            raise ForgeError(f"{path}, line {number}: not `NAME.png 0` or `NAME.png 1`", hint="fetch the list again")
        targets[name] = int(target)
    return targets


def _read_table(path: Path) -> dict[str, int | None]:
    """Targets by image name, None where the column is missing or empty."""
    rows = csv.DictReader(_text(path).splitlines())
    if "img_id" not in (rows.fieldnames or ()):
        raise ForgeError(f"{path} has no column img_id", hint="fetch the table again")
    targets: dict[str, int | None] = {}
    for row in rows:
        name, value = (row["img_id"] or "").strip(), (row.get("tumor") or "").strip()
        if not name:  # the released tables end in empty rows
            continue
        if value not in ("", "0", "1", "0.0", "1.0"):
            raise ForgeError(f"{path}: tumor is {value!r} for {name}, not 0 or 1", hint="fetch the table again")
        targets[name] = int(value[0]) if value else None
    return targets


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ForgeError(f"{path} cannot be read: {error}", hint="fetch it again") from error


def _places(root: Path) -> dict[str, Path]:
    """Where each image of the colon part lies, by its name."""
    places: dict[str, Path] = {}
    for folder in folders_below(root, dataset="MedFMC-Colon", layout=LAYOUT):
        if folder.name in ("images", "image") and "colon" in folder.parent.name.lower():
            for path in sorted(folder.iterdir()):
                places.setdefault(path.name, path)
    return places


def _files(targets: dict[str, int], places: dict[str, Path], folder: Path) -> list[LabelledFile]:
    missing = sorted(name for name in targets if name not in places)
    if missing:
        raise ForgeError(
            f"{len(missing)} of {len(targets)} images named in {folder} are in no folder colon/images, "
            f"{missing[0]!r} among them",
            hint=f"expected is {LAYOUT}",
        )
    return [LabelledFile(places[name], targets[name], _region(name)) for name in sorted(targets)]


def _region(name: str) -> str:
    """...-lv1-33952-9759-6526-5268p0018.png: the region of the slide that patch 18 was cut from."""
    return re.sub(r"p\d+\.\w+$", "", name)
