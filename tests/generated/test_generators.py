"""The generators: seeded, well-formed, and saying in captions what is in the image."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from examples.generated.captioned import MIX, captioned_images, draw_tissue
from examples.generated.glyphs import NUMBER_WORDS, draw_glyphs
from examples.generated.painting import blur, shrink, upscale, with_article
from examples.generated.shapes import SHAPES, draw_shapes
from examples.generated.textures import draw_textures

DRAWERS = [draw_shapes, draw_textures, draw_glyphs, draw_tissue]


@pytest.mark.parametrize("draw", DRAWERS)
def test_images_are_bytes_with_one_caption_each(draw) -> None:
    images, captions = draw(np.random.default_rng(3), 40)
    assert images.shape == (40, 32, 32, 3)
    assert images.dtype == np.uint8
    assert len(captions) == 40
    assert all(caption == " ".join(caption.split()) and caption for caption in captions)
    assert (images.reshape(40, -1).std(axis=1) > 1).all(), "an empty picture"


@pytest.mark.parametrize("draw", DRAWERS)
def test_a_seed_gives_the_same_bytes(draw) -> None:
    first, second, other = (draw(np.random.default_rng(seed), 20) for seed in (5, 5, 6))
    assert first[0].tobytes() == second[0].tobytes() and first[1] == second[1]
    assert first[0].tobytes() != other[0].tobytes()


@pytest.mark.parametrize("draw", DRAWERS)
@pytest.mark.parametrize("count", [0, 1])
def test_few_images(draw, count: int) -> None:
    images, captions = draw(np.random.default_rng(0), count)
    assert images.shape == (count, 32, 32, 3)
    assert len(captions) == count


def test_the_mix_is_the_same_in_another_process() -> None:
    program = (
        "import hashlib; from examples.generated.captioned import captioned_images; d = captioned_images(7, 60); "
        "print(hashlib.sha256(d.images.tobytes() + chr(10).join(d.captions).encode()).hexdigest())"
    )
    runs = {
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_the_mix_holds_every_kind() -> None:
    data = captioned_images(1, 1200)
    assert data.images.shape == (1200, 32, 32, 3)
    assert sum(MIX.values()) == pytest.approx(1)
    shapes = sum(any(shape in caption for shape in SHAPES) for caption in data.captions)
    assert shapes / 1200 == pytest.approx(MIX["shapes"], abs=0.08)
    assert any("nuclei" in caption for caption in data.captions)
    assert any("stripes" in caption for caption in data.captions)


def test_generators_need_neither_torch_nor_sklearn() -> None:
    program = (
        "import sys; import examples.generated.captioned, examples.generated.tasks, examples.generated.image_folder; "
        "print(sorted({'torch', 'sklearn', 'scipy', 'open_clip', 'PIL'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "[]"


def test_shape_captions_name_the_colours_seen() -> None:
    images, captions = draw_shapes(np.random.default_rng(0), 300)
    corners = images[:, 1:3, 1:3].mean(axis=(1, 2))
    for corner, caption in zip(corners, captions, strict=True):
        if caption.endswith("a white background"):
            assert corner.min() > 180
        if caption.endswith("a black background"):
            assert corner.max() < 80


def test_glyph_captions_name_a_digit_and_ink_is_seen() -> None:
    images, captions = draw_glyphs(np.random.default_rng(0), 100)
    named = [any(word in caption for word in NUMBER_WORDS) or caption[-1].isdigit() for caption in captions]
    assert all(named)
    assert (images.max(axis=(1, 2, 3)).astype(int) - images.min(axis=(1, 2, 3)) > 40).mean() > 0.95


def test_dense_tissue_is_darker_than_sparse() -> None:
    images, captions = draw_tissue(np.random.default_rng(0), 800)
    dark = np.array([float((image.mean(axis=-1) < 110).mean()) for image in images])
    dense, few = (np.array([word in caption for caption in captions]) for word in ("dense", "few"))
    assert dark[dense].mean() > 2 * dark[few].mean()


def test_no_caption_says_what_the_tasks_ask() -> None:
    said = {word for caption in captioned_images(2, 2000).captions for word in caption.split()}
    assert not said & {"benign", "malignant", "carcinomas", "adenocarcinomas", "squamous", "positive", "negative"}


def test_upscale_keeps_a_plain_image_and_a_ramp() -> None:
    plain = np.full((2, 8, 8), 0.3, dtype=np.float32)
    assert upscale(plain) == pytest.approx(np.full((2, 32, 32), 0.3))
    ramp = np.broadcast_to((np.arange(8, dtype=np.float32) + 0.5) / 8, (1, 8, 8))
    expected = np.broadcast_to(np.clip((np.arange(32) + 0.5) / 32, 1 / 16, 15 / 16), (1, 32, 32))
    assert upscale(np.ascontiguousarray(ramp)) == pytest.approx(expected, abs=1e-6)


def test_shrink_takes_block_means() -> None:
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    assert shrink(image, 2)[0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_blur_spreads_a_point_by_its_deviation_and_keeps_its_sum() -> None:
    image = np.zeros((1, 32, 32, 1), dtype=np.float32)
    image[0, 16, 16] = 1
    out = blur(image, np.array([0.5], dtype=np.float32))[0, :, :, 0]
    assert out.sum() == pytest.approx(1, abs=1e-5)
    across = out.sum(axis=0)
    assert (across * (np.arange(32) - 16) ** 2).sum() == pytest.approx(0.25, abs=1e-5)


def test_article() -> None:
    assert with_article("orange bar") == "an orange bar"
    assert with_article("red bar") == "a red bar"
