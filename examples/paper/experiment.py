"""The paper's experiment on one scenario and one seed: adapters and distilled images, which are all kept.

Its stages are `adapters`, which trains, `distilled`, which distils, and `merged`, which makes every row of the tables
(`rows`). Each makes what it finds missing of the ones before it, so that any of them can be run alone, in several
processes, and again after an interruption.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from examples.paper.adapters import participant_adapter
from examples.paper.baselines import pooled_adapter
from examples.paper.distilled import as_task, distilled_only, participant_distilled
from examples.paper.kept import keep
from examples.paper.merges import Contribution
from examples.paper.methods import MAIN_ROWS, MOST_ORDERS
from examples.paper.scenarios import Participant, Scenario, images_digest
from forge.console import progress
from forge.model import distillation, training
from forge.model.adapters import Adapter, read_adapter
from forge.model.base import BaseModel
from forge.model.distillation import DistilledImages
from forge.model.merging import pooled_tasks
from forge.model.scoring import TaskImages
from forge.recipe.catalogue import DISTILLATION_METHODS, default_distillation
from forge.recipe.settings import SearchSettings

STAGES = ("adapters", "distilled", "merged")
# The one of small bases, which all tables but Table 3 stand on, comes first.
DISTILLATIONS = tuple(sorted(DISTILLATION_METHODS, key=lambda name: (name != default_distillation("small").name, name)))


@dataclass(frozen=True)
class ExperimentSettings:
    """What makes an experiment larger or smaller; None means the defaults of `git forge` for the base."""

    images: int | None = None  # of training and of test per participant at most; a fifth as many of validation
    epochs: int | None = None
    distill: tuple[tuple[str, Any], ...] = ()  # fields of DistillSettings that take other values
    distilled_steps: int | None = None  # of a fresh adapter on a distilled set alone
    distillation: str = DISTILLATIONS[0]  # the one that all tables but Table 3 stand on
    distillations: tuple[str, ...] = DISTILLATIONS
    dora: bool = True
    search: SearchSettings = field(default_factory=SearchSettings)
    raw_share: float = 0.1  # of everybody's images, for LoRAHub without distilled data
    orders: int = MOST_ORDERS
    rows: tuple[str, ...] = MAIN_ROWS  # patterns of the rows to make where the command line names none


QUICK = ExperimentSettings(
    images=60,
    epochs=2,
    distill=(("steps", 10), ("real_batch", 8), ("points", 2), ("ipc", 4)),
    distilled_steps=20,
    search=SearchSettings(evaluations=8),
    orders=2,
    rows=(
        *("zero-shot", "single", "pooled", "distilled", "soup", "mean", "sum", "lorahub*", "peft-*"),
        *("*-cross-entropy", "*-cross-entropy-task-aware"),
    ),
)


@dataclass(frozen=True)
class Row:
    """What a row of results is about. `variant` is an order of merging ("a > b") or a participant, else empty."""

    scenario: str
    seed: int
    method: str
    variant: str = ""
    distillation: str = ""
    adapter: str = "lora"


class Experiment:
    """One scenario and seed, with what its stages have made so far."""

    def __init__(self, folder: Path, base: BaseModel, scenario: Scenario, settings: ExperimentSettings) -> None:
        self.folder, self.base, self.settings = folder, base, settings
        self.scenario = shrunk(scenario, settings.images) if settings.images else scenario
        self._adapters: dict[str, dict[str, Adapter]] = {}
        self._distilled: dict[str, dict[str, DistilledImages]] = {}
        self._digests: dict[str, list[str]] = {}

    @property
    def participants(self) -> tuple[Participant, ...]:
        return self.scenario.participants

    def training(self, kind: str) -> training.TrainSettings:
        """Settings of git forge train for this base, as LoRA or DoRA."""
        settings = training.default_settings(self.base.settings_family)
        if self.settings.epochs is not None:
            settings = replace(settings, epochs=self.settings.epochs, steps=0)
        return replace(settings, dora=True) if kind == "dora" else settings

    def adapters(self, kind: str = "lora") -> dict[str, Adapter]:
        """Everybody's own adapter, by participant."""
        if kind not in self._adapters:
            settings = self.training(kind)
            made = {
                each.name: participant_adapter(self.folder, self.base, each, settings) for each in self.participants
            }
            self._adapters[kind] = made
        return self._adapters[kind]

    def pooled(self, kind: str = "lora") -> Adapter:
        """One adapter on everybody's raw images."""
        settings = replace(self.training(kind), seed=100 * self.scenario.seed + 99)
        train = pooled_tasks([each.train for each in self.participants])
        order = [task.labels for task in self.scenario.validation]
        train.sort(key=lambda task: order.index(task.labels))
        digests = [images_digest(each) for each in (*train, *self.scenario.validation)]

        def make() -> tuple[dict[str, Any], dict[str, Any]]:
            steps = settings.epochs_of(*train) * sum(settings.steps_of(task) for task in train)
            with progress("training on all raw images", steps) as advance:
                made = pooled_adapter(
                    self.base, train, self.scenario.validation, settings, advance=lambda note: advance(1, at=note)
                )
            return made.tensors, {"config": made.config, "validation": asdict(made.validation)}

        tensors, notes = keep(self.folder, "pooled", [self.base.fingerprint, asdict(settings), digests], make)
        return read_adapter(notes["config"], tensors, self.base.tower, source="the adapter on all raw images")

    def distilled(self, method: str) -> dict[str, DistilledImages]:
        """Everybody's distilled images, by participant."""
        if method not in self._distilled:
            settings = distillation.default_settings(self.base.settings_family, method)
            settings = replace(settings, **dict(self.settings.distill))
            adapters = self.adapters()
            self._distilled[method] = {
                each.name: participant_distilled(self.folder, self.base, each, adapters[each.name], settings)
                for each in self.participants
            }
        return self._distilled[method]

    def distilled_tasks(self, method: str) -> dict[str, TaskImages]:
        """The same as the tower takes them, by participant."""
        made = self.distilled(method)
        return {each.name: as_task(self.base, made[each.name], each.train) for each in self.participants}

    def distilled_only(self, method: str, participant: Participant, kind: str = "lora") -> Adapter:
        """A fresh adapter trained on a participant's distilled images alone."""
        made = self.distilled(method)[participant.name]
        steps = self.settings.distilled_steps
        if steps is None:
            steps = distillation.default_settings(self.base.settings_family).judge_steps
        return distilled_only(self.folder, self.base, participant, made, steps=steps, dora=kind == "dora")

    def contributions(self, row: Row) -> list[Contribution]:
        """What is merged in a row, in its order."""
        adapters, images = self.adapters(row.adapter), self.distilled_tasks(row.distillation)
        return [Contribution(name, adapters[name], images[name]) for name in row.variant.split(" > ")]

    def first_row(self, method: str, distillation: str) -> Row:
        """The row of a merge in the order in which the participants are listed."""
        order = " > ".join(each.name for each in self.participants)
        return Row(self.scenario.name, self.scenario.seed, method, order, distillation)

    def tested(self, images: TaskImages, split: str) -> str:
        """A name for images that rows are evaluated on."""
        known = self._digests.setdefault(f"{split} {images.task}", [])
        if not known:
            known.append(images_digest(images))
        return known[0]


def shrunk(scenario: Scenario, most: int) -> Scenario:
    """The same scenario with at most `most` images of training and test, a fifth as many (8 at least) of validation."""

    def cut(images: TaskImages, count: int) -> TaskImages:
        groups = None if images.groups is None else images.groups[:count]
        return TaskImages(images.task, images.labels, images.pixels[:count], images.targets[:count], groups)

    few = max(8, most // 5)
    return replace(
        scenario,
        participants=tuple(
            replace(each, train=cut(each.train, most), validation=cut(each.validation, few))
            for each in scenario.participants
        ),
        validation=tuple(cut(each, few) for each in scenario.validation),
        test=tuple(cut(each, most) for each in scenario.test),
    )


def run_adapters(experiment: Experiment) -> None:
    """Stage one: everybody's adapter, as LoRA and for Table 4 as DoRA, and one adapter on all raw images."""
    experiment.adapters()
    experiment.pooled()
    if experiment.settings.dora and experiment.scenario.name == "multi-task":
        experiment.adapters("dora")


def run_distilled(experiment: Experiment) -> None:
    """Stage two: everybody's distilled images, for Table 3 by every method, and what is learnt from each alone."""
    multi_task = experiment.scenario.name == "multi-task"
    methods = experiment.settings.distillations if multi_task else (experiment.settings.distillation,)
    for method in methods:
        for participant in experiment.participants:
            experiment.distilled_only(method, participant)
            if multi_task and experiment.settings.dora and method == experiment.settings.distillation:
                experiment.distilled_only(method, participant, "dora")
