"""The tables, from the rows that are kept.

Everything starts from one long table with a line per row, task and split (`collect`). A *run* is one seed and one
order of merging; a figure is the mean over runs, and beside it stands their standard deviation. Averages over tasks
are taken within a run. Nothing here chooses by test figures: `choose` looks at validation alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from examples.paper.methods import METHODS, Merge, Method
from examples.paper.published import DATASETS, TABLE_1, TABLE_2, TABLE_3, TABLE_4, TASK_DATASETS, Figures
from forge.errors import ForgeError

IDENTITY = ["scenario", "seed", "method", "variant", "distillation", "adapter"]
COLUMNS = [*IDENTITY, "task", "split", "images", "accuracy", "auc", "cross_entropy", "seconds"]
RUN = ["scenario", "method", "distillation", "adapter", "seed", "variant"]
MEASURES = ("accuracy", "auc")
# Where all share a task, what is made for one of them is no bound.
SITE_TITLES = {"single": "A site's own adapter, mean over sites", "distilled": "Distilled data of one site, mean"}


def collect(folder: Path, fingerprint: str, scenarios: Collection[str], seeds: Collection[int]) -> pd.DataFrame:
    """Every kept row of this base, these scenarios and seeds, one line per task and split.

    Where a row was made twice, of other adapters or settings, the newer one counts. Raises ForgeError without any.
    """
    newest: dict[tuple[object, ...], dict[str, object]] = {}
    for path in sorted(folder.glob("row-*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        kept = json.loads(path.read_text(encoding="utf-8"))
        row = kept["notes"]["row"]
        if kept["inputs"][0] == fingerprint and row["scenario"] in scenarios and row["seed"] in seeds:
            newest[tuple(row[name] for name in IDENTITY)] = kept["notes"]
    lines = [
        {**notes["row"], "task": task, "split": split, **figures, "seconds": notes["seconds"]}  # type: ignore[dict-item]
        for notes in newest.values()
        for task, splits in notes["tasks"].items()  # type: ignore[attr-defined]
        for split, figures in splits.items()
    ]
    if not lines:
        raise ForgeError(f"{folder} holds no finished row to report", hint="run examples/paper/run")
    table = pd.DataFrame(lines, columns=COLUMNS).astype({"accuracy": float, "auc": float})
    table["place"] = table["method"].map({name: number for number, name in enumerate(METHODS)})
    return table.sort_values(["scenario", "place", "seed", "variant", "task", "split"]).drop(columns="place")


def runs(results: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """ACC and AUC per run and task, with "average" as one more task.

    What has one model per task (an adapter alone, distilled data only) is one run per seed. In multi-site, where
    the participants share a task, theirs are runs of their own.
    """
    lines = results[results["split"] == split].copy()
    apart = lines["method"].isin(["single", "distilled"]) & (lines["scenario"] != "multi-site")
    lines.loc[apart, "variant"] = ""
    tasks = lines.groupby(RUN)["task"].transform("nunique")
    lines = lines[tasks == tasks.groupby(lines["scenario"]).transform("max")]  # an unfinished run has no average
    average = lines.groupby(RUN, as_index=False)[list(MEASURES)].mean()
    average["task"] = "average"
    return pd.concat([lines[[*RUN, "task", *MEASURES]], average], ignore_index=True)


def bounds(results: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """The upper bound per scenario, seed and task: single-task LoRAs, or one adapter on all sites' raw images."""
    of = runs(results, split)
    single = of[(of["method"] == "single") & (of["scenario"] != "multi-site")]
    pooled = of[(of["method"] == "pooled") & (of["scenario"] == "multi-site")]
    chosen = pd.concat([single, pooled])
    return chosen[chosen["adapter"] == "lora"][["scenario", "seed", "task", *MEASURES]]


def shares(results: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """Every run's average ACC and AUC as shares of the bound of the same seed (columns share, auc_share)."""
    of, bound = runs(results, split), bounds(results, split)
    joined = of.merge(bound, on=["scenario", "seed", "task"], suffixes=("", "_bound"))
    joined["share"] = joined["accuracy"] / joined["accuracy_bound"]
    joined["auc_share"] = joined["auc"] / joined["auc_bound"]
    return joined


def summarise(results: pd.DataFrame, by: Sequence[str] = ("method",), split: str = "test") -> pd.DataFrame:
    """Mean and standard deviation over runs, a line per `by`, columns "TASK accuracy", "TASK accuracy std", ...

    Also "runs", "seeds", and where there is a bound "share" and "share std" of its average ACC.
    """
    of = runs(results, split)
    lines = []
    joined = shares(results, split)
    for key, part in of.groupby(list(by), sort=False):
        line: dict[str, object] = dict(zip(by, key, strict=True))
        overall = part[part["task"] == "average"]
        line |= {"runs": len(overall), "seeds": overall["seed"].nunique()}
        for task in [*sorted(set(part["task"]) - {"average"}, key=_task_place), "average"]:
            for measure in MEASURES:
                values = part[part["task"] == task][measure]
                line[f"{task} {measure}"], line[f"{task} {measure} std"] = values.mean(), values.std(ddof=1)
        matching = joined[joined["task"] == "average"]
        for name, value in zip(by, key, strict=True):
            matching = matching[matching[name] == value]
        line["share"], line["share std"] = matching["share"].mean(), matching["share"].std(ddof=1)
        lines.append(line)
    return pd.DataFrame(lines)


def main_table(results: pd.DataFrame, scenario: str, distillation: str) -> pd.DataFrame:
    """Table 1, and its like of the other scenarios: a line per method, the paper's numbers beside ours."""
    chosen = results[
        (results["scenario"] == scenario)
        & (results["adapter"] == "lora")
        & results["distillation"].isin(["", distillation])
    ]
    if chosen.empty:
        return chosen
    table = _named(summarise(chosen))
    if scenario == "multi-site":
        table = _with_best_site(table, chosen)
    if scenario == "multi-task":
        for number, name in enumerate((*DATASETS, "average")):
            _beside(table, {method: figures[number] for method, figures in TABLE_1.items()}, f"paper {name}")
        bound = TABLE_1["single"][-1][0]
        table["paper share"] = [TABLE_1[m][-1][0] / bound if m in TABLE_1 else None for m in table["method"]]
    return table


def _with_best_site(table: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """A line more for multi-site: the adapter of the site that is best on test, picked anew for every seed."""
    alone = chosen[chosen["method"] == "single"]
    table["title"] = [SITE_TITLES.get(name, title) for name, title in zip(table["method"], table["title"], strict=True)]
    if alone.empty:
        return table
    of = runs(alone)
    overall = of[of["task"] == "average"]
    best = overall.loc[overall.groupby("seed")["accuracy"].idxmax(), ["seed", "variant"]]
    line = summarise(pd.concat([alone.merge(best, on=["seed", "variant"]), chosen[chosen["method"] == "pooled"]]))
    line = line[line["method"] == "single"]
    line.insert(1, "title", "The best site's adapter, picked on test")
    place = int(table.index[table["method"] == "single"][0]) + 1
    return pd.concat([table.iloc[:place], line, table.iloc[place:]], ignore_index=True)


def order_table(results: pd.DataFrame, distillation: str, scenario: str = "multi-task") -> pd.DataFrame:
    """Table 2: the average after each order of merging, and per method the spread over orders (max - min of ACC).

    Methods of which one order was run are left out. The last line of a method, "spread", is a mean over seeds.
    """
    of = runs(results[(results["scenario"] == scenario) & (results["adapter"] == "lora")])
    of = of[(of["task"] == "average") & (of["distillation"] == distillation)]
    lines = []
    for name, part in of.groupby("method", sort=False):
        how = METHODS[str(name)].how
        if not isinstance(how, Merge) or part["variant"].nunique() < 2:
            continue
        paper = METHODS[str(name)].group == "paper"
        for order, runs_of in part.groupby("variant", sort=False):
            published = TABLE_2.get(str(order), {}).get(how.strategy) if paper and scenario == "multi-task" else None
            line = {"method": name, "title": METHODS[str(name)].title, "order": order, "seeds": len(runs_of)}
            for measure in MEASURES:
                line[f"average {measure}"] = runs_of[measure].mean()
                line[f"average {measure} std"] = runs_of[measure].std(ddof=1)
            line |= _published(published, "paper average")
            lines.append(line)
        by_seed = part.groupby("seed")
        spread = {"method": name, "title": METHODS[str(name)].title, "order": "spread", "seeds": by_seed.ngroups}
        for measure in MEASURES:
            difference = by_seed[measure].max() - by_seed[measure].min()
            spread[f"average {measure}"], spread[f"average {measure} std"] = difference.mean(), difference.std(ddof=1)
        if paper and scenario == "multi-task":
            known = [figures[how.strategy] for figures in TABLE_2.values() if how.strategy in figures]
            if known:
                ranges = [max(f[n] for f in known) - min(f[n] for f in known) for n in (0, 1)]
                spread |= _published((ranges[0], ranges[1]), "paper average")
        lines.append(spread)
    return pd.DataFrame(lines)


def distillation_table(results: pd.DataFrame) -> pd.DataFrame:
    """Table 3: distilled data only, and merges, by method of distillation."""
    chosen = results[(results["scenario"] == "multi-task") & (results["adapter"] == "lora")]
    methods = [name for name, part in chosen.groupby("method", sort=False) if part["distillation"].nunique() > 1]
    chosen = chosen[chosen["method"].isin(methods) & (chosen["distillation"] != "")]
    if chosen.empty:
        return chosen
    table = _named(summarise(chosen, ["distillation", "method"]), ["distillation"])
    for measure, number in (("accuracy", 0), ("auc", 1)):
        values = []
        for distillation, name in zip(table["distillation"], table["method"], strict=True):
            key = _table_3_key(METHODS[name])
            figures = TABLE_3.get(distillation, {}).get(key) if key else None
            values.append(figures[number] if figures else None)
        table[f"paper average {measure}"] = values
    return table


def dora_table(results: pd.DataFrame, distillation: str) -> pd.DataFrame:
    """Table 4: the same methods with DoRA, and with LoRA for comparison, in the same orders."""
    chosen = results[(results["scenario"] == "multi-task") & results["distillation"].isin(["", distillation])]
    doras = chosen[chosen["adapter"] == "dora"]
    if doras.empty:
        return doras
    keys = ["seed", "method", "variant", "distillation"]
    alike = chosen.merge(doras[keys].drop_duplicates(), on=keys)
    table = _named(summarise(alike, ["adapter", "method"]), ["adapter"])
    dora = table["adapter"] == "dora"
    for measure, number in (("accuracy", 0), ("auc", 1)):
        table[f"paper average {measure}"] = [
            (TABLE_4 if is_dora else {name: TABLE_1[name][-1] for name in TABLE_1})[method][number]
            if method in TABLE_4
            else None
            for is_dora, method in zip(dora, table["method"], strict=True)
        ]
    return table


def choose(results: pd.DataFrame, distillation: str) -> pd.DataFrame:
    """Merged models ranked on *validation*: the mean over scenarios of average ACC as share of the bound.

    A method stands here once it was run in every scenario that there are results of. The first line is the best.
    """
    chosen = results[(results["adapter"] == "lora") & results["distillation"].isin(["", distillation])]
    of = shares(chosen, "validation")
    of = of[(of["task"] == "average") & of["method"].map(lambda name: METHODS[name].merged).astype(bool)]
    if of.empty:
        return of
    table = of.groupby(["method", "scenario"])[["share", "auc_share"]].mean().unstack("scenario")
    table = table.dropna(subset=[column for column in table.columns if column[0] == "share"])
    wide = pd.DataFrame({"method": table.index})
    wide["title"] = [METHODS[name].title for name in wide["method"]]
    for scenario in table["share"].columns:
        wide[f"{scenario} share"] = table["share"][scenario].to_numpy()
    wide["share"] = table["share"].mean(axis=1).to_numpy()
    wide["AUC share"] = table["auc_share"].mean(axis=1).to_numpy()
    return wide.sort_values(["share", "AUC share"], ascending=False, ignore_index=True)


def _named(table: pd.DataFrame, before: Sequence[str] = ()) -> pd.DataFrame:
    """With titles, in the registry's order (by `before` first)."""
    table.insert(table.columns.get_loc("method") + 1, "title", [METHODS[name].title for name in table["method"]])
    places = {name: number for number, name in enumerate(METHODS)}
    table["place"] = table["method"].map(places)
    return table.sort_values([*before, "place"], ignore_index=True).drop(columns="place")


def _beside(table: pd.DataFrame, published: dict[str, Figures], name: str) -> None:
    for number, measure in enumerate(MEASURES):
        table[f"{name} {measure}"] = [published[m][number] if m in published else None for m in table["method"]]


def _published(figures: Figures | None, name: str) -> dict[str, object]:
    return {f"{name} {measure}": figures[n] if figures else None for n, measure in enumerate(MEASURES)}


def _table_3_key(method: Method) -> str | None:
    if method.name == "distilled":
        return "distilled"
    return method.how.strategy if isinstance(method.how, Merge) and method.group == "paper" else None


def _task_place(task: str) -> tuple[int, str]:
    known = list(TASK_DATASETS)
    return (known.index(task) if task in known else len(known), task)
