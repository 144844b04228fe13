"""MedMNIST v2 (Yang et al., 2023): any of its 2-D sets with one label an image, from its .npz files.

pathmnist.npz (28 x 28), pathmnist_64.npz, pathmnist_128.npz, pathmnist_224.npz
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from examples.paper.datasets.folders import folders_below
from examples.paper.datasets.splits import check_split
from forge.data.listing import has_split
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.images import load_images
from forge.model.scoring import TaskImages

SIZES = (28, 64, 128, 224)

_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip

# The names in medmnist's own info.py; retinamnist's are mere numbers there.
LABELS: dict[str, tuple[str, ...]] = {
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
        "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ),
    "tissuemnist": (
        "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
        "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments",
        "Thick Ascending Limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}  # fmt: skip


def find_medmnist(root: Path, name: str, base: BaseModel) -> Path:
    """`root` itself where it is a file; else the .npz of that set below it whose images suit the base best.

    That is the smallest size that need not be enlarged, or else the largest there is.
    """
    if root.is_file():
        return root
    layout = f"{name}.npz or {name}_224.npz"
    sizes = {size: f"{name}.npz" if size == SIZES[0] else f"{name}_{size}.npz" for size in SIZES}
    wanted = min(base.image_size)
    order = [size for size in SIZES if size >= wanted] + [size for size in reversed(SIZES) if size < wanted]
    folders = list(folders_below(root, dataset="MedMNIST", layout=layout))
    for size in order:
        for folder in folders:
            if (folder / sizes[size]).is_file():
                return folder / sizes[size]
    raise ForgeError(f"no {name} in {root} or below", hint=f"expected is {layout}, as medmnist.com offers them")


def load_medmnist(
    root: Path,
    base: BaseModel,
    name: str,
    *,
    split: str = "train",
    labels: Sequence[str] | None = None,
    seed: int = 0,
    per_class: int | None = None,
) -> TaskImages:
    """One released split of the set `name`; `labels` are the texts of classes 0, 1, ..., else medmnist's own names.

    The task is called `name`. `per_class` takes a seeded choice of that many images of each class; the whole split
    is read all the same, and 90,000 images of 224 x 224 take 27 GB while they are.
    """
    check_split(split)
    texts = tuple(labels) if labels is not None else LABELS.get(name, ())
    if not texts:
        raise ForgeError(
            f"no label texts are known for {name!r}", hint=f"give labels; they are known for {', '.join(LABELS)}"
        )
    path = find_medmnist(root, name, base)
    stored = "val" if split == "validation" else split
    if path.suffix == ".npz" and not has_split(path, stored):
        raise ForgeError(f"{path} has no {stored}_images that can be read", hint="fetch it again from medmnist.com")
    images = load_images(path, base, split=stored)
    values = torch.tensor([int(value) for value in images.classes])
    if int(values.min()) < 0 or int(values.max()) >= len(texts):
        raise ForgeError(
            f"{images.source} has the classes {', '.join(images.classes)}, but there are {len(texts)} label texts",
            hint="give one label for each class from 0 on",
        )
    if per_class is not None:
        images = images.subset(_at_most(images.targets, per_class, seed))
    # A split may lack a class, and the reader counts only those that are there: back to the set's own numbers.
    return TaskImages(name, texts, images.pixels, values[images.targets].to(base.device))


def _at_most(targets: torch.Tensor, per_class: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for target in sorted(set(targets.tolist())):
        members = torch.nonzero(targets == target).flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:per_class]])
    return torch.cat(chosen).sort().values
