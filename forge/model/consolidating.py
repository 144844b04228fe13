"""A short consolidation: a residual adapter that brings a merged model nearer to each of its contributions.

Coefficients can only weigh what the contributions learnt. A fresh LoRA on top of the merged weights is trained for a
few gentle steps, on distilled images alone, towards the targets of the distillation loss (objectives.py).

On test images the result was worse than the merged model: an accuracy of .863 (40 steps) against .873, over three
seeds (examples/paper/results, Table 1, "Mixture, joint, per module, distillation").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from forge.errors import ForgeError
from forge.model.adapters import Adapter, lora_config, plain_config, plain_delta
from forge.model.aims import LABEL_SHARE, Aim, colleagues, soft_targets, teacher_aims, total_loss
from forge.model.augmentation import IDENTITY, Augmentation, augment, draw
from forge.model.base import BaseModel
from forge.model.composing import Delta, folded
from forge.model.merging import Member
from forge.model.scoring import TaskImages, batch_size, logits

UNSEEN_DRAWS = 4


@dataclass(frozen=True)
class Consolidated:
    """PEFT's tensors and configuration of the residual LoRA, whose dW is added to the merged model's with weight 1.

    The objective is the distillation loss (nats), averaged over the distilled images as they are and under
    UNSEEN_DRAWS augmentations that the training did not see.
    """

    tensors: dict[str, Tensor]
    config: dict[str, object]
    objective_before: float
    objective_after: float


@dataclass(frozen=True)
class _Lesson:
    """What one contribution teaches in one step: some of its images, under one augmentation, and the soft targets."""

    index: Tensor
    augmentation: Augmentation
    answers: Tensor


def consolidate(
    base: BaseModel,
    model_delta: Delta,
    members: Sequence[Member],
    *,
    steps: int = 40,
    learning_rate: float = 5e-4,
    rank: int = 16,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Consolidated:
    """Train a residual LoRA of `rank` on top of the merged model, `model_delta` [out, in] per module.

    A step takes all distilled images of every contribution, or as many at random as one forward pass takes, under one
    siamese augmentation per contribution; what the teachers say is said of the augmented images too. AdamW
    under a cosine. B starts at zero, so the start is the merged model itself, and it is the result where the end is
    no better. The same seed gives the same tensors. `advance` is called after every step. The base is left as it was,
    also on Ctrl-C. Raises ForgeError where there is nothing to learn from, or the merged model gives no finite output.
    """
    if not members:
        raise ForgeError("a consolidation learns from contributions, and there are none")
    teachers = [(member.adapter, member.images) for member in members]
    aims = _judging_aims(base, teachers, seed)
    generator = torch.Generator().manual_seed(seed)
    lessons = [
        _lessons(base, member, colleagues(teachers, member.images.labels), steps, generator) for member in members
    ]
    with folded(base.tower, model_delta):
        before = total_loss(base, aims)
        if not math.isfinite(before):
            raise ForgeError(
                "the merged model gives no finite output on the distilled images", hint="run git forge verify"
            )
        residual = _Residual(base, rank, seed)
        try:
            start = residual.tensors()
            residual.train(members, lessons, learning_rate, advance)
            end, after = residual.tensors(), total_loss(base, aims)
        finally:
            residual.unload()
    better = after < before  # never where it is NaN
    return Consolidated(end if better else start, residual.config, before, after if better else before)


def _judging_aims(base: BaseModel, teachers: Sequence[tuple[Adapter, TaskImages]], seed: int) -> list[Aim]:
    """What start and end are compared by.

    The coefficients were searched on the images as they are, so on those alone nearly every training looks worse,
    also one that does better on real images.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    draws = [IDENTITY, *(draw(generator) for _ in range(UNSEEN_DRAWS))]
    aims = []
    for operation in draws:
        seen = [
            (adapter, replace(images, pixels=augment(base.prepare(images.pixels), operation)))
            for adapter, images in teachers
        ]
        aims += [replace(aim, share=aim.share / len(draws)) for aim in teacher_aims(base, seen)]
    return aims


class _Residual:
    """A fresh LoRA in the tower as it stands, until `unload`."""

    def __init__(self, base: BaseModel, rank: int, seed: int) -> None:
        from peft import get_peft_model

        config = lora_config(rank=rank, alpha=rank, dropout=0.0, modules=base.tower.plugin_modules)
        self.config, self.base = plain_config(config), base
        with torch.random.fork_rng(devices=[]):  # PEFT's initialisation draws from the global generator
            torch.manual_seed(seed)
            self.model = get_peft_model(base.tower, config)

    def train(
        self,
        members: Sequence[Member],
        lessons: Sequence[Sequence[_Lesson]],
        learning_rate: float,
        advance: Callable[[], None],
    ) -> None:
        """One AdamW step per round of lessons [members][steps]; one forward pass at a time is held in memory."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
        steps = len(lessons[0])
        for step, lessons_now in enumerate(zip(*lessons, strict=True)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.zero_grad()
            for member, lesson in zip(members, lessons_now, strict=True):
                texts = self.base.text_embeddings(member.images.labels)
                embedded = F.normalize(self.model(_images(self.base, member, lesson)), dim=-1)
                given = (self.base.logit_scale * embedded @ texts.T).log_softmax(-1)
                loss = -(lesson.answers * given).sum(-1).mean() / len(members)
                loss.backward()
            optimizer.step()
            advance()

    def tensors(self) -> dict[str, Tensor]:
        """A copy of PEFT's tensors as they are now."""
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def unload(self) -> None:
        """The tower without the LoRA, frozen again."""
        self.model.unload()
        self.base.tower.eval().requires_grad_(False)


def _lessons(
    base: BaseModel, member: Member, teachers: Sequence[Adapter], steps: int, generator: torch.Generator
) -> list[_Lesson]:
    """A contribution's lessons for every step, all found at once: each teacher is folded in once."""
    count, limit = len(member.images.targets), batch_size(member.images.pixels)
    drawn = [
        _Lesson(torch.randperm(count, generator=generator)[:limit], draw(generator), torch.empty(0))
        for _ in range(steps)
    ]
    answers_by_lesson: list[list[Tensor]] = [[] for _ in drawn]
    for teacher in teachers:
        with folded(base.tower, plain_delta(teacher)):
            for lesson, answers in zip(drawn, answers_by_lesson, strict=True):
                answers.append(logits(base, _images(base, member, lesson), member.images.labels).softmax(-1))
    targets = member.images.targets
    return [
        replace(lesson, answers=soft_targets(targets[lesson.index.to(targets.device)], answers, LABEL_SHARE))
        for lesson, answers in zip(drawn, answers_by_lesson, strict=True)
    ]


def _images(base: BaseModel, member: Member, lesson: _Lesson) -> Tensor:
    pixels = member.images.pixels
    return augment(base.prepare(pixels[lesson.index.to(pixels.device)]), lesson.augmentation)
