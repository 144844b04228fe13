"""A tiny CLIP, and small folders laid out as the data sets are released; a picture's colour says which it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from forge.model.base import BaseModel, load_base
from forge.model.scoring import TaskImages

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.3], "interpolation": "bicubic"},
}

Colour = tuple[int, int, int]
Paint = Callable[..., Path]
MakeRelease = Callable[..., Path]

# Some of the real slides: an id with letters, one without, and the patient who has two types of tumour.
SLIDES = {
    "benign": {
        "adenosis": ("A", ["14-22549AB", "14-22549CD", "14-22549G"]),
        "phyllodes_tumor": ("PT", ["14-21998AB", "14-22704"]),
        "tubular_adenoma": ("TA", ["14-4659", "14-16184"]),
    },
    "malignant": {
        "ductal_carcinoma": ("DC", ["14-2523", "14-2980", "14-5287", "14-13412"]),
        "lobular_carcinoma": ("LC", ["14-12204", "14-13412"]),
        "papillary_carcinoma": ("PC", ["14-9146", "14-15704"]),
    },
}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("base")
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = open_clip.CLIP(**CONFIG["model_cfg"])
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors", {"format": "pt"})
    torch.set_num_threads(1)
    return load_base(str(folder))


@pytest.fixture(scope="session")
def paint() -> Paint:
    """paint(path, colour, size): a picture of one colour, without loss whatever it is called."""

    def make(path: Path, colour: Colour, size: tuple[int, int] = (20, 20)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path, format="PNG")
        return path

    return make


@pytest.fixture(scope="session")
def colours() -> Callable[[TaskImages], list[Colour]]:
    """colours(images): what each picture was painted with."""

    def read(images: TaskImages) -> list[Colour]:
        flat = images.pixels.flatten(2)
        assert torch.equal(flat, flat[:, :, :1].expand_as(flat))
        return [(int(red), int(green), int(blue)) for red, green, blue in flat[:, :, 0]]

    return read


@pytest.fixture
def make_breakhis(paint: Paint) -> MakeRelease:
    """make_breakhis(root, patches): 7 benign slides and 8 malignant ones; the colour is (class, slide, patch)."""

    def make(root: Path, patches: int = 3, order: Sequence[str] = ("benign", "malignant")) -> Path:
        for name in order:
            slides = [(kind, letters, slide) for kind, (letters, ids) in SLIDES[name].items() for slide in ids]
            for number, (kind, letters, slide) in enumerate(slides):
                top = root / "BreaKHis_v1/histology_slides/breast" / name / "SOB" / kind
                for magnification in (40, 100):
                    folder = top / f"SOB_{name[0].upper()}_{letters}_{slide}" / f"{magnification}X"
                    for patch in range(patches):
                        file = f"SOB_{name[0].upper()}_{letters}-{slide}-{magnification}-{patch + 1:03}.png"
                        paint(folder / file, (list(SLIDES).index(name), number, patch if magnification == 40 else 99))
        return root

    return make


@pytest.fixture
def make_lc25000(paint: Paint) -> MakeRelease:
    """make_lc25000(root, count): the colour is (class, image, 0), the classes numbered as their folders are sorted."""

    def make(root: Path, count: int = 10) -> Path:
        top = root / "lung_colon_image_set"
        for number, name in enumerate(("lung_aca", "lung_n", "lung_scc")):
            for image in range(count):
                file = f"{name.replace('_', '')}{image + 1}.jpeg"
                paint(top / "lung_image_sets" / name / file, (number, image, 0))
        for name in ("colon_aca", "colon_n"):
            paint(top / "colon_image_sets" / name / f"{name.replace('_', '')}1.jpeg", (99, 99, 99))
        return root

    return make


@pytest.fixture
def make_colon(paint: Paint) -> Callable[..., dict[str, int]]:
    """make_colon(images, first, regions, patches): the targets of new images by name.

    The colour is (target, region, patch). Regions are numbered from `first`, the odd ones with tumour; names are
    like the released ones, spaces included.
    """

    def make(images: Path, first: int, regions: int, patches: int = 2) -> dict[str, int]:
        targets = {}
        for region in range(first, first + regions):
            for patch in range(patches):
                name = f"2019-{region:05}-1-1_2019-05-28 23_17_50-lv1-{region}-9759-6526-5268p{patch:04}.png"
                targets[name] = region % 2
                paint(images / name, (region % 2, region, patch))
        return targets

    return make
