"""Labelled images at the base's size, from what forge.data lists: an image folder, a table or a MedMNIST-style .npz.

Images are kept as uint8 [n, 3, h, w] (shorter side resized, centre cropped, as open_clip does), so that a private set
of ten thousand 224-pixel images takes 1.5 GB and not six.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from forge.data.archive import Archive, read_arrays
from forge.data.listing import Listing, ReadOptions, list_images
from forge.data.pixels import FULL, Grey, Picture, picture_of, read_pictures
from forge.data.reasons import Reason
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.pixel_store import empty_pixels, some_pixels
from forge.model.scoring import TaskImages

Progress = Callable[[Iterable[Path], int], Iterable[Path]]


@dataclass(frozen=True)
class Depth:
    """Pictures of more than 8 bits in a set: how many, their lowest and highest value, and what is black and white."""

    pictures: int
    values: Grey
    grey: Grey


@dataclass(frozen=True)
class LabelledImages:
    """`pixels` uint8 [n, 3, h, w], `targets` int64 [n]; `classes` are the source's own names, in order.

    patients: [n] whose images they are, where anybody says. left_out: why how many files are not among them.
    """

    pixels: Tensor
    targets: Tensor
    classes: tuple[str, ...]
    source: str
    patients: tuple[str, ...] | None = None
    left_out: Mapping[Reason, int] = field(default_factory=dict)
    depth: Depth | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Tensor) -> LabelledImages:
        chosen = torch.arange(len(self))[index].tolist()
        patients = None if self.patients is None else tuple(self.patients[number] for number in chosen)
        pixels, targets = some_pixels(self.pixels, index), self.targets[index]
        return LabelledImages(pixels, targets, self.classes, self.source, patients, self.left_out, self.depth)


def load_images(
    data: Path,
    base: BaseModel,
    *,
    split: str = "train",
    progress: Progress = lambda items, total: items,
    options: ReadOptions | None = None,
) -> LabelledImages:
    """List labelled images (forge.data.listing) and read them at the base's size."""
    options = options or ReadOptions()
    return read_listing(list_images(data, split, options), base, options, progress)


def read_listing(
    listing: Listing, base: BaseModel, options: ReadOptions, progress: Progress = lambda items, total: items
) -> LabelledImages:
    """Read what is listed. Raises ForgeError naming the file for one that cannot be read, unless it may be skipped."""
    if listing.archive is not None:
        pixels = _read_archive(listing.archive, base)
        targets = torch.tensor(listing.targets)
        return LabelledImages(pixels, targets, listing.classes, listing.source, left_out=listing.left_out)
    reader = Reader(base, options)
    pixels = empty_pixels(len(listing.files), base.image_size)
    read: list[int] = []
    pictures = zip(progress(listing.files, len(listing.files)), reader.read(listing.files), strict=True)
    for index, (_, picture) in enumerate(pictures):
        if picture is not None:
            pixels[len(read)] = picture
            read.append(index)
    targets = torch.tensor([listing.targets[index] for index in read], dtype=torch.int64)
    for number, name in enumerate(listing.classes):
        if not (targets == number).any():
            raise ForgeError(f"{listing.source}: no image of class {name!r} can be read", hint="add some that can")
    return LabelledImages(
        pixels[: len(read)],
        targets,
        listing.classes,
        listing.source,
        listing.patients and tuple(listing.patients[index] for index in read),
        Counter(listing.left_out) + reader.left_out,
        reader.depth(listing.source),
    )


def load_picture(path: Path, base: BaseModel, options: ReadOptions | None = None) -> Tensor:
    """One picture as uint8 [3, h, w] at the base's size. Raises ForgeError for what is no picture."""
    ((_, picture),) = Reader(base, options or ReadOptions()).each([path])
    return picture


def load_pictures(
    paths: Sequence[Path],
    base: BaseModel,
    *,
    crop: Callable[[Any], Any] = lambda picture: picture,
    progress: Progress = lambda items, total: items,
) -> Tensor:
    """Pictures as uint8 [n, 3, h, w] at the base's size; `crop` takes and gives an RGB PIL image, before the resize."""
    reader = Reader(base, ReadOptions(), crop)
    pixels = empty_pixels(len(paths), base.image_size)
    for index, (_, picture) in enumerate(reader.each(progress(paths, len(paths)))):
        pixels[index] = picture
    return pixels


class Reader:
    """Reads pictures, and remembers what it left out and which values the deep ones had."""

    def __init__(
        self, base: BaseModel, options: ReadOptions, crop: Callable[[Any], Any] = lambda picture: picture
    ) -> None:
        resize = _resizer(base)
        self.options = options
        self.change: Callable[[Any], Any] = lambda picture: _checked_size(resize, crop(picture), base)
        self.left_out: Counter[Reason] = Counter()
        self.pictures = self.dark = 0
        self.values: Grey | None = None

    def read(self, paths: Iterable[Path]) -> Iterator[Tensor | None]:
        """Pictures as uint8 [3, h, w], read on as many cores as torch uses; None for one that may be skipped."""
        threads = torch.get_num_threads()
        for picture in read_pictures(paths, self.options.grey, self.change, threads=threads):
            if isinstance(picture, Picture):
                self._see(picture)
                yield _to_tensor(picture.image)
            elif self.options.skip_unreadable:
                self.left_out[Reason("cannot be read")] += 1
                yield None
            else:
                raise picture

    def image(self, image: Any, source: str) -> Tensor:
        """A PIL image as uint8 [3, h, w]. Raises ForgeError naming `source` for one that is none."""
        try:
            picture = picture_of(image, self.options.grey)
            resized = self.change(picture.image)
        except Exception as error:  # with broken images the libraries raise anything
            raise ForgeError(f"{source} cannot be read as an image: {error}", hint="give PIL images in RGB") from error
        self._see(picture)
        return _to_tensor(resized)

    def _see(self, picture: Picture) -> None:
        if picture.values is not None:
            self.pictures += 1
            self.dark += picture.values[1] < 2**15
            low, high = self.values or picture.values
            self.values = (min(low, picture.values[0]), max(high, picture.values[1]))

    def each(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Tensor]]:
        """Those that can be read. Raises ForgeError at the end where their range is not known after all."""
        last = None
        listed, read = tee(paths)
        for last, picture in zip(listed, self.read(read), strict=True):
            if picture is not None:
                yield last, picture
        self.depth(str(last))

    def depth(self, source: str) -> Depth | None:
        """What the deep pictures had; None where there were none.

        Raises ForgeError where nobody gave a range and most of them fill less than half of 16 bits: they would become
        a few nearly black levels.
        """
        if self.values is None:
            return None
        grey, (low, high) = self.options.grey, self.values
        if grey is None and (self.options.unsettled or self.dark > self.pictures / 2):
            raise ForgeError(
                f"{source}: {self.pictures} picture(s) of more than 8 bits with values from {low:g} to {high:g}, "
                + (self.options.unsettled or f"{self.dark} of them far below 65535: their range is unknown"),
                hint="say which values are black and white, for 12 bits with --grey 0 4095",
            )
        return Depth(self.pictures, self.values, grey or FULL)


def split_validation(images: LabelledImages, fraction: float, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """(training, validation): a seeded, stratified share of every class, at least one image each.

    Where patients are known, each is on one side.
    """
    if images.patients is not None:
        return _split_patients(images, images.patients, fraction, seed)
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
    return _divided(images, validation)


def with_labels(
    images: LabelledImages, base: BaseModel, task: str, labels: Sequence[str], of_class: Mapping[str, str]
) -> TaskImages:
    """Images under all labels of a task; `of_class` says which of them stands for each of the source's classes."""
    places = torch.tensor([list(labels).index(of_class[name]) for name in images.classes])
    return TaskImages(task, tuple(labels), images.pixels, places[images.targets].to(base.device))


def _split_patients(
    images: LabelledImages, patients: Sequence[str], fraction: float, seed: int
) -> tuple[LabelledImages, LabelledImages]:
    """The fold of scikit-learn's grouped, stratified folds that is nearest to `fraction` and has every class twice."""
    from sklearn.model_selection import StratifiedGroupKFold

    targets = images.targets.numpy()
    share = min(fraction, 1 - fraction)
    of_class = [{p for p, t in zip(patients, targets, strict=True) if t == c} for c in range(len(images.classes))]
    for name, members in zip(images.classes, of_class, strict=True):
        if len(members) < 2:
            raise ForgeError(
                f"{images.source}: class {name!r} has images of {len(members)} patient(s); "
                "a validation split needs two",
                hint="add patients of that class, or bring a validation split of your own",
            )
    most = min(min(map(len, of_class)), int(np.bincount(targets).min()))
    best: tuple[float, list[int]] | None = None
    for folds in sorted({2, min(max(2, round(1 / max(share, 1e-9))), most)}):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for kept, held in splitter.split(np.zeros(len(targets)), targets, np.array(patients)):
            validation = held if fraction <= 0.5 else kept
            if all(len(set(targets[part])) == len(images.classes) for part in (held, kept)):
                distance = abs(len(validation) / len(targets) - fraction)
                if best is None or distance < best[0]:
                    best = (distance, validation.tolist())
    if best is None:
        raise ForgeError(
            f"{images.source}: no split by patient has every class on both sides",
            hint="bring a validation split of your own: a folder val, or a column split",
        )
    return _divided(images, best[1])


def _divided(images: LabelledImages, validation: Sequence[int]) -> tuple[LabelledImages, LabelledImages]:
    chosen = torch.zeros(len(images), dtype=torch.bool)
    chosen[list(validation)] = True
    return images.subset(~chosen), images.subset(chosen)


def _checked_size(resize: Callable[[Any], Any], picture: Any, base: BaseModel) -> Any:
    """The resized picture. One that is very thin would be far larger before it is cropped than any that is opened."""
    height, width = base.image_size
    if base.preprocess.get("resize_mode") in (None, "shortest"):
        scale = max(width / picture.width, height / picture.height)
        pixels = picture.width * scale * picture.height * scale
        if Image.MAX_IMAGE_PIXELS is not None and pixels > max(Image.MAX_IMAGE_PIXELS, height * width):
            raise ValueError(f"{picture.width} x {picture.height} pixels are too thin for {width} x {height}")
    return resize(picture)


def _to_tensor(picture: Any) -> Tensor:
    return torch.from_numpy(np.asarray(picture, dtype=np.uint8).copy()).permute(2, 0, 1)


def _resizer(base: BaseModel) -> Callable[[Any], Any]:
    """open_clip's own evaluation transform up to the tensor: PIL image in, PIL image out."""
    from open_clip.transform import image_transform

    options = {key: base.preprocess[key] for key in ("interpolation", "resize_mode") if base.preprocess.get(key)}
    fill = base.preprocess.get("fill_color", 0)
    whole = image_transform(base.image_size, False, base.mean, base.std, fill_color=fill, **options)
    resize: Callable[[Any], Any] = type(whole)(whole.transforms[:-3])  # then come RGB, tensor and normalisation
    return resize


def _read_archive(archive: Archive, base: BaseModel) -> Tensor:
    images = read_arrays(archive)
    resize = _resizer(base)
    pixels = empty_pixels(len(images), base.image_size)
    for index, image in enumerate(images):
        pixels[index] = _to_tensor(_checked_size(resize, Image.fromarray(image).convert("RGB"), base))
    return pixels
