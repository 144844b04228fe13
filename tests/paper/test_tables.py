"""Tables and targets from made-up results whose figures are known beforehand."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from examples.paper.published import TABLE_1, TABLE_2, TABLE_3, TABLE_4
from examples.paper.report import make_tables, markdown
from examples.paper.tables import (
    bounds,
    choose,
    collect,
    distillation_table,
    dora_table,
    main_table,
    order_table,
    runs,
    shares,
    summarise,
)
from examples.paper.targets import target_table
from forge.errors import ForgeError

POINTS = "teacher-points"
PAPER = "mixture-shiwa-contribution-cross-entropy"
WORSE = "fusion-shiwa-contribution-cross-entropy"
BEST = "mixture-joint-module-distillation"
FUSION = "fusion-joint-module-distillation"


class Kept:
    """Rows as an experiment keeps them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def row(
        self,
        method: str,
        accuracies: Mapping[str, float],
        *,
        scenario: str = "multi-task",
        seed: int = 0,
        variant: str = "",
        distillation: str = "",
        adapter: str = "lora",
        validation: float | None = None,
        base: str = "sha256:base",
    ) -> None:
        """AUC is ACC + .05; validation has the test's figures unless told otherwise."""
        row = {
            "scenario": scenario, "seed": seed, "method": method, "variant": variant, "distillation": distillation,
            "adapter": adapter,
        }  # fmt: skip

        def figures(accuracy: float) -> dict[str, Any]:
            return {"images": 10, "accuracy": accuracy, "auc": accuracy + 0.05, "cross_entropy": 0.5}

        tasks = {
            task: {"validation": figures(accuracy if validation is None else validation), "test": figures(accuracy)}
            for task, accuracy in accuracies.items()
        }
        notes = {"row": row, "tasks": tasks, "made": {}, "seconds": 1.5}
        path = self.folder / f"row-{self.count:04}.json"
        path.write_text(json.dumps({"stage": "row", "inputs": [base, row, self.count], "notes": notes}))
        os.utime(path, (self.count, self.count))
        self.count += 1

    def read(self) -> pd.DataFrame:
        return collect(self.folder, "sha256:base", ("multi-task", "multi-site", "digits"), range(3))


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def bound(kept: Kept, seeds: int = 2, **more: Any) -> None:
    for seed in range(seeds):
        for task, accuracy in (("breast", 0.9), ("lung", 0.8)):
            kept.row("single", {task: accuracy}, variant=task, seed=seed, **more)


def test_nothing_finished(tmp_path: Path) -> None:
    with pytest.raises(ForgeError, match="no finished row"):
        collect(tmp_path, "sha256:base", ("multi-task",), range(3))


def test_collect_takes_what_was_asked_for_and_the_newest(kept: Kept) -> None:
    kept.row("soup", {"breast": 0.1})
    kept.row("soup", {"breast": 0.2})
    kept.row("soup", {"breast": 0.3}, base="sha256:other")
    kept.row("soup", {"breast": 0.4}, seed=7)
    kept.row("zero-shot", {"breast": 0.5})
    table = kept.read()
    assert list(table["method"]) == ["zero-shot", "zero-shot", "soup", "soup"]  # the registry's order
    assert table[table["method"] == "soup"]["accuracy"].tolist() == [0.2, 0.2]
    assert set(table["split"]) == {"validation", "test"}


def test_an_auc_that_does_not_exist(kept: Kept) -> None:
    kept.row("soup", {"breast": 0.5})
    path = next(kept.folder.glob("row-*.json"))
    path.write_text(path.read_text().replace("0.55", "null"))
    line = main_table(kept.read(), "multi-task", POINTS).iloc[0]
    assert math.isnan(line["average auc"]) and line["average accuracy"] == 0.5


def test_runs_average_over_tasks_and_join_adapters_alone(kept: Kept) -> None:
    bound(kept, seeds=1)
    kept.row(BEST, {"breast": 0.8, "lung": 0.7}, variant="a > b", distillation=POINTS)
    of = runs(kept.read())
    averages = of[of["task"] == "average"].set_index("method")["accuracy"]
    assert averages["single"] == pytest.approx(0.85)
    assert averages[BEST] == pytest.approx(0.75)
    share = shares(kept.read()).set_index(["method", "task"])["share"]
    assert share[BEST, "average"] == pytest.approx(0.75 / 0.85)
    assert share[BEST, "lung"] == pytest.approx(0.7 / 0.8)


def test_an_unfinished_run_has_no_average(kept: Kept) -> None:
    bound(kept, seeds=1)
    kept.row("single", {"breast": 0.9}, variant="breast", seed=1)
    kept.row("zero-shot", {"breast": 0.5, "lung": 0.4})
    assert set(runs(kept.read())["seed"]) == {0}


def test_mean_and_deviation_over_seeds_and_orders(kept: Kept) -> None:
    values = {(0, "a > b"): 0.70, (0, "b > a"): 0.72, (1, "a > b"): 0.76, (1, "b > a"): 0.78}
    for (seed, order), value in values.items():
        kept.row(PAPER, {"breast": value, "lung": value}, seed=seed, variant=order, distillation=POINTS)
    bound(kept)
    table = summarise(kept.read()).set_index("method")
    line = table.loc[PAPER]
    assert (line["runs"], line["seeds"]) == (4, 2)
    assert line["average accuracy"] == pytest.approx(0.74)
    expected = math.sqrt(sum((value - 0.74) ** 2 for value in values.values()) / 3)
    assert line["average accuracy std"] == pytest.approx(expected)
    assert line["share"] == pytest.approx(0.74 / 0.85)
    assert math.isnan(table.loc[PAPER, "share std"]) is False


def test_the_papers_numbers_stand_beside_ours(kept: Kept) -> None:
    bound(kept)
    kept.row(PAPER, {"breast": 0.8, "lung": 0.7}, variant="breast > lung", distillation=POINTS)
    kept.row(BEST, {"breast": 0.8, "lung": 0.7}, variant="breast > lung", distillation=POINTS)
    table = main_table(kept.read(), "multi-task", POINTS).set_index("method")
    assert table.loc[PAPER, "paper average accuracy"] == 0.909
    assert table.loc[PAPER, "paper LC25000 auc"] == 0.998
    assert table.loc[PAPER, "paper share"] == pytest.approx(0.944, abs=5e-4)
    assert math.isnan(table.loc[BEST, "paper average accuracy"])
    shown = markdown(table.reset_index())
    assert ".803 / .846" in shown and ".909 / .941" in shown


def test_published_averages_agree_with_their_parts() -> None:
    for name, (*parts, average) in TABLE_1.items():
        for number in (0, 1):
            if name == "mixture-shiwa-contribution-cross-entropy" or number == 0:
                assert sum(part[number] for part in parts) / 3 == pytest.approx(average[number], abs=1.1e-3)
    assert TABLE_2["breast > colon > lung"]["mixture"] == TABLE_1[PAPER][-1] == TABLE_3["dm-dsa"]["mixture"]
    assert set(TABLE_4) == set(TABLE_1)


def test_multi_site_is_measured_against_all_raw_data(kept: Kept) -> None:
    for site, value in enumerate((0.5, 0.7, 0.6)):
        kept.row("single", {"lung": value}, variant=f"site-{site}", scenario="multi-site")
    kept.row("pooled", {"lung": 0.8}, scenario="multi-site")
    kept.row(BEST, {"lung": 0.78}, variant="site-0 > site-1", scenario="multi-site", distillation=POINTS)
    results = kept.read()
    assert bounds(results).set_index("task")["accuracy"].to_dict() == {"lung": 0.8, "average": 0.8}
    table = main_table(results, "multi-site", POINTS)
    by_title = table.set_index("title")
    assert by_title.loc["A site's own adapter, mean over sites", "average accuracy"] == pytest.approx(0.6)
    assert by_title.loc["The best site's adapter, picked on test", "average accuracy"] == 0.7
    assert by_title.loc["The best site's adapter, picked on test", "share"] == pytest.approx(0.875)
    assert list(table["method"]) == ["single", "single", "pooled", BEST]
    targets = target_table(results, POINTS).set_index("what")["reached"]
    assert targets["multi-site: best Mixture against the best single site, ACC"] == pytest.approx(0.08)
    assert targets["multi-site: best Mixture, share of one adapter on all raw data"] == pytest.approx(0.975)
    assert math.isnan(targets["multi-site: best Fusion against the best single site, ACC"])


def test_orders_and_their_spread(kept: Kept) -> None:
    orders = {"breast > lung > colon": 0.70, "breast > colon > lung": 0.72, "colon > lung > breast": 0.75}
    for seed in range(2):
        for order, value in orders.items():
            value += 0.01 * seed * (order == "colon > lung > breast")
            kept.row(PAPER, {"breast": value}, variant=order, seed=seed, distillation=POINTS)
    kept.row(BEST, {"breast": 0.8}, variant="breast > lung > colon", distillation=POINTS)
    table = order_table(kept.read(), POINTS)
    assert set(table["method"]) == {PAPER}  # one order alone has no spread
    by_order = table.set_index("order")
    assert by_order.loc["colon > lung > breast", "average accuracy"] == pytest.approx(0.755)
    assert by_order.loc["breast > lung > colon", "paper average accuracy"] == 0.871
    assert by_order.loc["spread", "average accuracy"] == pytest.approx((0.05 + 0.06) / 2)
    assert by_order.loc["spread", "paper average accuracy"] == pytest.approx(0.038)


def test_distillations_side_by_side(kept: Kept) -> None:
    bound(kept, seeds=1)
    for method, value in (("dm", 0.6), (POINTS, 0.8)):
        for task in ("breast", "lung"):
            kept.row("distilled", {task: value}, variant=task, distillation=method)
        kept.row(PAPER, {"breast": value, "lung": value}, variant="breast > lung", distillation=method)
    table = distillation_table(kept.read()).set_index(["distillation", "method"])
    assert table.loc[("dm", "distilled"), "average accuracy"] == pytest.approx(0.6)
    assert table.loc[("dm", "distilled"), "paper average accuracy"] == 0.849
    assert table.loc[("dm", PAPER), "paper average auc"] == 0.892
    assert math.isnan(table.loc[(POINTS, PAPER), "paper average accuracy"])


def test_dora_is_compared_in_the_orders_that_both_have(kept: Kept) -> None:
    bound(kept, seeds=1)
    for order, value in (("breast > lung", 0.7), ("lung > breast", 0.9)):
        kept.row(PAPER, {"breast": value, "lung": value}, variant=order, distillation=POINTS)
    kept.row(PAPER, {"breast": 0.71, "lung": 0.71}, variant="breast > lung", distillation=POINTS, adapter="dora")
    results = kept.read()
    table = dora_table(results, POINTS).set_index(["adapter", "method"])
    assert table.loc[("lora", PAPER), "average accuracy"] == pytest.approx(0.7)
    assert table.loc[("dora", PAPER), "average accuracy"] == pytest.approx(0.71)
    assert table.loc[("dora", PAPER), "paper average accuracy"] == 0.906
    # LoRA rows alone make no table, and the main table has no DoRA in it.
    assert dora_table(results[results["adapter"] == "lora"], POINTS).empty
    assert main_table(results, "multi-task", POINTS).set_index("method").loc[PAPER, "runs"] == 2


def test_the_choice_is_made_on_validation(kept: Kept) -> None:
    bound(kept, seeds=1)
    for method, test, validation in ((BEST, 0.7, 0.8), (FUSION, 0.9, 0.6), (PAPER, 0.95, 0.5)):
        tasks = {"breast": test, "lung": test}
        kept.row(method, tasks, variant="breast > lung", distillation=POINTS, validation=validation)
    kept.row("soup", {"breast": 0.99, "lung": 0.99})
    ranking = choose(kept.read(), POINTS)
    assert list(ranking["method"]) == [BEST, FUSION, PAPER]
    assert ranking["share"].iloc[0] == pytest.approx(0.8 / 0.85)
    targets = target_table(kept.read(), POINTS).set_index("what")
    line = targets.loc["multi-task: best merged model ahead of every baseline without raw data, ACC"]
    assert line["reached"] == pytest.approx(0.7 - 0.99) and line["holds"] is False
    assert line["note"] == f"{BEST} against soup"


def test_a_method_has_to_be_run_in_every_scenario_to_be_chosen(kept: Kept) -> None:
    bound(kept, seeds=1)
    bound(kept, seeds=1, scenario="digits")
    for scenario in ("multi-task", "digits"):
        kept.row(BEST, {"breast": 0.7, "lung": 0.7}, scenario=scenario, variant="a > b", distillation=POINTS)
    kept.row(FUSION, {"breast": 0.9, "lung": 0.9}, variant="a > b", distillation=POINTS)
    assert list(choose(kept.read(), POINTS)["method"]) == [BEST]


def test_targets_reached_missed_and_unknown(kept: Kept) -> None:
    bound(kept)
    for seed in range(2):
        for order in ("breast > lung", "lung > breast"):
            for method, value in ((BEST, 0.84), (FUSION, 0.78), (PAPER, 0.7), (WORSE, 0.6)):
                jitter = {PAPER: 0.02, WORSE: 0.05}.get(method, 0.0) * (order == "lung > breast")
                tasks = {"breast": value + jitter, "lung": value + jitter}
                kept.row(method, tasks, seed=seed, variant=order, distillation=POINTS)
        kept.row(BEST, {"breast": 0.85, "lung": 0.85}, seed=seed, variant="breast > lung", distillation=POINTS,
                 adapter="dora")  # fmt: skip
        for task, value in (("breast", 0.86), ("lung", 0.7)):
            kept.row("distilled", {task: value}, seed=seed, variant=task, distillation=POINTS)
        kept.row("mixture-joint-module-distillation-task-aware", {"breast": 0.9, "lung": 0.8}, seed=seed,
                 variant="breast > lung", distillation=POINTS)  # fmt: skip
    table = target_table(kept.read(), POINTS).set_index("what")
    reached, holds = table["reached"], table["holds"]

    def check(what: str, value: float, held: bool | None) -> None:
        (name,) = [each for each in table.index if what in each]
        assert reached[name] == pytest.approx(value, abs=1e-9)
        assert holds[name] is held

    check("best Mixture, share of the bound", 0.84 / 0.85, True)
    check("best Fusion, share of the bound", 0.78 / 0.85, False)
    check("Mixture, the paper's own settings", 0.71 / 0.85, None)
    check("spread over orders, one by one", 0.02, False)
    check("spread over orders, joint", 0.0, True)
    check("DoRA Mixture against LoRA", 0.01, True)
    check("task-aware", 1.0, True)
    check("the least of the tasks", 0.875, False)
    digits = "digits: best Mixture, the digits' share of their bound after merging four"
    assert math.isnan(reached[digits]) and holds[digits] is None


def test_markdown() -> None:
    table = pd.DataFrame(
        {
            "method": ["soup", "mean"], "title": ["ModelSoup", "Mean"], "average accuracy": [0.5, 10.25],
            "average accuracy std": [0.01, float("nan")], "average auc": [0.75, float("nan")], "holds": [True, False],
            "reached": [-0.0214, None],
        }
    )  # fmt: skip
    assert markdown(table) == (
        "| method | average | holds | reached |\n"
        "| --- | --- | --- | --- |\n"
        "| ModelSoup | .500±.010 / .750 | yes | -.021 |\n"
        "| Mean | 10.250 /  | **no** |  |"
    )


def test_tables_without_rows_are_left_out(kept: Kept) -> None:
    bound(kept)
    names = [name for name, *_ in make_tables(kept.read(), POINTS)]
    assert names == ["targets", "table-1"]
