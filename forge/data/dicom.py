"""A DICOM picture as pydicom reads it: rescaled, and mapped to 8 bits by the window that it states or a given range."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def read_dicom(path: Path, grey: tuple[float, float] | None) -> tuple[Any, tuple[float, float] | None]:
    """(PIL image in RGB, lowest and highest value where `grey` is what it goes by).

    Grey pictures of more than 8 bits are mapped by `grey`, in the file's own units (Hounsfield units of a CT), or else
    by the window that the file states. Raises whatever pydicom does, and ValueError for what nobody can decide.
    """
    import numpy as np
    import pydicom
    from PIL import Image
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    from forge.data.pixels import to_levels

    dataset = pydicom.dcmread(path)
    if "PixelData" not in dataset:
        raise ValueError("DICOM without a picture")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(f"it holds {frames} frames; save each as a file of its own")
    stored = dataset.pixel_array  # colours come as RGB
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        table = apply_color_lut(stored, dataset)
        return Image.fromarray((table >> 8 if table.dtype != np.uint8 else table).astype(np.uint8)), None
    if dataset.SamplesPerPixel == 3:
        if stored.dtype != np.uint8:
            raise ValueError("colours of more than 8 bits; convert it to 8 bits")
        return Image.fromarray(stored).convert("RGB"), None
    values = apply_modality_lut(stored, dataset)
    if grey is not None and (dataset.BitsAllocated > 8 or values.dtype != np.uint8):
        levels, seen = to_levels(values, grey), (float(values.min()), float(values.max()))
    else:
        levels, seen = _windowed(values, dataset), None
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        levels = 255 - levels
    return Image.fromarray(levels).convert("RGB"), seen


def _windowed(values: np.ndarray, dataset: Any) -> np.ndarray:
    """8-bit levels by the file's own window, the first of several, or its table."""
    import numpy as np
    from pydicom.pixels import apply_voi, apply_windowing

    from forge.data.pixels import to_levels

    if "WindowCenter" in dataset and "WindowWidth" in dataset:
        ends = apply_windowing(np.array([-1e9, 1e9]), dataset)
        return to_levels(np.asarray(apply_windowing(values, dataset), np.float64), (float(ends[0]), float(ends[1])))
    if "VOILUTSequence" in dataset:
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return to_levels(np.asarray(apply_voi(values, dataset)), (0, 2**bits - 1))
    if values.dtype == np.uint8:
        return values
    raise ValueError(
        f"{dataset.BitsStored} bits and no window; say with --grey LOW HIGH what is black and what is white"
    )
