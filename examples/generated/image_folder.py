"""Writes image arrays as the folders that training reads: one sub-folder of PNGs for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from examples.generated.painting import Bytes, Integers
from forge.errors import ForgeError


def write_image_folder(folder: Path, images: Bytes, labels: Integers, class_folder_names: Sequence[str]) -> list[Path]:
    """Write images uint8 [n, h, w, 3] as FOLDER/CLASS/NUMBER.png and return the paths, in the images' order.

    labels [n] index class_folder_names; every class gets a folder, also an empty one. Raises ForgeError where the
    folder already holds something, so that two data sets are never mixed.
    """
    from PIL import Image

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ForgeError(f"{folder} exists and is not an empty folder", hint="name a new folder")
    for name in class_folder_names:
        (folder / name).mkdir(parents=True)
    digits = max(4, len(str(len(images))))
    paths = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / class_folder_names[int(label)] / f"{number:0{digits}}.png"
        Image.fromarray(image).save(path)
        paths.append(path)
    return paths
