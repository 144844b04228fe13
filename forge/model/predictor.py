"""A version of the model as a torch module: PIL images in, probabilities of label texts out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from forge.data.listing import ReadOptions
from forge.data.matching import check_texts
from forge.errors import ForgeError
from forge.model.base import BaseModel
from forge.model.composing import Model
from forge.model.images import Reader
from forge.model.label_texts import check_label_texts
from forge.model.scoring import outputs, probabilities
from forge.recipe.card import check_labels
from forge.text import same_labels


class Predictor(nn.Module):
    """The base with a recipe folded in for the time of each call.

    Its parameters are those of the base's frozen visual tower, which all models on one base share. `tasks` names the
    label texts that the recipe knows, by task.
    """

    def __init__(
        self,
        base: BaseModel,
        model: Model,
        tasks: Mapping[str, tuple[str, ...]],
        options_for: Callable[[tuple[str, ...]], ReadOptions] = lambda labels: ReadOptions(),
    ) -> None:
        """options_for: how pictures of a task with these labels are read, such as the grey range of its cards."""
        super().__init__()
        self.training = False
        self.tower = base.tower
        self.base, self.model, self.tasks, self.options_for = base, model, dict(tasks), options_for

    @property
    def labels(self) -> tuple[str, ...]:
        """The label texts of the only task. Raises ForgeError where there are several, or none."""
        if len(self.tasks) == 1:
            return next(iter(self.tasks.values()))
        known = ", ".join(self.tasks) or "no task yet"
        raise ForgeError(f"which labels? This version knows {known}", hint="give labels=[...], or task=...")

    def train(self, mode: bool = True) -> Predictor:
        """Nothing: the base is frozen, and other models share it."""
        return self

    def forward(self, pixels: Tensor, labels: Sequence[str]) -> Tensor:
        """What softmax turns into probabilities [n, classes], without gradients.

        pixels: [n, 3, h, w] at the base's size, uint8 or normalised.
        """
        return outputs(self.base, self.model, pixels, tuple(labels))

    def predict(
        self, images: Sequence[Any] | Any, labels: Sequence[str] | None = None, *, task: str | None = None
    ) -> Tensor:
        """The probability of each label for each PIL image [n, classes], float64, as `git forge predict` has it.

        images: several or one, of any size and mode. labels: the texts to choose among, or those of a task by its name;
        of the only task if neither is given. Raises ForgeError for labels that the base cannot tell apart, for a task
        that there is none, and for what is no image.
        """
        texts = self._texts(labels, task)
        check_label_texts(self.base, texts, "the labels")
        several = list(images) if isinstance(images, Sequence) else [images]
        if not several:
            return torch.empty(0, len(texts), dtype=torch.float64)
        reader = Reader(self.base, self.options_for(texts))
        pixels = torch.stack([reader.image(image, f"image {number}") for number, image in enumerate(several)])
        reader.depth("the images")
        return torch.from_numpy(probabilities(self.base, self.model, pixels, texts))

    def _texts(self, labels: Sequence[str] | None, task: str | None) -> tuple[str, ...]:
        if labels is not None and task is not None:
            raise ForgeError("labels and task say the same thing", hint="give one of them")
        if isinstance(labels, str):
            raise ForgeError(f"labels is one text, {labels!r}", hint="give the texts to choose among, in a list")
        if task is not None:
            if task not in self.tasks:
                known = ", ".join(self.tasks) or "none"
                raise ForgeError(f"this version knows no task {task!r}", hint=f"it knows: {known}")
            return self.tasks[task]
        if labels is None:
            return self.labels
        texts = check_labels(tuple(labels), "labels")
        if same_labels(texts) not in map(same_labels, self.tasks.values()):
            check_texts(texts, texts, "labels")
        return texts
