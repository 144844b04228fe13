"""Where the pixels of a data set lie: in memory, or in a file without a name where they would fill it.

The file is created in the temporary folder (TMPDIR), open to this process alone, and has no name from then on: it is
gone with the process, however that ends. The order in which images are used comes from the seed, as in memory.
"""

from __future__ import annotations

import os
import tempfile

import numpy as np
import torch
from torch import Tensor

from forge.errors import ForgeError

IN_MEMORY = 4 * 2**30  # bytes of the pixels of one data set: 28,000 images of 224 pixels
_AT_ONCE = 256  # images that are copied at a time


def empty_pixels(count: int, size: tuple[int, int]) -> Tensor:
    """uint8 [count, 3, h, w], to be filled. Raises ForgeError where the disk has no room either."""
    shape = (count, 3, *size)
    needed = count * 3 * size[0] * size[1]
    if needed <= IN_MEMORY:
        return torch.empty(shape, dtype=torch.uint8)
    with tempfile.TemporaryFile(prefix="git-forge-pixels-") as file:
        try:
            # A file with holes that the disk cannot fill would end the process in the middle of a picture. macOS has
            # no such call: there the holes stay.
            reserve = getattr(os, "posix_fallocate", None)
            if reserve is not None:
                reserve(file.fileno(), 0, needed)
            else:
                file.truncate(needed)
        except OSError as error:
            raise ForgeError(
                f"{count:,} images need {needed / 1e9:.1f} GB in {tempfile.gettempdir()}: {error.strerror}",
                hint="name a folder on a larger disk that only you can read: TMPDIR=FOLDER git forge ...",
            ) from error
        return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=shape))


def some_pixels(pixels: Tensor, index: Tensor) -> Tensor:
    """pixels[index], a copy that lies where pixels of that number do. index: of booleans [n], or numbers."""
    numbers = torch.arange(len(pixels))[index]
    chosen = empty_pixels(len(numbers), (pixels.shape[-2], pixels.shape[-1]))
    for first in range(0, len(numbers), _AT_ONCE):
        part = numbers[first : first + _AT_ONCE]
        chosen[first : first + len(part)] = pixels[part]
    return chosen
