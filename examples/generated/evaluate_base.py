"""Measures a base: `python -m examples.generated.evaluate_base [FOLDER]` prints the tables of MODEL_CARD.md.

Caption retrieval among new images; and for each task ACC and AUC of the base as it is and with a LoRA trained by
git forge's own defaults, on 500 test images that took no part in any choice.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch.nn import functional as F

from examples.generated.captioned import captioned_images
from examples.generated.tasks import TASKS, make_task
from forge.model.adapters import plain_delta, read_adapter
from forge.model.base import BaseModel, load_base
from forge.model.scoring import Metrics, TaskImages, evaluate
from forge.model.training import default_settings, train_adapter

COUNTS: Final = {"train": 1000, "validation": 200, "test": 500}
RETRIEVAL_IMAGES: Final = 1000
RETRIEVAL_SEED: Final = 10_001  # pretraining counts its seeds from 0


@dataclass(frozen=True)
class TaskFigures:
    """A task on its test images: the base alone, with a LoRA, and the seconds its training took."""

    task: str
    zero_shot: Metrics
    adapted: Metrics
    seconds: float


def as_task_images(base: BaseModel, task: str, split: str, seed: int, count: int | None = None) -> TaskImages:
    """A generated task's split as the base takes it."""
    images, classes, labels = make_task(task, split, count or COUNTS[split], seed)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return TaskImages(task, labels, base.normalise(pixels), torch.from_numpy(classes).to(base.device))


def measure_task(base: BaseModel, task: str, seed: int = 0) -> TaskFigures:
    """Train a LoRA with the defaults for this base and compare it with the base alone."""
    train, validation, test = (as_task_images(base, task, split, seed) for split in COUNTS)
    zero_shot = evaluate(base, {}, test)
    settings = replace(default_settings(base.settings_family), seed=seed)
    started = time.monotonic()
    trained = train_adapter(base, train, validation, settings)
    seconds = time.monotonic() - started
    adapter = read_adapter(trained.config, trained.tensors, base.tower, source=task)
    return TaskFigures(task, zero_shot, evaluate(base, plain_delta(adapter), test), seconds)


def retrieval(base: BaseModel) -> tuple[float, float]:
    """Top-1 and top-5: how often an image's own caption is among the nearest distinct captions of 1,000 new images."""
    data = captioned_images(RETRIEVAL_SEED, RETRIEVAL_IMAGES)
    distinct = sorted(set(data.captions))
    own = torch.tensor([distinct.index(caption) for caption in data.captions])
    pixels = base.normalise(torch.from_numpy(data.images).permute(0, 3, 1, 2))
    with torch.no_grad():
        seen = torch.cat([F.normalize(base.tower(part), dim=-1) for part in torch.split(pixels, 250)]).cpu()
    told = base.text_embeddings(tuple(distinct)).cpu()
    nearest = (seen @ told.T).topk(5, dim=1).indices == own[:, None]
    return float(nearest[:, 0].float().mean()), float(nearest.any(dim=1).float().mean())


def _pair(metrics: Metrics) -> str:
    return f"{metrics.accuracy:.3f} / {metrics.auc:.3f}" if metrics.auc is not None else f"{metrics.accuracy:.3f} / -"


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(description="Measure the embedded base, or the base in FOLDER.")
    parser.add_argument("base", nargs="?", default="embedded", metavar="FOLDER")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    base = load_base(chosen.base)
    top1, top5 = retrieval(base)
    print(f"Caption retrieval among {RETRIEVAL_IMAGES} new images: top-1 {top1:.3f}, top-5 {top5:.3f}\n")
    print("| task | zero-shot ACC / AUC | with a LoRA ACC / AUC |\n|---|---|---|")
    for task in chosen.tasks:
        figures = measure_task(base, task, chosen.seed)
        print(f"| {task} | {_pair(figures.zero_shot)} | {_pair(figures.adapted)} |", flush=True)
        print(f"{task}: {figures.seconds:.0f} s of training", file=sys.stderr)


if __name__ == "__main__":
    main()
