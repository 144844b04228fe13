"""A picture as it is meant to be seen, or one message with the file's name."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pydicom.uid import ExplicitVRLittleEndian

from forge.data import pixels
from forge.data.pixels import FULL, Picture, check_grey, picture_of, read_pictures, to_levels
from forge.errors import ForgeError

RAMP = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)


def read_picture(path: Path, grey: tuple[float, float] | None = None) -> Picture:
    (picture,) = read_pictures([path], grey)
    if isinstance(picture, ForgeError):
        raise picture
    return picture


def seen(path: Path, grey: tuple[float, float] | None = None) -> np.ndarray:
    """The red channel; grey pictures have it three times."""
    pixels = np.asarray(read_picture(path, grey).image)
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    return pixels[..., 0]


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm", ".jp2"])
def test_twelve_bits_by_a_given_range(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"mr{suffix}", RAMP)
    picture = read_picture(path, (0, 4095))
    assert picture.values == (0, 4095)
    np.testing.assert_array_equal(np.asarray(picture.image)[..., 0], RAMP >> 4)
    np.testing.assert_array_equal(seen(path), RAMP >> 8)  # all 16 bits where nobody says


@given(
    values=st.lists(st.integers(0, 65535), min_size=1, max_size=30),
    low=st.integers(0, 60000),
    width=st.integers(1, 70000),
)
def test_levels_are_monotone_and_end_at_the_ends(values: list[int], low: int, width: int) -> None:
    array = np.array([*sorted(values), low, low + width], np.int64)
    levels = to_levels(array, (low, low + width))
    assert levels[-2] == 0 and (levels[-1] == 255 or width < 255)
    assert (np.diff(levels[:-2].astype(int)) >= 0).all()
    small = np.clip(array, 0, 65535)
    np.testing.assert_array_equal(to_levels(small.astype(np.uint16), FULL), small >> 8)


def test_white_is_zero(tmp_path: Path) -> None:
    path = save(tmp_path / "xray.tif", RAMP * 16, tiffinfo={262: 0})
    with Image.open(path) as opened:
        assert opened.tag_v2[262] == 0  # type: ignore[attr-defined]
    np.testing.assert_array_equal(seen(path), 255 - (RAMP * 16 >> 8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"phone{suffix}", pixels, exif=exif)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))[..., 0]
    found = seen(path)
    assert found.shape == ((32, 48) if orientation < 5 else (48, 32))
    np.testing.assert_array_equal(found, expected)


def test_pages(tmp_path: Path) -> None:
    pages = [Image.new("L", (8, 8), value) for value in (10, 20, 30)]
    for name in ("pages.tif", "moving.gif", "moving.webp", "moving.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        with pytest.raises(ForgeError, match=f"{name} cannot be read as an image: it holds 3 pictures"):
            read_picture(tmp_path / name)
    small = Image.new("L", (4, 4))
    small.encoderinfo = {"tiffinfo": {254: 1}}  # a thumbnail, as pyramids of slides have
    pages[0].save(tmp_path / "pyramid.tif", save_all=True, append_images=[small])
    assert (seen(tmp_path / "pyramid.tif") == 10).all()


def colours_of_sixteen_bits(path: Path, value: int) -> Path:
    """A PNG of one pixel: Pillow reads such files and writes none."""
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + struct.pack(">3H", *[value] * 3))), (b"IEND", b"")]
    whole = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + whole)
    return path


def test_sixteen_bit_colours_tell_their_range(tmp_path: Path) -> None:
    png = colours_of_sixteen_bits(tmp_path / "deep.png", 4095)
    ppm = tmp_path / "deep.ppm"
    ppm.write_bytes(b"P6 2 1 65535\n" + np.array([4095] * 6, ">u2").tobytes())
    for path in (png, ppm):
        values = read_picture(path).values
        assert values is not None and values[1] < 2**13
        with pytest.raises(ForgeError, match="16-bit colours, which --grey cannot scale"):
            read_picture(path, (0, 4095))
    assert read_picture(colours_of_sixteen_bits(png, 65535), FULL).values == FULL[1:] * 2


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_thirty_two_bits_need_a_range(tmp_path: Path, kind: type) -> None:
    path = save(tmp_path / "ct.tif", np.linspace(-1000, 1000, 64).reshape(8, 8).astype(kind))
    with pytest.raises(ForgeError, match=r"ct\.tif .*--grey LOW HIGH"):
        read_picture(path)
    levels = seen(path, (-160, 240))
    assert levels.min() == 0 and levels.max() == 255 and 100 < np.median(levels) < 255


def test_pixels_that_are_no_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "nan.tif", np.full((4, 4), np.nan, np.float32))
    with pytest.raises(ForgeError, match=r"nan\.tif .*no numbers"):
        read_picture(path, (0, 1))


@pytest.mark.parametrize("grey", [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_a_range_that_is_none(grey: tuple[float, float]) -> None:
    with pytest.raises(ForgeError, match="is no range"):
        check_grey(grey)


def test_what_other_programs_are_for_is_not_started(tmp_path: Path) -> None:
    for name in ("EPS", "PDF", "DDS", "ICO"):
        Image.new("RGB", (16, 16)).save(tmp_path / "picture.png", name)
        with pytest.raises(ForgeError, match=r"picture\.png cannot be read as an image"):
            read_picture(tmp_path / "picture.png")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "JPEG2000", "PPM", "TGA", "WEBP", "DICOM"]),
    places=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_spoilt_pictures_are_read_or_named(tmp_path: Path, name: str, places: list[tuple[int, int]]) -> None:
    buffer = io.BytesIO()
    if name == "DICOM":
        dicom(RAMP[:10, :10], WindowCenter=2000, WindowWidth=4000).save_as(buffer, enforce_file_format=True)
    else:
        Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(buffer, name)
    data = bytearray(buffer.getvalue())
    for place, value in places:
        data[place % len(data)] = value
    path = tmp_path / ("spoilt.dcm" if name == "DICOM" else "spoilt.png")
    path.write_bytes(data)
    try:
        assert read_picture(path).image.mode == "RGB"
    except ForgeError as error:
        assert str(path) in error.message and error.hint and "remove" not in error.hint


def dicom(pixels: np.ndarray, photometric: str = "MONOCHROME2", **fields: Any) -> pydicom.Dataset:
    """A DICOM picture written by pydicom."""
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = photometric
    made.BitsAllocated = made.BitsStored = pixels.dtype.itemsize * 8
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    made.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def write_dicom(path: Path, *arguments: Any, **fields: Any) -> Path:
    dicom(*arguments, **fields).save_as(path, enforce_file_format=True)
    return path


def test_dicom_by_its_window(tmp_path: Path) -> None:
    """A CT: stored values from 0, Hounsfield units by the rescaling, a window from -160 to 240."""
    stored = np.arange(0, 4096).reshape(64, 64).astype(np.int16)
    window = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    path = write_dicom(tmp_path / "ct.dcm", stored, **window)
    units = stored.astype(float) - 1024
    expected = np.clip((units - (40 - 0.5)) / 399 + 0.5, 0, 1) * 255  # the formula of the standard (PS3.3 C.11.2.1.2)
    np.testing.assert_allclose(seen(path), expected, atol=1.01)
    assert read_picture(path).values is None
    given_range = read_picture(path, (-160, 240))
    assert given_range.values == (-1024, 3071)
    np.testing.assert_allclose(
        np.asarray(given_range.image)[..., 0], np.clip((units + 160) / 400 * 256, 0, 255), atol=1
    )


def test_dicom_where_white_is_zero(tmp_path: Path) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    usual = seen(write_dicom(tmp_path / "a.dcm", RAMP, **window))
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "b.dcm", RAMP, "MONOCHROME1", **window)), 255 - usual)


def test_dicom_in_colours_and_eight_bits(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (10, 12, 3), np.uint8)
    found = read_picture(write_dicom(tmp_path / "c.dcm", colours, "RGB"))
    np.testing.assert_array_equal(np.asarray(found.image), colours)
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "g.dcm", colours[..., 0])), colours[..., 0])
    np.testing.assert_array_equal(seen(write_dicom(tmp_path / "1.2.840", colours[..., 0])), colours[..., 0])


def test_dicom_that_nobody_can_decide(tmp_path: Path) -> None:
    frames = np.concatenate([RAMP, RAMP])
    several = write_dicom(tmp_path / "frames.dcm", frames, NumberOfFrames=2, Rows=64)
    with pytest.raises(ForgeError, match=r"frames\.dcm .*it holds 2 frames"):
        read_picture(several)
    with pytest.raises(ForgeError, match=r"bare\.dcm .*no window; say with --grey LOW HIGH"):
        read_picture(write_dicom(tmp_path / "bare.dcm", RAMP))
    report = dicom(RAMP)
    del report.PixelData
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    with pytest.raises(ForgeError, match=r"report\.dcm .*without a picture"):
        read_picture(tmp_path / "report.dcm")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_picture_made_in_memory_is_read_as_one_from_a_file(tmp_path: Path, mode: str) -> None:
    made = Image.new("RGB", (9, 7), (200, 30, 60)).convert(mode)
    made.save(tmp_path / "picture.png")
    expected = np.asarray(read_picture(tmp_path / "picture.png").image)
    assert (np.asarray(picture_of(made).image) == expected).all()


@pytest.mark.parametrize("threads", [1, 4])
def test_many_pictures_in_their_order_with_the_errors_in_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """More than are read ahead; the limit of a picture's size holds in every thread, and filters are as before."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(pixels, "AT_ONCE", 16)
    paths = []
    for number in range(50):
        paths.append(tmp_path / f"{number}.png")
        side = 11 if number % 7 == 3 else 4  # of 121 pixels PIL only warns
        save(paths[-1], np.full((side, side, 3), number, np.uint8))
    paths[20].write_bytes(b"no picture")
    paths[40] = tmp_path / "missing.png"
    filters = list(warnings.filters)
    read = list(read_pictures(paths, threads=threads, change=lambda image: image.resize((2, 2))))
    assert warnings.filters == filters
    assert len(read) == 50
    for number, picture in enumerate(read):
        if number % 7 == 3 or number in (20, 40):
            assert isinstance(picture, ForgeError)
            assert paths[number].name in picture.message
        else:
            assert isinstance(picture, Picture)
            assert np.array_equal(np.asarray(picture.image), np.full((2, 2, 3), number, np.uint8))
