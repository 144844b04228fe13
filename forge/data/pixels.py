"""One picture from disk as 8-bit colours, turned as it is meant to be seen; or one message with the file's name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge.data.names import DICOM, PICTURES
from forge.errors import ForgeError

if TYPE_CHECKING:
    import numpy as np

# Those that hospitals have. Others are left to programs made for them: Pillow starts one for EPS.
FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "TIFF", "WEBP", "GIF", "JPEG2000", "PPM", "TGA", "AVIF")
FULL = (0.0, 65535.0)  # of 16 bits
AT_ONCE = 64  # pictures that are read ahead of the one that is asked for

Grey = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """`image` is a PIL image in RGB. values: the lowest and highest pixel value of one that has more than 8 bits."""

    image: Any
    values: Grey | None = None


def read_pictures(
    paths: Iterable[Path],
    grey: Grey | None = None,
    change: Callable[[Any], Any] = lambda image: image,
    *,
    threads: int = 1,
) -> Iterator[Picture | ForgeError]:
    """Pictures from their files, in their order, read in so many threads, each `change`d as an RGB image.

    grey: the values that become black and white where there are more than 8 bits; all 16 bits where it is None. In the
    place of a picture that cannot be read is a ForgeError that names the file, whatever is wrong: with broken files the
    libraries raise anything. Pillow gives the interpreter away while it decodes and resizes, so that threads help.
    """

    def attempt(path: Path) -> Picture | ForgeError:
        try:
            return _read(path, grey, change)
        except ForgeError as error:
            return error

    waiting = iter(paths)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        while part := list(islice(waiting, AT_ONCE)):
            with _too_large_is_an_error():
                read = list(pool.map(attempt, part))
            yield from read


@contextmanager
def _too_large_is_an_error() -> Iterator[None]:
    """Pillow's warning of a picture that is too large is an error, and no library warns of anything else.

    Filters of warnings are the whole process's: this is entered around threads, never in them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from PIL import Image

        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _read(path: Path, grey: Grey | None, change: Callable[[Any], Any]) -> Picture:
    if not path.is_file():
        raise ForgeError(f"no such image: {path}", hint="check the path and its mount")
    try:
        picture = _read_dicom(path, grey) if is_dicom(path) else _read_image(path, grey)
        return Picture(change(picture.image), picture.values)
    except Exception as error:
        lines = str(error).splitlines()
        reason = lines[0] if lines and lines[0] else f"unknown format ({type(error).__name__})"
        raise ForgeError(
            f"{path} cannot be read as an image: {reason}",
            hint="convert it to a plain PNG or JPEG, or keep it elsewhere; --skip-unreadable leaves it out",
        ) from error


def picture_of(image: Any, grey: Grey | None = None) -> Picture:
    """A PIL image of any mode as read_picture has one from a file; what is read already has lost how it was stored."""
    import numpy as np
    from PIL import ImageOps

    raw = _raw_mode(image)
    white_is_zero = image.format == "TIFF" and image.tag_v2.get(262) == 0
    image.load()
    picture = ImageOps.exif_transpose(image)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and image.format in ("PNG", "PPM")):
        return _from_grey(picture, grey or FULL, white_is_zero, 4 if raw == "I;12" else 0)
    if picture.mode in ("I", "F"):
        if grey is None:
            raise ValueError("32-bit pixels, whose range is unknown; say it with --grey LOW HIGH")
        return _from_grey(picture, grey, white_is_zero)
    colours = picture.convert("RGB")
    if "16" not in raw:
        return Picture(colours)
    if grey is not None and grey != FULL:
        raise ValueError("16-bit colours, which --grey cannot scale; convert it to 8 bits")
    levels = np.asarray(colours)
    return Picture(colours, (int(levels.min()) * 257.0, int(levels.max()) * 257.0))  # by its upper byte


def is_dicom(path: Path) -> bool:
    """Whether a file is one by its name or its first bytes."""
    suffix = path.suffix.lower()
    if suffix in DICOM or suffix in PICTURES:
        return suffix in DICOM
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def to_levels(values: np.ndarray, grey: Grey) -> np.ndarray:
    """Values as 8-bit levels: `grey` is the lowest and the highest value that differ from what lies beyond."""
    import numpy as np

    low, high = grey
    if values.dtype == np.uint16:
        every: np.ndarray = to_levels(np.arange(2**16, dtype=np.int64), grey)[values]
        return every
    if not np.isfinite(values).all():
        raise ValueError("some of its pixels are no numbers")
    steps = high - low + 1 if np.issubdtype(values.dtype, np.integer) else high - low
    levels: np.ndarray = np.floor((values.astype(np.float64) - low) * 256 / steps).clip(0, 255).astype(np.uint8)
    return levels


def check_grey(grey: Grey) -> Grey:
    """Refuse a range that is none."""
    low, high = grey
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ForgeError(f"--grey {low:g} {high:g} is no range", hint="give the value of black, then that of white")
    return grey


def _read_image(path: Path, grey: Grey | None) -> Picture:
    from PIL import Image

    Image.init()  # JPEG's plugin opens MPO; AVIF is in newer builds alone
    formats = [name for name in FORMATS if name in Image.OPEN]
    with Image.open(path, formats=formats) as opened:
        _check_pages(opened)
        return picture_of(opened, grey)


def _from_grey(picture: Any, grey: Grey, white_is_zero: bool, shift: int = 0) -> Picture:
    import numpy as np
    from PIL import Image

    values = np.asarray(picture)
    if shift:
        values = values << shift
    levels = to_levels(values.astype(np.uint16) if picture.mode == "I" and grey == FULL else values, grey)
    image = Image.fromarray(255 - levels if white_is_zero else levels).convert("RGB")
    return Picture(image, (float(values.min()), float(values.max())))


def _raw_mode(picture: Any) -> str:
    """How Pillow says the pixels are stored, before it has read them."""
    tile = getattr(picture, "tile", None)  # of files alone: a picture made in memory has none
    arguments = tile[0][3] if tile else ""
    if picture.format == "PPM" and len(arguments) == 2 and isinstance(arguments[1], int) and arguments[1] > 255:
        return f"{arguments[0]};16"
    first = arguments if isinstance(arguments, str) or not arguments else arguments[0]
    return first if isinstance(first, str) else ""


def _check_pages(picture: Any) -> None:
    """Several pictures in one file: nobody can say which is meant. The previews of a photograph are none of them."""
    pages = getattr(picture, "n_frames", 1)
    if pages == 1 or picture.format == "MPO":
        return
    if picture.format == "TIFF":
        pages = 0
        for page in range(picture.n_frames):
            picture.seek(page)
            pages += not picture.tag_v2.get(254, 0) & 5  # reduced in size, or a mask
        picture.seek(0)
    if pages > 1:
        raise ValueError(f"it holds {pages} pictures; save each as a file of its own")


def _read_dicom(path: Path, grey: Grey | None) -> Picture:
    from forge.data.dicom import read_dicom

    return Picture(*read_dicom(path, grey))
