"""The paper's experiment on one scenario and one seed, in three stages whose results are all kept.

`adapters` trains, `distilled` distils, `merged` makes every row of the tables and evaluates it on validation and
test. Each stage makes what it finds missing of the ones before it, so that any of them can be run alone, in several
processes, and again after an interruption.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from forge.bench.adapters import participant_adapter
from forge.bench.baselines import lorahub, peft_combination, pooled_adapter, share_of, soup
from forge.bench.distilled import adapter_digest, as_task, distilled_only, participant_distilled
from forge.bench.kept import keep
from forge.bench.merges import Contribution, consolidated, merge_in_order, merge_inputs
from forge.bench.methods import (
    DISTILLATION_ROWS,
    DORA_ROWS,
    MAIN_ROWS,
    MOST_ORDERS,
    Combination,
    Consolidated,
    LoraHub,
    Merge,
    Method,
    Reference,
    matching,
    orders_of,
)
from forge.bench.scenarios import Participant, Scenario, images_digest
from forge.console import progress
from forge.model import distillation, training
from forge.model.adapters import Adapter, read_adapter
from forge.model.base import BaseModel
from forge.model.composing import BASE_ALONE, Model, Parts, compose
from forge.model.distillation import DistilledImages
from forge.model.merging import pooled_tasks
from forge.model.scoring import TaskImages, evaluate
from forge.model.search import SearchSettings

STAGES = ("adapters", "distilled", "merged")
DISTILLATIONS = ("teacher-points", "dc-dsa", "dm", "dm-dsa")
TWO_ORDERS = 2  # the given one and its reverse
REVERSED_TOO = ("fusion-joint-module-distillation", "mixture-joint-module-distillation")  # no order matters to them
EVERY_ORDER = tuple(
    f"{merge}-{objective}"
    for merge, objective in (
        ("fusion-shiwa-contribution", "cross-entropy"),
        ("mixture-shiwa-contribution", "cross-entropy"),
        ("mixture-exact-module", "distillation"),
    )
)


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
            settings = replace(settings, epochs=self.settings.epochs)
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
            steps = settings.epochs * sum(-(-len(task.targets) // settings.batch) for task in train)
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


def planned(scenario: Scenario, settings: ExperimentSettings, patterns: Sequence[str] = ()) -> list[tuple[Row, Method]]:
    """Every row of a scenario, the main table's first; then, for multi-task, those of Tables 3 and 4.

    Orders of merging are compared in the main table of multi-task (Table 2); elsewhere the first one stands for all.
    """
    one_task = len(scenario.test) == 1
    main = scenario.name == "multi-task"

    def rows(method: Method, distillation: str, adapter: str, orders: int) -> list[tuple[Row, Method]]:
        uses = distillation if _uses_distilled(method) else ""
        variants = _variants(method, scenario, orders)
        return [(Row(scenario.name, scenario.seed, method.name, v, uses, adapter), method) for v in variants]

    plan = []
    for method in matching(patterns):
        if method.group == "task-aware" and one_task:
            continue  # one label set: its coefficients are the shared ones
        plan += rows(method, settings.distillation, "lora", settings.orders if main else 1)
    if main:
        for name in settings.distillations:
            if name != settings.distillation:
                for method in matching(patterns, DISTILLATION_ROWS):
                    plan += rows(method, name, "lora", 1)
        if settings.dora:
            for method in matching(patterns, DORA_ROWS):
                plan += rows(method, settings.distillation, "dora", 1)
    return plan


def _uses_distilled(method: Method) -> bool:
    how = method.how
    return isinstance(how, Merge | Consolidated) or how in (LoraHub("distilled"), Reference("distilled"))


def _variants(method: Method, scenario: Scenario, orders: int) -> list[str]:
    names = [each.name for each in scenario.participants]
    if method.how in (Reference("single"), Reference("distilled")):
        return names
    if isinstance(method.how, Merge | Consolidated):
        most = orders if method.name in EVERY_ORDER else TWO_ORDERS if method.name in REVERSED_TOO else 1
        return [" > ".join(order) for order in orders_of(names, min(orders, most))]
    return [""]


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


def run_merged(experiment: Experiment, patterns: Sequence[str] = ()) -> None:
    """Stage three: every planned row, made, evaluated and kept."""
    plan = planned(experiment.scenario, experiment.settings, patterns or experiment.settings.rows)
    with progress(f"{experiment.scenario.name}, seed {experiment.scenario.seed}", len(plan)) as advance:
        for number, (row, method) in enumerate(plan, 1):
            notes, new = run_row(experiment, row, method)
            advance(1, row=row.method)
            if new:
                _say(row, notes, number, len(plan))


def run_row(experiment: Experiment, row: Row, method: Method) -> tuple[dict[str, Any], bool]:
    """A row's notes: per task and split the metrics, how the model was made; and whether it was made just now."""
    tasks = list(zip(experiment.scenario.validation, experiment.scenario.test, strict=True))
    if isinstance(method.how, Reference) and row.variant:  # an adapter of one label set
        labels = next(each.train.labels for each in experiment.participants if each.name == row.variant)
        tasks = [(seen, test) for seen, test in tasks if test.labels == labels]
    made = False

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        nonlocal made
        made = True
        started = time.monotonic()
        model, notes = _model(experiment, row, method)
        seconds = time.monotonic() - started
        figures = {
            test.task: {
                "validation": asdict(evaluate(experiment.base, model, seen)),
                "test": asdict(evaluate(experiment.base, model, test)),
            }
            for seen, test in tasks
        }
        return {}, {"row": asdict(row), "tasks": figures, "made": notes, "seconds": round(seconds, 2)}

    digests = [[experiment.tested(v, "validation"), experiment.tested(t, "test")] for v, t in tasks]
    inputs = [experiment.base.fingerprint, asdict(row), _inputs(experiment, row, method), digests]
    _, notes = keep(experiment.folder, "row", inputs, make)
    return dict(notes), made


def _inputs(experiment: Experiment, row: Row, method: Method) -> list[object]:
    """What a row's model follows from, besides the base."""
    how, settings = method.how, experiment.settings
    made_from: list[object] = [asdict(how)]
    if how == Reference("zero-shot"):
        return made_from
    if how == Reference("pooled"):
        return [*made_from, adapter_digest(experiment.pooled(row.adapter))]
    if how == Reference("distilled"):
        participant = experiment.scenario.participant(row.variant)
        adapter = experiment.distilled_only(row.distillation, participant, row.adapter)
        return [*made_from, adapter_digest(adapter)]
    if isinstance(how, Consolidated):
        return [*made_from, *merge_inputs(experiment.contributions(row), how.merge, settings.search)]
    if isinstance(how, Merge):
        return [*made_from, *merge_inputs(experiment.contributions(row), how, settings.search)]
    adapters = experiment.adapters(row.adapter)
    if how == Reference("single"):
        return [*made_from, adapter_digest(adapters[row.variant])]
    made_from += [adapter_digest(adapter) for adapter in adapters.values()]
    if isinstance(how, LoraHub):
        made_from.append(asdict(settings.search))
        made_from += [images_digest(task) for task in _lorahub_tasks(experiment, row, how)]
    return made_from


def _model(experiment: Experiment, row: Row, method: Method) -> tuple[Model | Parts, dict[str, Any]]:
    how, base = method.how, experiment.base
    if isinstance(how, Reference):
        return _reference(experiment, row, how), {}
    if isinstance(how, Merge):
        merged = merge_in_order(
            experiment.folder, base, experiment.contributions(row), how, experiment.settings.search
        )  # fmt: skip
        return merged.model, dict(merged.notes)
    if isinstance(how, Consolidated):
        contributions = experiment.contributions(row)
        merged = merge_in_order(experiment.folder, base, contributions, how.merge, experiment.settings.search)
        with progress("consolidating", how.steps) as advance:
            parts, notes = consolidated(base, merged, contributions, how.steps, lambda: advance(1))
        return parts, {**merged.notes, **notes}
    adapters = experiment.adapters(row.adapter)
    if isinstance(how, LoraHub):
        tasks = _lorahub_tasks(experiment, row, how)
        with progress("LoRAHub's search", experiment.settings.search.evaluations) as advance:
            found = lorahub(
                base, list(adapters.values()), tasks, experiment.settings.search,
                advance=lambda best: advance(1, objective=best),
            )  # fmt: skip
        named = dict(zip(adapters, found.point, strict=True))
        parts = compose("fusion", [(adapters[name], value) for name, value in named.items()])
        return parts, {"coefficients": named, "objective_after": found.objective}
    return _combined(experiment, list(adapters.values()), how), {}


def _reference(experiment: Experiment, row: Row, how: Reference) -> Parts:
    if how.kind == "zero-shot":
        return BASE_ALONE
    if how.kind == "pooled":
        adapter = experiment.pooled(row.adapter)
    elif how.kind == "single":
        adapter = experiment.adapters(row.adapter)[row.variant]
    else:
        participant = experiment.scenario.participant(row.variant)
        adapter = experiment.distilled_only(row.distillation, participant, row.adapter)
    return compose("mixture", [(adapter, 1.0)])


def _combined(experiment: Experiment, adapters: Sequence[Adapter], how: Combination) -> Parts:
    weight = 1 / len(adapters) if how.weight == "mean" else 1.0
    if how.kind == "soup":
        return soup(adapters)
    if how.kind in ("mean", "sum"):
        return compose("mixture", [(adapter, weight) for adapter in adapters])
    kind = how.kind.removeprefix("peft-")
    adapter = peft_combination(
        experiment.base, adapters, kind, weight, density=how.density, seed=experiment.scenario.seed
    )  # fmt: skip
    return compose("mixture", [(adapter, 1.0)])


def _lorahub_tasks(experiment: Experiment, row: Row, how: LoraHub) -> list[TaskImages]:
    if how.images == "distilled":
        return pooled_tasks(list(experiment.distilled_tasks(row.distillation).values()))
    share = experiment.settings.raw_share
    return pooled_tasks([share_of(each.train, share, each.seed) for each in experiment.participants])


def _say(row: Row, notes: dict[str, Any], number: int, total: int) -> None:
    """One line per finished row, also where nobody watches: a long run's log."""
    accuracies = [figures["test"]["accuracy"] for figures in notes["tasks"].values()]
    known = [figures["test"]["auc"] for figures in notes["tasks"].values() if figures["test"]["auc"] is not None]
    auc = f"{sum(known) / len(known):.3f}" if known else "-"
    about = " ".join(filter(None, (row.method, row.variant, row.distillation, row.adapter)))
    sys.stderr.write(
        f"{row.scenario} {row.seed} [{number}/{total}] {about}: ACC {sum(accuracies) / len(accuracies):.3f} "
        f"AUC {auc}, {notes['seconds']:.0f} s\n"
    )
    sys.stderr.flush()
