"""Training a plugin module: PEFT's LoRA or DoRA on the frozen tower, best checkpoint on validation kept.

The best is the one with the lowest cross-entropy there (of a dozen images accuracy hardly tells epochs apart, and
adapters are merged that should be as sure as they are right); under a cosine the last, where the steps have come to
rest, unless validation clearly speaks against it.

A step's batch goes through the tower in the parts that a CPU's caches hold (scoring.in_batches), and several processes
take a share of it each (sharing.py): the gradients are those of the whole batch, but for the order of their sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from forge.errors import ForgeError
from forge.model.adapters import lora_config, plain_config
from forge.model.base import BaseModel
from forge.model.dropout import Place, use_own_dropout
from forge.model.precision import MIXED_PRECISIONS, precision
from forge.model.scoring import Score, TaskImages, batch_size, in_batches, score
from forge.model.sharing import own_part, summed_all
from forge.model.training_augmentation import chosen_augmentation, varied_at_random
from forge.recipe.catalogue import AUGMENT_AUTO, AUGMENT_CHOICES, AUGMENT_NONE
from forge.recipe.checks import check_between, check_choice, check_whole

Advance = Callable[[str], None]
FEW_CLASSES = 3


@dataclass(frozen=True)
class TrainSettings:
    """How a plugin module is trained; `default_settings` gives the two sets of defaults.

    A training lasts `epochs` or `steps`, whichever is more: few images need many epochs to be learnt at all. `steps`
    are for up to three classes; more take more, as the square root of their number.
    """

    optimizer: str  # "sgd" with momentum .9, or "adamw"; both under a cosine to zero for "cosine"
    learning_rate: float
    schedule: str  # "constant" or "cosine"
    weight_decay: float
    epochs: int
    batch: int
    steps: int = 0
    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.1
    seed: int = 0
    dora: bool = False  # a DoRA in place of a LoRA (MedForge (2025), Table 4)
    mixed_precision: str = "no"  # "bf16": the tower computes in 16 bits, weights and sums stay in 32
    augment: str = AUGMENT_NONE  # of training images, at random; "auto": as far as the base tells classes apart as well

    def __post_init__(self) -> None:
        check_choice(self.optimizer, "the optimizer", ("sgd", "adamw"))
        check_choice(self.schedule, "the schedule", ("constant", "cosine"))
        check_choice(self.mixed_precision, "the mixed precision", MIXED_PRECISIONS)
        check_choice(self.augment, "augment", AUGMENT_CHOICES)
        check_whole(self.epochs, "epochs", least=0)
        check_whole(self.steps, "steps", least=0)
        check_whole(self.batch, "batch", least=1)
        check_whole(self.rank, "rank", least=1, most=4096)
        check_whole(self.seed, "seed", least=0)
        for name in ("learning_rate", "alpha"):
            check_between(getattr(self, name), name, 0, open_ends="[")
        check_between(self.weight_decay, "weight_decay", 0)
        check_between(self.dropout, "dropout", 0, 1, open_ends="]")

    def epochs_of(self, *tasks: TaskImages) -> int:
        """How many epochs a training on these tasks at once lasts: each takes the steps that it would take alone."""
        in_one = sum(self.steps_of(task) for task in tasks)
        steps = sum(self.steps * math.sqrt(max(1, len(task.labels) / FEW_CLASSES)) for task in tasks)
        return max(self.epochs, math.ceil(steps / in_one)) if in_one else 0

    def steps_of(self, task: TaskImages) -> int:
        """How many steps an epoch of a task has."""
        return math.ceil(len(task.targets) / self.batch)


@dataclass(frozen=True)
class TrainedAdapter:
    """PEFT's tensors and configuration, the score on validation, the epoch it was reached in, the variations used."""

    tensors: dict[str, Tensor]
    config: dict[str, object]
    validation: Score
    epoch: int
    variations: tuple[str, ...] = ()


def default_settings(family: str) -> TrainSettings:
    """The paper's settings for ViT-B/16 (MedForge (2025), implementation details); ours for small towers."""
    if family == "small":
        return TrainSettings("adamw", 2e-3, "cosine", 0.01, epochs=3, batch=32, steps=160, augment=AUGMENT_AUTO)
    return TrainSettings("sgd", 0.01, "constant", 5e-4, epochs=100, batch=64)


def train_adapter(
    base: BaseModel,
    train: TaskImages,
    validation: TaskImages,
    settings: TrainSettings,
    *,
    advance: Advance = lambda note: None,
) -> TrainedAdapter:
    """Train a LoRA or DoRA on W_q, W_v and the visual projection by cross-entropy on the label similarities.

    Keeps the best epoch on validation (`is_better`), the earlier among equals. `advance` is called after
    every batch with a note for a progress bar. The base is left as it was, also on Ctrl-C. Raises ForgeError where
    training diverges.
    """
    from peft import get_peft_model, get_peft_model_state_dict

    generator = torch.Generator().manual_seed(settings.seed)
    best: tuple[Score, int, dict[str, Tensor]] | None = None
    variations = chosen_augmentation(base, train, settings.augment, settings.seed)
    epochs = settings.epochs_of(train)
    with torch.random.fork_rng(devices=[]):  # PEFT's initialisation and dropout draw from the global generator
        torch.manual_seed(settings.seed)
        config = lora_config(
            rank=settings.rank,
            alpha=settings.alpha,
            dropout=settings.dropout,
            modules=base.tower.plugin_modules,
            dora=settings.dora,
        )
        model = get_peft_model(base.tower, config)
        try:
            optimizer, scheduler = make_optimizer(model, settings, epochs * settings.steps_of(train))
            step = TrainStep(base, model, settings.mixed_precision, settings.dropout, settings.seed)
            for epoch in range(epochs):
                model.train()
                for index in torch.split(torch.randperm(len(train.targets), generator=generator), settings.batch):
                    pixels = varied_at_random(train.pixels[index], variations, generator)
                    optimizer.zero_grad()
                    loss = step(pixels, train.targets[index], train.labels)
                    optimizer.step()
                    scheduler.step()
                    advance(f"epoch {epoch + 1}, loss {loss:.3f}")
                model.eval()
                reached = score(base, validation)
                if not math.isfinite(reached.cross_entropy):
                    raise ForgeError(f"training diverged in epoch {epoch + 1}", hint="try a smaller --learning-rate")
                last = epoch + 1 == epochs and settings.schedule == "cosine"
                if best is None or is_better(reached, best[0], len(validation.targets), last):
                    state = {
                        k: v.detach().cpu().clone()
                        for k, v in get_peft_model_state_dict(model, save_embedding_layers=False).items()
                    }
                    best = (reached, epoch + 1, state)
        finally:
            model.unload()
            base.tower.eval().requires_grad_(False)
    if best is None:
        raise ForgeError("nothing was trained", hint="--epochs must be at least 1")
    reached, epoch, tensors = best
    return TrainedAdapter(tensors, plain_config(config), reached, epoch, variations)


def is_better(score: Score, best: Score, images: int, last: bool) -> bool:
    """Whether an epoch takes the place of the best so far, by their scores on so many images of validation.

    The last of a cosine does unless its accuracy is lower by two standard deviations of what so many images can tell;
    any other where its cross-entropy is lower.
    """
    if last and math.isfinite(score.cross_entropy):
        deviation = math.sqrt(best.accuracy * (1 - best.accuracy) / images)
        return score.accuracy >= best.accuracy - 2 * deviation
    return score.cross_entropy < best.cross_entropy


@dataclass
class TrainStep:
    """The gradients of one step: those of the mean cross-entropy of a whole batch, added to the parameters'.

    model: PEFT's, whose LoRA layers get dropout of our own, drawn from the seed.
    """

    base: BaseModel
    model: Any
    mixed_precision: str = "no"
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.place = Place(self.seed)
        use_own_dropout(self.model, self.dropout, self.place)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def __call__(self, pixels: Tensor, targets: Tensor, labels: tuple[str, ...]) -> float:
        """The loss of a batch [n, 3, h, w], uint8 or normalised; targets [n] index into the label texts."""
        count, own = len(targets), own_part(len(targets))
        texts = self.base.text_embeddings(labels)
        total = torch.zeros((), device=self.base.device)
        first = own.start
        for part, answers in _parts(self.base, pixels[own], targets[own]):
            self.place.first, self.place.images = first, len(answers)
            with precision(self.mixed_precision, self.base.device):
                embedded = self.model(self.base.prepare(part))
            similarity = F.normalize(embedded.float(), dim=-1) @ texts.T
            loss = F.cross_entropy(self.base.logit_scale * similarity, answers, reduction="sum") / count
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            first += len(answers)
        self.place.step += 1
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        *gradients, total = summed_all([*gradients, total])
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return float(total)


def _parts(base: BaseModel, pixels: Tensor, targets: Tensor) -> list[tuple[Tensor, ...]]:
    """What goes through the tower at once; a GPU takes all of it. None at all of an empty share."""
    if not len(targets):
        return []
    return list(in_batches(base, pixels, targets)) if base.device.type == "cpu" else [(pixels, targets)]


def fit_on_images(
    base: BaseModel,
    pixels: Tensor,
    targets: Tensor,
    labels: tuple[str, ...],
    *,
    steps: int,
    batch: int | None = None,
    learning_rate: float = 2e-3,
    seed: int = 0,
    augmentation: Callable[[Tensor, torch.Generator], Tensor] = lambda images, generator: images,
    advance: Callable[[], None] = lambda: None,
    dora: bool = False,
    mixed_precision: str = "no",
) -> dict[str, Tensor]:
    """A fresh LoRA (or DoRA) trained for `steps` AdamW steps on a few images; PEFT's tensors.

    A step takes `batch` images at random, all if not given, and never more than one forward pass takes (`batch_size`).
    This is how a distilled set is judged (MedForge (2025), "distilled data only"): counted in steps, because a set of
    60 images has no meaningful epochs.
    """
    from peft import get_peft_model, get_peft_model_state_dict

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = lora_config(rank=16, alpha=16, dropout=0.0, modules=base.tower.plugin_modules, dora=dora)
        model = get_peft_model(base.tower, config)
        try:
            parameters = [p for p in model.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
            train_step = TrainStep(base, model, mixed_precision)
            limit = min(batch or len(targets), batch_size(pixels))
            for step in range(steps):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
                index = torch.randperm(len(targets), generator=generator)[:limit]
                optimizer.zero_grad()
                train_step(augmentation(pixels[index], generator), targets[index], labels)
                optimizer.step()
                advance()
            return {
                k: v.detach().clone() for k, v in get_peft_model_state_dict(model, save_embedding_layers=False).items()
            }
        finally:
            model.unload()
            base.tower.eval().requires_grad_(False)


def make_optimizer(
    model: torch.nn.Module, settings: TrainSettings, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimizer of the trainable parameters and its schedule over `steps` steps."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer
    if settings.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            parameters, settings.learning_rate, momentum=0.9, weight_decay=settings.weight_decay
        )
    else:
        optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    if settings.schedule == "cosine":
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)
