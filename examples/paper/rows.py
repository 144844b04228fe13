"""The rows of the tables: which there are for a scenario, and each made, evaluated on validation and test, and kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from examples.paper.baselines import lorahub, peft_combination, share_of, soup
from examples.paper.experiment import Experiment, ExperimentSettings, Row
from examples.paper.kept import keep
from examples.paper.merges import consolidated, merge_in_order, merge_inputs
from examples.paper.methods import (
    DISTILLATION_ROWS,
    DORA_ROWS,
    Combination,
    Consolidated,
    LoraHub,
    Merge,
    Method,
    Reference,
    matching,
    orders_of,
)
from examples.paper.scenarios import Scenario, images_digest
from forge.console import progress
from forge.model.adapters import Adapter, adapter_digest
from forge.model.composing import BASE_ALONE, Model, Parts, alone
from forge.model.merging import pooled_tasks
from forge.model.scoring import TaskImages, evaluate
from forge.model.strategies import compose
from forge.recipe.catalogue import FUSION, MIXTURE

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
            result = lorahub(
                base, list(adapters.values()), tasks, experiment.settings.search,
                advance=lambda best: advance(1, objective=best),
            )  # fmt: skip
        named = dict(zip(adapters, result.point, strict=True))
        parts = compose(FUSION.name, [(adapters[name], value) for name, value in named.items()])
        return parts, {"coefficients": named, "objective_after": result.objective}
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
    return alone(adapter)


def _combined(experiment: Experiment, adapters: Sequence[Adapter], how: Combination) -> Parts:
    weight = 1 / len(adapters) if how.weight == "mean" else 1.0
    if how.kind == "soup":
        return soup(adapters)
    if how.kind in ("mean", "sum"):
        return compose(MIXTURE.name, [(adapter, weight) for adapter in adapters])
    kind = how.kind.removeprefix("peft-")
    adapter = peft_combination(
        experiment.base, adapters, kind, weight, density=how.density, seed=experiment.scenario.seed
    )  # fmt: skip
    return alone(adapter)


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
