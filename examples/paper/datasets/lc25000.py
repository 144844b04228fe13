"""LC25000 (Borkowski et al., 2019), its lung part: 5,000 images of 768 x 768 of each of three classes.

    lung_colon_image_set/lung_image_sets/lung_aca/lungaca1.jpeg

The release was made from 250 originals a class by turning and mirroring them, and does not say which image comes
from which original: a random split, the paper's too, has copies of training images in its test set.
"""

from __future__ import annotations

from pathlib import Path

from examples.paper.datasets.folders import find_folder
from examples.paper.datasets.splits import LabelledFile, at_most, check_split, divide, read_task
from forge.data.listing import pictures_below
from forge.model.base import BaseModel
from forge.model.images import Progress
from forge.model.scoring import TaskImages

LAYOUT = "lung_colon_image_set/lung_image_sets/{lung_n,lung_aca,lung_scc}/*.jpeg"
CLASSES = ("lung_n", "lung_aca", "lung_scc")
LABELS = ("benign lung tissues", "lung adenocarcinomas", "lung squamous cell carcinomas")
TEST = 0.3  # of the images of each class


def find_lc25000(root: Path) -> Path:
    """The folder `lung_image_sets` that holds the three classes."""
    return find_folder(root, CLASSES, dataset="LC25000", layout=LAYOUT)


def load_lc25000(
    root: Path,
    base: BaseModel,
    *,
    split: str = "train",
    seed: int = 0,
    validation: float = 0.1,
    per_class: int | None = None,
    progress: Progress = lambda items, total: items,
) -> TaskImages:
    """One split of the lung part: 70% of each class are for training, and of those `validation` for validation.

    `per_class` takes that many images of each class only. Source: MedForge (2025), section 4.
    """
    check_split(split)
    folder = find_lc25000(root)
    files = [
        LabelledFile(path, target, path.relative_to(folder).as_posix())
        for target, name in enumerate(CLASSES)
        for path in pictures_below(folder / name)
    ]
    parts = divide(files, LABELS, test=TEST, validation=validation, seed=seed, source=str(folder))
    return read_task("lung", LABELS, at_most(parts[split], per_class, seed), base, progress=progress)
