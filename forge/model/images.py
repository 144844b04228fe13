"""Labelled images from disk: an image folder (one sub-folder a class) or a MedMNIST-style .npz.

Images are kept as uint8 [n, 3, h, w] at the base's size (shorter side resized, centre cropped, as open_clip
does), so that a private set of ten thousand 224-pixel images takes 1.5 GB and not six.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.scoring import TaskImages

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
SPLITS = ("train", "val", "test")

Progress = Callable[[Iterable[Path], int], Iterable[Path]]


@dataclass(frozen=True)
class LabelledImages:
    """`pixels` uint8 [n, 3, h, w], `targets` int64 [n]; `classes` are the source's own names, in order."""

    pixels: Tensor
    targets: Tensor
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Tensor) -> LabelledImages:
        return LabelledImages(self.pixels[index], self.targets[index], self.classes, self.source)


def load_images(
    data: Path, base: BaseModel, *, split: str = "train", progress: Progress = lambda items, total: items
) -> LabelledImages:
    """Read labelled images at the base's size.

    A folder holds one sub-folder a class, or `train`, `val` and `test` folders that do; an .npz holds
    `<split>_images` and `<split>_labels` (MedMNIST), or `images` and `labels`. Raises ForgeError naming the
    file for anything missing, empty, unreadable or broken.
    """
    if not data.exists():
        raise ForgeError(f"no such data: {data}", hint="give a folder with one sub-folder a class, or an .npz")
    if data.is_dir():
        return _load_folder(_split_folder(data, split), base, progress)
    if data.suffix == ".npz":
        return _load_npz(data, base, split)
    raise ForgeError(f"{data} is neither a folder nor an .npz", hint="give a folder with one sub-folder a class")


def has_split(data: Path, split: str) -> bool:
    """Whether the data set brings that split of its own (MedMNIST's val, say)."""
    if data.is_dir():
        return (data / split).is_dir()
    if data.suffix != ".npz" or not data.is_file():
        return False
    try:
        with data.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return f"{split}_images" in archive.files
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile):
        return False  # reading it says what is wrong


def load_picture(path: Path, base: BaseModel) -> Tensor:
    """One picture as uint8 [3, h, w] at the base's size."""
    return _read(path, _resizer(base))


def load_pictures(
    paths: Sequence[Path],
    base: BaseModel,
    *,
    crop: Callable[[Any], Any] = lambda picture: picture,
    progress: Progress = lambda items, total: items,
) -> Tensor:
    """Pictures as uint8 [n, 3, h, w] at the base's size; `crop` takes and gives an RGB PIL image, before the resize."""
    resize = _resizer(base)
    pixels = torch.empty((len(paths), 3, *base.image_size), dtype=torch.uint8)
    for index, path in enumerate(progress(paths, len(paths))):
        pixels[index] = _read(path, lambda picture: resize(crop(picture)))
    return pixels


def pictures_below(folder: Path) -> list[Path]:
    """All pictures in a folder and its sub-folders, sorted; hidden files (macOS's `._name`) are none."""
    pictures = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
    if not pictures:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ForgeError(f"{folder} holds no images ({known})", hint="add images or remove the empty class")
    return pictures


def split_validation(images: LabelledImages, fraction: float, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """(training, validation): a seeded, stratified share of every class, at least one image each."""
    generator = np.random.default_rng(seed)
    validation: list[int] = []
    for index in range(len(images.classes)):
        members = np.flatnonzero(images.targets.numpy() == index)
        if len(members) < 2:
            raise ForgeError(
                f"{images.source}: class {images.classes[index]!r} has {len(members)} image(s); a validation split "
                "needs two",
                hint="add images of that class, or leave the class out",
            )
        take = min(max(1, round(fraction * len(members))), len(members) - 1)
        validation.extend(generator.permutation(members)[:take].tolist())
    chosen = torch.zeros(len(images), dtype=torch.bool)
    chosen[validation] = True
    return images.subset(~chosen), images.subset(chosen)


def as_task(images: LabelledImages, base: BaseModel, task: str, labels: Sequence[str]) -> TaskImages:
    """Images with the label texts that stand for the source's classes, in order."""
    if len(labels) != len(images.classes):
        raise ForgeError(
            f"{images.source} has {len(images.classes)} classes ({', '.join(images.classes)}), but "
            f"{len(labels)} labels were given",
            hint="give one --labels text per class, in the classes' sorted order",
        )
    return TaskImages(task, tuple(labels), images.pixels, images.targets.to(base.device))


def _split_folder(data: Path, split: str) -> Path:
    if (data / split).is_dir():
        return data / split
    others = [name for name in SPLITS if (data / name).is_dir()]
    if others:  # they are splits, not classes
        raise ForgeError(
            f"{data} has {', '.join(others)}, but no {split}",
            hint=f"add {data / split}, or name the folder that holds the classes",
        )
    return data


def _load_folder(folder: Path, base: BaseModel, progress: Progress) -> LabelledImages:
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise ForgeError(f"{folder} has no sub-folders", hint="put the images of each class in a folder of its own")
    files = [(path, target) for target, name in enumerate(classes) for path in pictures_below(name)]
    pixels = load_pictures([path for path, _ in files], base, progress=progress)
    targets = torch.tensor([target for _, target in files])
    return LabelledImages(pixels, targets, tuple(p.name for p in classes), str(folder))


def _read(path: Path, resize: Callable[[Any], Any]) -> Tensor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return _to_tensor(resize(_eight_bits(picture).convert("RGB")))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise ForgeError(
            f"{path} cannot be read as an image: {str(error).splitlines()[0] if str(error) else 'unknown format'}",
            hint="remove or replace that file",
        ) from error


def _eight_bits(picture: Any) -> Any:
    """16-bit grey (a radiograph, say) by its upper byte; PIL's own conversion would make all but black white."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError("32-bit pixels, whose range is unknown; convert it to 8 or 16 bits")
    return picture


def _to_tensor(picture: Any) -> Tensor:
    return torch.from_numpy(np.asarray(picture, dtype=np.uint8).copy()).permute(2, 0, 1)


def _resizer(base: BaseModel) -> Callable[[Any], Any]:
    """open_clip's own evaluation transform up to the tensor: PIL image in, PIL image out."""
    from open_clip.transform import image_transform
    from torchvision.transforms import Compose

    wanted = {key: base.preprocess[key] for key in ("interpolation", "resize_mode") if base.preprocess.get(key)}
    fill = base.preprocess.get("fill_color", 0)
    whole = image_transform(base.image_size, False, base.mean, base.std, fill_color=fill, **wanted)
    resize: Callable[[Any], Any] = Compose(whole.transforms[:-3])  # then come RGB, tensor and normalisation
    return resize


def _load_npz(path: Path, base: BaseModel, split: str) -> LabelledImages:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = set(archive.files)
            prefix = f"{split}_" if f"{split}_images" in names else ""
            if not {f"{prefix}images", f"{prefix}labels"} <= names:
                raise ForgeError(
                    f"{path} has no {split}_images and {split}_labels", hint=f"it holds: {', '.join(sorted(names))}"
                )
            images, labels = archive[f"{prefix}images"], archive[f"{prefix}labels"]
    except (OSError, ValueError, EOFError) as error:
        raise ForgeError(
            f"{path} cannot be read as an .npz of plain arrays: {error}",
            hint="save it with np.savez: uint8 images and whole-number labels",
        ) from error
    except Exception as error:
        if isinstance(error, ForgeError):
            raise
        raise ForgeError(f"{path} is broken: {error}", hint="fetch the data set again") from error
    return _from_arrays(images, labels, base, f"{path}[{split}]")


def _from_arrays(images: np.ndarray, labels: np.ndarray, base: BaseModel, source: str) -> LabelledImages:
    if not (isinstance(images, np.ndarray) and isinstance(labels, np.ndarray)):
        raise ForgeError(f"{source}: images and labels are no arrays", hint="save them with np.savez")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    grey = images.ndim == 3
    if images.dtype != np.uint8 or not (grey or (images.ndim == 4 and images.shape[-1] == 3)):
        raise ForgeError(
            f"{source}: images are {images.dtype} {images.shape}, not uint8 [n, h, w] or [n, h, w, 3]",
            hint="3-d and multi-channel sets are not supported",
        )
    if labels.ndim != 1 or len(labels) != len(images) or not np.issubdtype(labels.dtype, np.integer):
        raise ForgeError(
            f"{source}: labels are {labels.dtype} {labels.shape}, not one whole number per image",
            hint="number the classes from 0; several labels per image are not supported",
        )
    if images.size == 0:
        raise ForgeError(f"{source} is empty", hint="check what wrote it")
    values, targets = np.unique(labels, return_inverse=True)
    resize = _resizer(base)
    pixels = torch.empty((len(images), 3, *base.image_size), dtype=torch.uint8)
    for index, image in enumerate(images):
        pixels[index] = _to_tensor(resize(Image.fromarray(image).convert("RGB")))
    return LabelledImages(pixels, torch.from_numpy(targets.astype(np.int64)), tuple(map(str, values)), source)
