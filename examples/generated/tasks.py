"""Tissue-like classification tasks with a latent severity, and scikit-learn's digits, as image arrays.

Each tissue task draws two latent axes around its class's place with noise, so that no classifier can be perfect,
and has a stain of its own. The label texts are those of MedForge (2025), Section 4, in alphabetical order, so that
folders named after them sort in the order of the class numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from examples.generated.painting import Bytes, Floats, Integers, blur, normal, to_bytes, uniform, upscale
from examples.generated.tissue import Tissue, absorb, make_stain
from forge.errors import ForgeError

SPLITS: Final = ("train", "validation", "test")
LATENT_NOISE: Final = 0.22
# Brightness of the digits' ground and strokes; as white on black, the base knows seven in ten without an adapter.
_PAPER: Final = 0.85
_PENCIL: Final = 0.35


@dataclass(frozen=True)
class _TissueTask:
    number: int
    labels: tuple[str, ...]
    # Where each class lies: (severity, form). Form is the lung's second axis: keratin at 0, glands at 1.
    places: tuple[tuple[float, float], ...]
    nuclear: tuple[float, float, float]
    ground: tuple[float, float, float]


_TISSUE: Final[dict[str, _TissueTask]] = {
    "breast": _TissueTask(
        1,
        ("benign breast tissues", "malignant breast tumors"),
        ((0.18, 0.5), (0.82, 0.5)),
        (0.95, 1.08, 0.40),
        (0.10, 0.62, 0.30),
    ),
    "lung": _TissueTask(
        2,
        ("benign lung tissues", "lung adenocarcinomas", "lung squamous cell carcinomas"),
        ((0.05, 0.60), (0.88, 0.93), (0.88, 0.07)),
        (1.08, 0.92, 0.34),
        (0.18, 0.50, 0.20),
    ),
    "colon": _TissueTask(
        3,
        ("negative colon tumor", "positive colon tumor"),
        ((0.18, 0.5), (0.82, 0.5)),
        (0.84, 1.12, 0.56),
        (0.08, 0.56, 0.42),
    ),
}
TASKS: Final = (*_TISSUE, "digits")
DIGIT_LABELS: Final = tuple(f"the digit {digit}" for digit in range(10))


@dataclass(frozen=True)
class Site:
    """How one hospital's laboratory and scanner change an image; every part is drawn once from the site's number."""

    nuclear: Floats  # factors on the stains' absorption, [3] each
    ground: Floats
    gain: Floats  # colour balance of the scanner, [3]
    offset: float
    blur: float  # pixels
    noise: float


def make_site(number: int) -> Site:
    """The site of a number: the same everywhere, unlike any other."""
    rng = np.random.default_rng([7001, number])
    return Site(
        nuclear=np.exp(normal(rng, 0.25, 3)),
        ground=np.exp(normal(rng, 0.35, 3)),
        gain=np.exp(normal(rng, 0.07, 3)),
        offset=float(rng.uniform(-0.08, 0.05)),
        blur=float(rng.uniform(0, 0.6)),
        noise=float(rng.uniform(0.03, 0.09)),
    )


def task_labels(name: str) -> tuple[str, ...]:
    """The label texts of a task, in the order of its class numbers."""
    if name == "digits":
        return DIGIT_LABELS
    return _tissue_task(name).labels


def _tissue_task(name: str) -> _TissueTask:
    if name not in _TISSUE:
        raise ForgeError(f"no generated task is called '{name}'", hint=f"the tasks are {', '.join(TASKS)}")
    return _TISSUE[name]


def make_task(
    name: str, split: str, count: int, seed: int, site: int | None = None
) -> tuple[Bytes, Integers, tuple[str, ...]]:
    """Images uint8 [count, 32, 32, 3], class numbers int64 [count] and the label texts of a task.

    Classes are as equal in number as can be, in random order. Splits of one seed are drawn from separate streams.
    `site` gives the stain and scanner of another hospital (tissue tasks only). 'digits' are scikit-learn's 1,797,
    dealt out once and for all, whatever the seed: 597 are for test, 200 for validation and 1,000 for training, of
    which `seed` picks `count`. Raises ForgeError for an unknown name, for no images, or more than a split holds.
    """
    if split not in SPLITS:
        raise ForgeError(f"no split is called '{split}'", hint=f"the splits are {', '.join(SPLITS)}")
    if count < 1:
        raise ForgeError(f"a task needs at least one image, not {count}")
    if name == "digits":
        return _digits(split, count, seed)
    task = _tissue_task(name)
    rng = np.random.default_rng([task.number, SPLITS.index(split), seed, 0 if site is None else site + 1])
    labels = rng.permutation(np.arange(count) % len(task.labels)).astype(np.int64)
    tissue = _latents(rng, name, task, labels)
    stain = make_stain(rng, count, task.nuclear, task.ground, jitter=0.07)
    if site is None:
        return to_bytes(absorb(rng, tissue, stain, noise=0.06)), labels, task.labels
    lab = make_site(site)
    stain = type(stain)(stain.nuclear * lab.nuclear, stain.ground * lab.ground)
    images = absorb(rng, tissue, stain, noise=0.0)
    images = blur(images, np.full(count, lab.blur, dtype=np.float32)) * lab.gain + np.float32(lab.offset)
    return to_bytes(images + normal(rng, lab.noise, images.shape)), labels, task.labels


def _latents(rng: np.random.Generator, name: str, task: _TissueTask, labels: Integers) -> Tissue:
    """What the images of these classes look like, given severity and form with LATENT_NOISE on each."""
    count = len(labels)
    places = np.array(task.places, dtype=np.float32)[labels] + normal(rng, LATENT_NOISE, (count, 2))
    severity, form = places[:, 0], places[:, 1]

    def near(value: Floats | float) -> Floats:
        return np.asarray(np.clip(value + normal(rng, 0.1, count), 0, 1), dtype=np.float32)

    none = np.zeros(count, dtype=np.float32)
    if name == "breast":
        return Tissue(
            density=near(0.3 + 0.42 * severity),
            size=near(0.3 + 0.12 * severity),
            variety=near(0.05 + 0.85 * severity),
            darkness=near(0.35 + 0.3 * severity),
            glands=near(0.75 - 0.6 * severity),
            disorder=near(0.1 + 0.8 * severity),
            fibres=near(0.9 - 0.8 * severity),
            keratin=none,
        )
    if name == "lung":
        # Glands or keratin tell the two carcinomas apart, severity both from benign tissue.
        return Tissue(
            density=near(0.15 + 0.6 * severity),
            size=near(0.15 + 0.55 * severity),
            variety=near(0.15 + 0.6 * severity),
            darkness=near(0.3 + 0.4 * severity),
            glands=near(-0.05 + 0.95 * form),
            disorder=near(0.2 + 0.7 * severity),
            fibres=near(0.3),
            keratin=np.clip((0.75 - form) * np.clip(severity, 0, 1) * 1.1, 0, 1).astype(np.float32),
        )
    return Tissue(
        density=near(0.35 + 0.4 * severity),
        size=near(0.3 + 0.35 * severity),
        variety=near(0.15 + 0.6 * severity),
        darkness=near(0.35 + 0.4 * severity),
        glands=near(0.9 - 0.35 * severity),
        disorder=near(0.05 + 0.95 * severity),
        fibres=uniform(rng, 0, 0.4, count),
        keratin=none,
    )


def _digits(split: str, count: int, seed: int) -> tuple[Bytes, Integers, tuple[str, ...]]:
    """scikit-learn's handwritten digits (8x8, 16 grey levels): enlarged, as pencil on grey paper."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    dealt = np.random.default_rng(4).permutation(len(labels))
    first, last = {"test": (0, 597), "validation": (597, 797), "train": (797, len(dealt))}[split]
    held = dealt[first:last]
    if count > len(held):
        raise ForgeError(f"the {split} split of the digits has {len(held)} images, not {count}")
    chosen = _balanced(np.random.default_rng([4, SPLITS.index(split), seed]), labels[held], count)
    ink = upscale((images[held[chosen]] / 16).reshape(-1, 8, 8).astype(np.float32))
    grey = _PAPER - (_PAPER - _PENCIL) * ink
    return to_bytes(np.repeat(grey[..., None], 3, axis=-1)), labels[held[chosen]].astype(np.int64), DIGIT_LABELS


def _balanced(rng: np.random.Generator, labels: Integers, count: int) -> Integers:
    """Positions of `count` labels: one of every class in turn while there are any, in random order."""
    order = rng.permutation(len(labels))
    turn = np.zeros(len(labels), dtype=np.int64)  # the how-manieth of its class each is
    for label in np.unique(labels):
        of_class = labels[order] == label
        turn[of_class] = np.arange(int(of_class.sum()))
    return np.asarray(rng.permutation(order[np.argsort(turn, kind="stable")][:count]), dtype=np.int64)
