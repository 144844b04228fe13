"""What finding coefficients costs: git forge beside the way of the paper's released code, in turn, in one process.

    python -m examples.bench.searching

That way, written anew from what the paper and its code do (nevergrad, 40 evaluations, bounds of 1.5): each evaluation
reads every adapter from its file and puts it into the tower; all images go through it, and the labels through the text
tower. For Fusion and for Mixture at every layer that is one model an evaluation, for Mixture at the output one for each
contribution. Both look at the same images, on the embedded base.

Printed are CPU seconds (medians of the rounds), their ratio, and the mean cross-entropy over tasks that each reaches.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import nevergrad as ng
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from examples.bench.learnt import Learnt, make_contributions
from examples.bench.plain_way import every_token, timed
from forge.model.adapters import Adapter, read_adapter
from forge.model.base import BaseModel, load_base
from forge.model.composing import Members, folded
from forge.model.merging import Member, merge_members, pooled_tasks
from forge.model.scoring import TaskImages, mix_outputs, score_tasks
from forge.model.strategies import compose
from forge.recipe.settings import PAPER, SearchSettings
from forge.text import aligned

EVALUATIONS = 40
OUTPUT = "mixture-output"


def released(base: BaseModel, strategy: str, files: Sequence[Path], like: Sequence[Learnt]) -> list[float]:
    """Coefficients by the released way."""
    tasks = pooled_tasks(_images(base, like))
    with every_token(base):
        space = ng.p.Array(init=np.full(len(files), 0.5)).set_bounds(-1.5, 1.5)
        space.random_state.seed(0)
        optimizer = ng.optimizers.NGOpt(space, budget=EVALUATIONS, num_workers=1)
        for _ in range(EVALUATIONS):
            asked = optimizer.ask()
            loss = sum(float(_loss(base, strategy, files, like, asked.value, task)) for task in tasks) / len(tasks)
            optimizer.tell(asked, loss + 0.05 * float(np.abs(asked.value).mean()))
        return [float(value) for value in optimizer.provide_recommendation().value]


def _loss(
    base: BaseModel,
    strategy: str,
    files: Sequence[Path],
    like: Sequence[Learnt],
    coefficients: Sequence[float],
    task: TaskImages,
) -> Tensor:
    adapters = [_from_file(base, file, each) for file, each in zip(files, like, strict=True)]
    if strategy != OUTPUT:
        return F.cross_entropy(
            _outputs(base, list(zip(adapters, coefficients, strict=True)), strategy, task), task.targets
        )
    each = [_outputs(base, [(adapter, 1.0)], "mixture", task).softmax(-1) for adapter in adapters]
    total = torch.stack([float(c) * p for c, p in zip(coefficients, each, strict=True)]).sum(0)
    return F.nll_loss(total.clamp_min(1e-8).log(), task.targets)


def _from_file(base: BaseModel, file: Path, like: Learnt) -> Adapter:
    return read_adapter(like.config, load_file(file), base.tower, source=file.name)


def _outputs(base: BaseModel, members: Members, strategy: str, task: TaskImages) -> Tensor:
    """All images at once, and the labels through the text tower, as a plain loop has it."""
    ((delta, _),) = compose(strategy, members)
    with torch.no_grad(), folded(base.tower, delta):
        tokens = base.tokenizer(list(task.labels))
        texts = F.normalize(base.clip.encode_text(tokens), dim=-1)
        return base.logit_scale * F.normalize(base.tower(task.pixels), dim=-1) @ texts.T


def ours(base: BaseModel, strategy: str, settings: SearchSettings, like: Sequence[Learnt]) -> list[float]:
    """Coefficients by git forge."""
    members = [
        Member(each.name, each.adapter(base), 1.0, "theirs" if number == len(like) - 1 else "ours", images)
        for number, (each, images) in enumerate(zip(like, _images(base, like), strict=True))
    ]
    merged = merge_members(base, strategy, members, settings.fitted_to(strategy))
    return [float(merged.coefficients[each.name]) for each in like]  # type: ignore[arg-type]


def reached(base: BaseModel, strategy: str, coefficients: Sequence[float], like: Sequence[Learnt]) -> float:
    """The mean cross-entropy over tasks at the coefficients found; of a normalised mixture of outputs."""
    tasks = pooled_tasks(_images(base, like))
    adapters = [each.adapter(base) for each in like]
    if strategy != OUTPUT:
        scores = score_tasks(base, compose(strategy, list(zip(adapters, coefficients, strict=True))), tasks)
        return sum(score.cross_entropy for score in scores) / len(scores)
    weights = torch.tensor(coefficients).clamp_min(0)
    total = 0.0
    for task in tasks:
        each = torch.stack([_outputs(base, [(adapter, 1.0)], "mixture", task).log_softmax(-1) for adapter in adapters])
        total += float(F.cross_entropy(mix_outputs(each, weights), task.targets))
    return total / len(tasks)


def _images(base: BaseModel, like: Sequence[Learnt]) -> list[TaskImages]:
    return [replace(each.images, pixels=base.normalise(each.images.pixels)) for each in like]


def main() -> None:
    """Parse the command line, search in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    base = load_base("embedded")
    everybody = make_contributions(base, 10)
    searches: Mapping[str, SearchSettings] = {"paper": PAPER, "exact": replace(PAPER, method="exact")}
    rows = []
    with tempfile.TemporaryDirectory(prefix="git-forge-bench-") as name:
        files = []
        for number, each in enumerate(everybody):
            files.append(Path(name) / f"{number}.safetensors")
            save_file(each.tensors, files[-1])
        for strategy, count in (("fusion", 2), ("mixture", 2), (OUTPUT, 3), (OUTPUT, 10)):
            like = everybody[:count]
            seconds: dict[str, list[float]] = {key: [] for key in ("released", *searches)}
            losses = {}
            for turn in range(chosen.rounds):
                if turn == 0 or count < 10:  # ten contributions the released way take minutes, always as many
                    way = timed(partial(released, base, strategy, files[:count], like), seconds["released"])
                    losses["released"] = reached(base, strategy, way, like)
                for key, settings in searches.items():
                    base._texts.clear()  # what the labels are embedded as is part of the work
                    found = timed(partial(ours, base, strategy, settings, like), seconds[key])
                    losses[key] = reached(base, strategy, found, like)
                print(f"{strategy} of {count}: round {turn + 1} of {chosen.rounds}", file=sys.stderr)
            unit = median(seconds["released"])
            for key, runs in seconds.items():
                cpu = median(runs)
                rows.append(
                    [strategy, str(count), key, f"{cpu:.2f}", f"{min(runs):.2f}-{max(runs):.2f}",
                     f"{unit / cpu:.1f}", f"{losses[key]:.3f}"]
                )  # fmt: skip
    print(
        aligned(
            ["strategy", "of", "search", "CPU s", "lowest-highest", "x faster", "cross-entropy"], rows, {1, 3, 5, 6}
        )
    )


if __name__ == "__main__":
    main()
