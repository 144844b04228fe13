"""BreakHis (Spanhol et al., 2016), 40x: breast tumours, benign or malignant, 82 slides of 700 x 460 patches.

BreaKHis_v1/histology_slides/breast/benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-40-001.png
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from examples.paper.datasets.folders import find_folder
from examples.paper.datasets.splits import LabelledFile, at_most, check_split, divide, read_task
from forge.data.names import PICTURES
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.images import Progress
from forge.model.scoring import TaskImages

LAYOUT = "BreaKHis_v1/histology_slides/breast/{benign,malignant}/SOB/TYPE/SLIDE/40X/*.png"
CLASSES = ("benign", "malignant")
LABELS = ("benign breast tissues", "malignant breast tumors")
TEST = 0.3  # of the patients
CROP = 460

# SOB_B_TA-14-4659-40-001: biopsy procedure, class, type, year-slide, magnification, number (the data set's page).
NAME = re.compile(r"SOB_[BM]_[A-Z]+-(?P<patient>\d+-\w+)-40-\d+", re.IGNORECASE)


def find_breakhis(root: Path) -> Path:
    """The folder `breast` that holds `benign` and `malignant`."""
    return find_folder(root, [f"{name}/SOB" for name in CLASSES], dataset="BreakHis", layout=LAYOUT)


def load_breakhis(
    root: Path,
    base: BaseModel,
    *,
    split: str = "train",
    seed: int = 0,
    validation: float = 0.1,
    per_class: int | None = None,
    progress: Progress = lambda items, total: items,
) -> TaskImages:
    """One split of BreakHis at 40x, centre cropped to 460 x 460; `groups` numbers the slides, alike in all splits.

    70% of the patients of each class are for training, and of those `validation` for validation. A patient is
    the year and slide number in the file name, as the data set's authors count them; 14-13412, who has slides of
    two malignant types, stays in one split. `per_class` takes that many patches of each class only.
    Source: MedForge (2025), section 4.
    """
    check_split(split)
    folder = find_breakhis(root)
    files = _files(folder)
    parts = divide(files, LABELS, test=TEST, validation=validation, seed=seed, source=str(folder))
    slides = {name: number for number, name in enumerate(sorted({_slide(file) for file in files}))}
    chosen = at_most(parts[split], per_class, seed)
    groups = [slides[_slide(file)] for file in chosen]
    return read_task("breast", LABELS, chosen, base, crop=_centre, groups=groups, progress=progress)


def _files(folder: Path) -> list[LabelledFile]:
    files: list[LabelledFile] = []
    for target, name in enumerate(CLASSES):
        paths = sorted(
            path
            for path in (folder / name / "SOB").glob("*/*/40X/*")
            if path.suffix.lower() in PICTURES and not path.name.startswith(".")
        )
        if not paths:
            raise ForgeError(f"no 40x images in {folder / name}", hint=f"expected is {LAYOUT}")
        files.extend(LabelledFile(path, target, _patient(path)) for path in paths)
    return files


def _patient(path: Path) -> str:
    match = NAME.fullmatch(path.stem)
    if match is None:
        raise ForgeError(
            f"{path}: no patient can be read from this name",
            hint="BreakHis names its 40x files as SOB_B_A-14-22549AB-40-001.png; keep the released names",
        )
    return match["patient"].upper()


def _slide(file: LabelledFile) -> str:
    return file.path.parent.parent.name


def _centre(picture: Any) -> Any:
    """The 460 x 460 in the middle; some of the released files are 700 x 456, and give 456 x 456."""
    width, height = picture.size
    side = min(CROP, width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))
