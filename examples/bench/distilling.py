"""What distilling costs, and what it gives: git forge beside the way of the paper's released code, in one process.

    python -m examples.bench.distilling

That way, written anew from the paper (MedForge (2025), Algorithm 1): each step draws a LoRA at random, puts the
same augmentation on real and synthetic images, matches class means, moves the pixels and updates the LoRA, every batch
in the tower at once. First some of its steps with the paper's settings are held against the same steps by git forge
(`--method dm-dsa`). Then it runs, with the settings for small bases, as long as git forge's default method and longer:
how good a fresh adapter becomes on each set of images alone is what the time has brought.

The embedded base, generated tissue, accuracy and AUC on test images; CPU seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from examples.bench.plain_way import every_token, generated_images, timed
from forge.model.adapters import Adapter, plain_delta, read_adapter
from forge.model.augmentation import augment, draw
from forge.model.base import BaseModel, load_base
from forge.model.distillation import (
    DistilledImages,
    DistillSettings,
    as_images,
    default_settings,
    distil,
    fit_on_distilled,
    quantise,
)
from forge.model.random_adapters import random_adapter
from forge.model.scoring import Metrics, TaskImages, evaluate
from forge.model.training import default_settings as training_settings
from forge.model.training import train_adapter
from forge.recipe.catalogue import DM_DSA
from forge.text import aligned

IMAGES = {"train": 800, "validation": 200, "test": 1000}
EQUAL_STEPS = 12  # of the paper's settings, whose 5000 take hours
LONGER = (1.0, 5.0)  # times the seconds of git forge's default


def released(base: BaseModel, real: TaskImages, settings: DistillSettings, goes_on: Callable[[int], bool]) -> Tensor:
    """Synthetic pixels [classes * ipc, 3, h, w] by Algorithm 1, for as long as `goes_on` says of the steps done."""
    classes = len(real.labels)
    targets = torch.arange(classes).repeat_interleave(settings.ipc)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(len(targets), 3, *base.image_size, generator=generator).requires_grad_()
    optimizer: torch.optim.Optimizer = torch.optim.Adam([pixels], settings.pixel_rate)
    if settings.optimizer == "sgd":
        optimizer = torch.optim.SGD([pixels], settings.pixel_rate, momentum=0.5)
    members = [torch.nonzero(real.targets == number).flatten() for number in range(classes)]
    done = 0
    with random_adapter(base, settings) as network:
        while goes_on(done):
            network.redraw(generator)
            operation = draw(generator)
            loss = torch.zeros(())
            for number in range(classes):
                chosen = members[number][torch.randperm(len(members[number]), generator=generator)]
                with torch.no_grad():
                    batch = base.normalise(real.pixels[chosen[: settings.real_batch]])
                    mean = network.embed(augment(batch, operation)).mean(0)
                loss = (
                    loss + (network.embed(augment(pixels[targets == number], operation)).mean(0) - mean).square().sum()
                )
            (pixels.grad,) = torch.autograd.grad(loss, [pixels])
            optimizer.step()
            network.update(augment(pixels.detach(), operation), targets, real.labels)
            done += 1
    return pixels.detach()


def judged(base: BaseModel, stored: DistilledImages, like: TaskImages, test: TaskImages) -> Metrics:
    """What a fresh adapter, trained on these images alone, reaches on test images."""
    return evaluate(base, plain_delta(fit_on_distilled(base, as_images(base, stored, like), steps=150, seed=0)), test)


def main() -> None:
    """Parse the command line, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["breast", "lung", "colon"], metavar="TASK")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    base = load_base("embedded")
    rows = []
    for task in chosen.tasks:
        train, validation, test = (generated_images(task, split, count) for split, count in IMAGES.items())
        rows += _equal_steps(base, task, train, validation)
        rows += _by_result(base, task, train, validation, test)
        print(f"{task} is done", file=sys.stderr)
    print(aligned(["task", "way", "CPU s", "times ours", "ACC alone", "AUC alone"], rows, {2, 3, 4, 5}))


def _equal_steps(base: BaseModel, task: str, train: TaskImages, validation: TaskImages) -> list[list[str]]:
    settings = replace(default_settings("paper", DM_DSA.name), steps=EQUAL_STEPS, judge_points=0)
    plain: list[float] = []
    ours: list[float] = []
    for _ in range(3):
        with every_token(base):
            timed(lambda: released(base, train, settings, lambda done: done < EQUAL_STEPS), plain)
        timed(lambda: distil(base, train, validation, settings), ours)
    (first, second) = (sorted(each)[1] for each in (plain, ours))
    what = f"{EQUAL_STEPS} steps as in the paper"
    return [
        [task, f"{what}, released way", f"{first:.1f}", f"{first / second:.1f}", "", ""],
        [task, f"{what}, git forge", f"{second:.1f}", "1.0", "", ""],
    ]


def _for_seconds(seconds: float) -> Callable[[int], bool]:
    until = time.process_time() + seconds
    return lambda done: time.process_time() < until


def _by_result(
    base: BaseModel, task: str, train: TaskImages, validation: TaskImages, test: TaskImages
) -> list[list[str]]:
    trained = train_adapter(base, train, validation, training_settings("small"))
    adapter: Adapter = read_adapter(trained.config, trained.tensors, base.tower, source=task)
    seconds: list[float] = []
    defaults = replace(default_settings("small"), judge_points=0)
    stored = timed(lambda: distil(base, train, validation, defaults, adapter=adapter), seconds)
    reached = judged(base, stored, train, test)
    rows = [[task, "git forge's default", f"{seconds[0]:.1f}", "1.0", f"{reached.accuracy:.3f}", f"{reached.auc:.3f}"]]
    settings = replace(default_settings("small", DM_DSA.name), judge_points=0)
    targets = torch.arange(len(train.labels)).repeat_interleave(settings.ipc)
    for times in LONGER:
        with every_token(base):
            pixels = released(base, train, settings, _for_seconds(times * seconds[0]))
        reached = judged(base, quantise(base, pixels, targets), train, test)
        rows.append(
            [task, "released way, small settings", f"{times * seconds[0]:.1f}", f"{times:.1f}",
             f"{reached.accuracy:.3f}", f"{reached.auc:.3f}"]
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
