"""What the project set out to reach, and what it reached: every figure computed from the rows on test images.

Which merged model speaks for a strategy is chosen on validation (`tables.choose`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from examples.paper.methods import METHODS, ONE_MODEL, Merge
from examples.paper.tables import MEASURES, bounds, choose, runs, shares

PAPER = "{}-shiwa-contribution-cross-entropy"


@dataclass(frozen=True)
class Target:
    """One line. `wanted` is empty where a figure is only reported; `reached` NaN where rows are missing."""

    what: str
    paper: str
    wanted: str
    reached: float
    holds: bool | None
    note: str = ""


def target_table(results: pd.DataFrame, distillation: str) -> pd.DataFrame:
    """All targets, a line each."""
    here = results[results["distillation"].isin(["", distillation])]
    lora = here[here["adapter"] == "lora"]
    ranking = choose(results, distillation)
    best = {
        strategy: _first(ranking, lambda how, wanted=strategy: how.strategy == wanted)  # type: ignore[misc]
        for strategy in ONE_MODEL
    }
    top = str(ranking["method"].iloc[0]) if len(ranking) else ""
    targets = [
        _share(lora, best["mixture"], "best Mixture, share of the bound's ACC", ".944", 0.97),
        _share(lora, best["fusion"], "best Fusion, share of the bound's ACC", ".837", 0.94),
        _share(lora, PAPER.format("mixture"), "Mixture, the paper's own settings", ".944", None),
        _share(lora, PAPER.format("fusion"), "Fusion, the paper's own settings", ".837", None),
        *_ahead(lora, top),
        *_spreads(lora),
        *_distilled(lora),
        _dora(here, best["mixture"]),
        _task_aware(lora),
        *(target for strategy in reversed(ONE_MODEL) for target in _sites(lora, strategy, best[strategy])),
        *(_digits(lora, strategy, best[strategy]) for strategy in reversed(ONE_MODEL)),
    ]
    return pd.DataFrame([vars(target) for target in targets])


def _first(ranking: pd.DataFrame, wanted: Callable[[Merge], bool]) -> str:
    for name in ranking["method"] if len(ranking) else []:
        how = METHODS[str(name)].how
        if isinstance(how, Merge) and wanted(how):
            return str(name)
    return ""


def _share(lora: pd.DataFrame, method: str, what: str, paper: str, least: float | None) -> Target:
    reached = _mean_share(lora, "multi-task", method)
    wanted = "" if least is None else f">= {least:.2f}"
    return Target(f"multi-task: {what}", paper, wanted, reached, _at_least(reached, least), method)


def _mean_share(results: pd.DataFrame, scenario: str, method: str, task: str = "average") -> float:
    of = shares(results)
    of = of[(of["scenario"] == scenario) & (of["method"] == method) & (of["task"] == task)]
    return float(of["share"].mean())


def _ahead(lora: pd.DataFrame, top: str) -> list[Target]:
    """The best merged model against the best of the baselines that need no raw data, for each measure."""
    of = runs(lora)
    of = of[of["task"] == "average"]
    targets = []
    for scenario in ("multi-task", "multi-site", "digits"):
        means = of[of["scenario"] == scenario].groupby("method")[list(MEASURES)].mean()
        names = [name for name in means.index if METHODS[name].group == "baseline"]
        for measure, shown, paper in (("accuracy", "ACC", "+.08"), ("auc", "AUC", "")):
            reached, rival = math.nan, ""
            if names and top in means.index:
                rival = str(means.loc[names, measure].idxmax())
                reached = float(means.loc[top, measure] - means.loc[rival, measure])
            targets.append(
                Target(
                    f"{scenario}: best merged model ahead of every baseline without raw data, {shown}",
                    paper if scenario == "multi-task" else "",
                    "> 0",
                    reached,
                    None if math.isnan(reached) else reached > 0,
                    f"{top} against {rival}",
                )
            )
    return targets


def _spreads(lora: pd.DataFrame) -> list[Target]:
    """max - min of average ACC over orders, a mean over seeds: the one-by-one merge that is best on validation, and the
    worst joint one.
    """
    of = runs(lora)
    of = of[(of["task"] == "average") & (of["scenario"] == "multi-task")]
    merged = of[of["method"].map(lambda name: METHODS[name].merged).astype(bool)]
    counts = merged.groupby("method")["variant"].nunique()
    by_seed = merged.groupby(["method", "seed"])["accuracy"]
    spread = (by_seed.max() - by_seed.min()).groupby("method").mean()
    seen = shares(lora, "validation")
    seen = seen[(seen["scenario"] == "multi-task") & (seen["task"] == "average")]
    validated = seen.groupby("method")["share"].mean().to_dict()
    several = [name for name in counts.index if counts[name] > 1]
    hows = {name: METHODS[name].how for name in several}
    joint = [name for name, how in hows.items() if isinstance(how, Merge) and not how.sequential]
    one_by_one = [name for name, how in hows.items() if isinstance(how, Merge) and how.sequential]
    own = max(one_by_one, key=lambda name: validated.get(name, -math.inf), default="")
    worst = max(joint, key=lambda name: float(spread[name]), default="")
    first = float(spread[own]) if own else math.nan
    second = float(spread[worst]) if worst else math.nan
    return [
        Target("multi-task: spread over orders, one by one", ".038", "<= 0.005", first, _at_most(first, 0.005), own),
        Target("multi-task: spread over orders, joint", "", "<= 0.001", second, _at_most(second, 0.001), worst),
    ]


def _distilled(lora: pd.DataFrame) -> list[Target]:
    of = shares(lora)
    of = of[(of["scenario"] == "multi-task") & (of["method"] == "distilled")]
    overall = float(of[of["task"] == "average"]["share"].mean())
    by_task = of[of["task"] != "average"].groupby("task")["share"].mean()
    least = float(by_task.min()) if len(by_task) else math.nan
    worst = str(by_task.idxmin()) if len(by_task) else ""
    what = "multi-task: distilled data only, share of the bound"
    return [
        Target(what, ".897", ">= 0.93", overall, _at_least(overall, 0.93), "average"),
        Target(f"{what}, the least of the tasks", "", ">= 0.88", least, _at_least(least, 0.88), worst),
    ]


def _dora(here: pd.DataFrame, method: str) -> Target:
    of = runs(here)
    of = of[(of["scenario"] == "multi-task") & (of["method"] == method) & (of["task"] == "average")]
    wide = of.pivot_table(index=["seed", "variant"], columns="adapter", values="accuracy").dropna()
    reached = float((wide["dora"] - wide["lora"]).mean()) if {"dora", "lora"} <= set(wide.columns) else math.nan
    holds = None if math.isnan(reached) else abs(reached) <= 0.01 + 1e-12
    return Target("multi-task: DoRA Mixture against LoRA Mixture, ACC", "-.003", "within 0.01", reached, holds, method)


def _task_aware(lora: pd.DataFrame) -> Target:
    """The task-aware row that is best on validation."""
    names = [name for name in lora["method"].unique() if METHODS[name].group == "task-aware"]
    seen = shares(lora, "validation")
    seen = seen[(seen["scenario"] == "multi-task") & seen["method"].isin(names) & (seen["task"] == "average")]
    method = str(seen.groupby("method")["share"].mean().idxmax()) if len(seen) else ""
    reached = _mean_share(lora, "multi-task", method)
    what = "multi-task: task-aware, share of the bound"
    return Target(what, "", ">= 0.99", reached, _at_least(reached, 0.99), method)


def _sites(lora: pd.DataFrame, strategy: str, method: str) -> list[Target]:
    """Against the site that is best on test, picked by an oracle in every seed: the hardest comparison."""
    of = runs(lora)
    of = of[(of["scenario"] == "multi-site") & (of["task"] == "average")]
    single = of[of["method"] == "single"].groupby("seed")["accuracy"].max()
    merged = of[of["method"] == method].groupby("seed")["accuracy"].mean()
    pooled = of[of["method"] == "pooled"].groupby("seed")["accuracy"].mean()
    gain, share = float((merged - single).mean()), float((merged / pooled).mean())
    best = f"multi-site: best {strategy.title()}"
    return [
        Target(f"{best} against the best single site, ACC", "", ">= +0.04", gain, _at_least(gain, 0.04), method),
        Target(f"{best}, share of one adapter on all raw data", "", ">= 0.97", share, _at_least(share, 0.97), method),
    ]


def _digits(lora: pd.DataFrame, strategy: str, method: str) -> Target:
    bound = bounds(lora)
    known = len(bound[(bound["scenario"] == "digits") & (bound["task"] == "digits")]) > 0
    reached = _mean_share(lora, "digits", method, "digits") if known else math.nan
    what = f"digits: best {strategy.title()}, the digits' share of their bound after merging four"
    return Target(what, "", ">= 0.95", reached, _at_least(reached, 0.95), method)


def _at_least(value: float, least: float | None) -> bool | None:
    return None if least is None or math.isnan(value) else value >= least


def _at_most(value: float, most: float) -> bool | None:
    return None if math.isnan(value) else value <= most + 1e-12
