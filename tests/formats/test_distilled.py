"""A distilled dataset as it is written, read, and given other labels."""

from __future__ import annotations

import numpy as np
import pytest

from forge.errors import ForgeError
from forge.formats.distilled import IMAGES, LABELS, OFFSET, SCALE, check_distilled, distilled_bytes, relabelled
from forge.formats.safetensors import load_numpy

ARRAYS = {
    IMAGES: np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5),
    LABELS: np.array([1, 0]),
    OFFSET: np.zeros(3, np.float32),
    SCALE: np.full(3, 1 / 255, np.float32),
}
TEXTS = ("benign", "tumeur é")


def written() -> bytes:
    return distilled_bytes(ARRAYS, "breast", TEXTS, "dm", "x")


def test_what_is_written_is_read() -> None:
    view = check_distilled(written(), "x")
    assert (view.task, view.labels, view.method) == ("breast", TEXTS, "dm")
    assert (view.images, view.height, view.width, view.per_class) == (2, 4, 5, (1, 1))
    arrays, _ = load_numpy(written(), "x")
    assert arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_other_labels_leave_the_images() -> None:
    other = relabelled(written(), "colon", ["a", "b"], "x")
    view = check_distilled(other, "x")
    assert (view.task, view.labels, view.method, view.per_class) == ("colon", ("a", "b"), "dm", (1, 1))
    assert np.array_equal(load_numpy(other, "x")[0][IMAGES], ARRAYS[IMAGES])
    assert relabelled(other, "breast", TEXTS, "x") == written()


def test_another_size_than_the_base_takes() -> None:
    check_distilled(written(), "x", size=(4, 5))
    with pytest.raises(ForgeError, match="images of 4x5, but this base takes 5x4"):
        check_distilled(written(), "x", size=(5, 4))
