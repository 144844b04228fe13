"""What the paper compares its merges with, and PEFT's own ways to combine adapters.

- ModelSoup (Wortsman et al., 2022), as MedForge (2025) uses it: the mean of the A's and of the B's;
- LoRAHub (Huang et al., 2023): A = sum_k w_k A_k, B = sum_k w_k B_k, all w_k searched at once without gradients;
- one adapter trained on everybody's raw images, which no merge may look at;
- PEFT's linear, cat, svd, ties and dare combinations, called through PEFT itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from forge.errors import ForgeError
from forge.formats.adapter import LORA_A, LORA_B, key_of
from forge.model.adapters import Adapter, lora_config, plain_config, read_adapter
from forge.model.base import BaseModel
from forge.model.composing import Parts
from forge.model.scoring import Score, TaskImages, score, score_tasks
from forge.model.searches.gradient_free import SearchResult, search
from forge.model.strategies import compose
from forge.model.training import Advance, TrainedAdapter, TrainSettings, TrainStep, is_better, make_optimizer
from forge.model.training_augmentation import chosen_augmentation, varied_at_random
from forge.recipe.catalogue import FUSION
from forge.recipe.settings import SearchSettings

PEFT_COMBINATIONS = ("linear", "cat", "svd", "ties", "dare_linear", "dare_ties")


def soup(adapters: Sequence[Adapter]) -> Parts:
    """ModelSoup: mean A, mean B; Fusion with every coefficient at 1/n."""
    return compose(FUSION.name, [(adapter, 1 / len(adapters)) for adapter in adapters])


def lorahub(
    base: BaseModel,
    adapters: Sequence[Adapter],
    tasks: Sequence[TaskImages],
    settings: SearchSettings,
    *,
    advance: Callable[[float], None] = lambda best: None,
) -> SearchResult:
    """LoRAHub's coefficients, one per adapter in their order: the search of the paper's merges, all at once.

    The objective is theirs too: cross-entropy averaged over `tasks`, plus L1.
    """

    def loss(point: tuple[float, ...]) -> float:
        parts = compose(FUSION.name, list(zip(adapters, point, strict=True)))
        return sum(score.cross_entropy for score in score_tasks(base, parts, tasks)) / len(tasks)

    return search(loss, len(adapters), settings, advance=advance)


def share_of(images: TaskImages, share: float, seed: int) -> TaskImages:
    """A random share of images, the same part of every class (at least one), drawn by `seed`."""
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for number in range(len(images.labels)):
        members = torch.nonzero(images.targets.cpu() == number).flatten()
        count = max(1, round(share * len(members)))
        kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return selected(images, torch.cat(kept).sort().values)


def selected(images: TaskImages, index: Tensor) -> TaskImages:
    """The images at these places."""
    groups = None if images.groups is None else images.groups[index]
    return TaskImages(images.task, images.labels, images.pixels[index], images.targets[index], groups)


def peft_combination(
    base: BaseModel, adapters: Sequence[Adapter], kind: str, weight: float, *, density: float = 0.5, seed: int = 0
) -> Adapter:
    """PEFT's `add_weighted_adapter` of LoRAs, every weight the same, read back as an adapter.

    `density` is the share of entries that ties and dare keep; dare drops at random, by `seed`. Raises ForgeError
    for DoRAs: PEFT would leave their magnitudes out.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    if any(module.magnitude is not None for adapter in adapters for module in adapter.values()):
        raise ForgeError(f"PEFT's {kind} combination leaves a DoRA's magnitude out", hint="combine LoRAs")
    names = [f"member{number}" for number in range(len(adapters))]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = None
        try:
            for name, adapter in zip(names, adapters, strict=True):
                first = next(iter(adapter.values()))
                # PEFT holds one scaling per adapter; read_adapter gave every module that of adapter_config.json.
                config = lora_config(
                    rank=first.rank, alpha=first.scaling * first.rank, dropout=0.0, modules=sorted(adapter)
                )
                if model is None:
                    model = get_peft_model(base.tower, config, adapter_name=name)
                else:
                    model.add_adapter(name, config)
                set_peft_model_state_dict(model, _peft_tensors(adapter), adapter_name=name)
            assert model is not None, "there is nothing to combine"
            model.base_model.add_weighted_adapter(
                names, [weight] * len(names), "combined", combination_type=kind,
                density=density if kind.startswith(("ties", "dare")) else None,
            )  # fmt: skip
            config = plain_config(model.peft_config["combined"])
            tensors = get_peft_model_state_dict(model, adapter_name="combined", save_embedding_layers=False)
        finally:
            if model is not None:
                model.unload()
            base.tower.eval().requires_grad_(False)
    return read_adapter(config, tensors, base.tower, source=f"PEFT's {kind} combination")


def _peft_tensors(adapter: Adapter) -> dict[str, Tensor]:
    tensors = {}
    for name, module in adapter.items():
        tensors[key_of(name, LORA_A)] = module.a
        tensors[key_of(name, LORA_B)] = module.b
    return tensors


def pooled_adapter(
    base: BaseModel,
    train: Sequence[TaskImages],
    validation: Sequence[TaskImages],
    settings: TrainSettings,
    *,
    advance: Advance = lambda note: None,
) -> TrainedAdapter:
    """One adapter trained on the raw images of several tasks, each batch of one task with that task's label texts.

    Settings, epochs and the choice of the best epoch are `train_adapter`'s, with means over tasks in place of one
    task's accuracy and cross-entropy. The tasks take turns in batches; what a longer one has more comes last.
    """
    from peft import get_peft_model, get_peft_model_state_dict

    generator = torch.Generator().manual_seed(settings.seed)
    varied = {task.task: chosen_augmentation(base, task, settings.augment, settings.seed) for task in train}
    best: tuple[Score, int, dict[str, Tensor]] | None = None
    with torch.random.fork_rng(devices=[]):  # PEFT's initialisation and dropout draw from the global generator
        torch.manual_seed(settings.seed)
        config = lora_config(
            rank=settings.rank,
            alpha=settings.alpha,
            dropout=settings.dropout,
            dora=getattr(settings, "dora", False),
        )
        model = get_peft_model(base.tower, config)
        try:
            epochs = settings.epochs_of(*train)
            steps = epochs * sum(settings.steps_of(task) for task in train)
            optimizer, scheduler = make_optimizer(model, settings, steps)
            step = TrainStep(base, model, settings.mixed_precision, settings.dropout, settings.seed)
            for epoch in range(epochs):
                model.train()
                for task, index in batches_in_turn(train, settings.batch, generator):
                    optimizer.zero_grad()
                    pixels = varied_at_random(task.pixels[index], varied[task.task], generator)
                    loss = step(pixels, task.targets[index], task.labels)
                    optimizer.step()
                    scheduler.step()
                    advance(f"epoch {epoch + 1}, loss {loss:.3f}")
                model.eval()
                reached = [score(base, task) for task in validation]
                accuracy = sum(each.accuracy for each in reached) / len(reached)
                cross_entropy = sum(each.cross_entropy for each in reached) / len(reached)
                if not math.isfinite(cross_entropy):
                    raise ForgeError(f"training on all raw images diverged in epoch {epoch + 1}")
                mean, count = Score(cross_entropy, accuracy), sum(len(task.targets) for task in validation)
                last = epoch + 1 == epochs and settings.schedule == "cosine"
                if best is None or is_better(mean, best[0], count, last):
                    found = get_peft_model_state_dict(model, save_embedding_layers=False)
                    tensors = {k: v.detach().cpu().clone() for k, v in found.items()}
                    best = (mean, epoch + 1, tensors)
        finally:
            model.unload()
            base.tower.eval().requires_grad_(False)
    if best is None:
        raise ForgeError("nothing was trained", hint="the number of epochs must be at least 1")
    mean, epoch, tensors = best
    return TrainedAdapter(tensors, plain_config(config), mean, epoch)


def batches_in_turn(
    tasks: Sequence[TaskImages], size: int, generator: torch.Generator
) -> list[tuple[TaskImages, Tensor]]:
    """One epoch: every image of every task once, in shuffled batches; one batch of each task, then the next of each."""
    shuffled = [torch.split(torch.randperm(len(task.targets), generator=generator), size) for task in tasks]
    return [
        (task, index)
        for turn in zip_longest(*shuffled)
        for task, index in zip(tasks, turn, strict=True)
        if index is not None
    ]
