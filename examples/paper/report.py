"""Writing the results: tables as CSV and Markdown, figures as PNG, and run.json, which says how they were made."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from examples.paper.experiment import Experiment, ExperimentSettings
from examples.paper.figures import contact_sheet, features_plot, shares_plot
from examples.paper.scenarios import Scenario
from examples.paper.tables import choose, collect, distillation_table, dora_table, main_table, order_table
from examples.paper.targets import target_table
from forge import __version__
from forge.model.base import BaseModel

PACKAGES = (
    "torch", "open_clip_torch", "peft", "accelerate", "nevergrad", "safetensors", "numpy", "scikit-learn", "pandas",
    "matplotlib",
)  # fmt: skip
Table = tuple[str, str, str, pd.DataFrame]  # file, heading, what it shows, the table


def write_report(
    work: Path,
    results: Path,
    base: BaseModel,
    scenarios: Sequence[str],
    seeds: Sequence[int],
    settings: ExperimentSettings,
    command: str,
    scenario: Callable[[str, int], Scenario],
) -> None:
    """Write everything that can be made of the finished rows into `results`.

    `scenario` makes the images for Figure 5 and the contact sheet. Raises ForgeError where no row is finished.
    """
    rows = collect(work, base.fingerprint, scenarios, seeds)
    results.mkdir(parents=True, exist_ok=True)
    rows.to_csv(results / "all-rows.csv", index=False, float_format="%.6f")
    tables = make_tables(rows, settings.distillation)
    for name, _, _, table in tables:
        table.to_csv(results / f"{name}.csv", index=False, float_format="%.6f")
    shares_plot(rows, settings.distillation, results / "shares.png")
    figures = [("shares.png", "ACC as share of the bound, mean and standard deviation over seeds and orders")]
    distilled = rows[(rows["scenario"] == "multi-task") & (rows["distillation"] == settings.distillation)]
    if not distilled.empty:
        experiment = Experiment(work, base, scenario("multi-task", int(distilled["seed"].min())), settings)
        features_plot(experiment, results / "figure-5.png")
        contact_sheet(experiment, results / "distilled-images.png")
        figures.append(("figure-5.png", "Figure 5: t-SNE of the features of raw and distilled images"))
        figures.append(("distilled-images.png", "Raw images (upper row of each class) and distilled ones (lower row)"))
    run = run_record(rows, base, settings, command)
    (results / "run.json").write_text(json.dumps(run, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (results / "README.md").write_text(readme(tables, figures, run), encoding="utf-8")


def make_tables(rows: pd.DataFrame, distillation: str) -> list[Table]:
    """All tables that there are rows for."""
    tables = [
        ("targets", "What was to be reached", "On test images; the models were chosen on validation.",
         target_table(rows, distillation)),
        ("table-1", "Table 1: multi-task", "ACC / AUC on test, with the paper's beside ours.",
         main_table(rows, "multi-task", distillation)),
        ("table-2", "Table 2: orders of merging", "Average ACC / AUC over the tasks; spread is max - min over orders.",
         order_table(rows, distillation)),
        ("table-3", "Table 3: methods of distillation", "Distilled data only, and merged with those distilled data.",
         distillation_table(rows)),
        ("table-4", "Table 4: DoRA", "DoRA and LoRA on the same distilled data and orders.",
         dora_table(rows, distillation)),
        ("multi-site", "Multi-site", "One task, four hospitals; on everybody's test images together.",
         main_table(rows, "multi-site", distillation)),
        ("digits", "Digits", "scikit-learn's digits, which are real images, as a fourth task.",
         main_table(rows, "digits", distillation)),
        ("choose", "Merged models on validation", "Share of the bound; the first is the best over the scenarios.",
         choose(rows, distillation)),
    ]  # fmt: skip
    return [table for table in tables if not table[3].empty]


def run_record(rows: pd.DataFrame, base: BaseModel, settings: ExperimentSettings, command: str) -> dict[str, object]:
    """How the results were made; no names of machines and no paths."""
    return {
        "command": command,
        "git forge": __version__,
        "base": base.fingerprint,
        "seeds": {name: sorted(int(seed) for seed in part["seed"].unique()) for name, part in rows.groupby("scenario")},
        "settings": asdict(settings),
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "device": str(base.device)},
        "date": datetime.now(UTC).date().isoformat(),
    }


def readme(tables: Sequence[Table], figures: Sequence[tuple[str, str]], run: dict[str, object]) -> str:
    """All tables and figures on one page."""
    lines = ["# Results", "", f"Made by `{run['command']}` on {run['date']}; see [run.json](run.json).", ""]
    lines += ["Figures are means ± standard deviations over seeds and orders of merging. ACC / AUC.", ""]
    lines += ["Every row, task and split is in [all-rows.csv](all-rows.csv).", ""]
    for name, heading, about, table in tables:
        lines += [f"## {heading}", "", f"{about} [CSV]({name}.csv)", "", markdown(table), ""]
    for name, heading in figures:
        lines += [f"## {heading}", "", f"![{heading}]({name})", ""]
    return "\n".join(lines)


def markdown(table: pd.DataFrame) -> str:
    """A table for people: "X accuracy", "X auc" and their "std" become one column ACC / AUC with ± each."""
    columns: dict[str, list[str]] = {}
    for name in table.columns:
        if name == "method" and "title" in table.columns:
            continue
        pair = re.fullmatch(r"(.+) accuracy", name)
        if pair and f"{pair[1]} auc" in table.columns:
            columns[pair[1]] = [_pair(line, pair[1]) for line in table.to_dict("records")]
        elif name == "share" and "share std" in table.columns:
            columns["share of the bound"] = [
                _number(line["share"], line["share std"]) for line in table.to_dict("records")
            ]
        elif not re.search(r" (auc|std)$", name) or name == "AUC share":
            columns[{"title": "method"}.get(name, name)] = [_cell(value) for value in table[name]]
    rows = [list(columns), ["---"] * len(columns), *([*row] for row in zip(*columns.values(), strict=True))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _pair(line: dict[str, object], name: str) -> str:
    shown = [_number(line[f"{name} {m}"], line.get(f"{name} {m} std")) for m in ("accuracy", "auc")]
    return " / ".join(shown) if any(shown) else ""


def _number(value: object, deviation: object = None) -> str:
    if not isinstance(value, float) or pd.isna(value):
        return ""
    shown = _short(value)
    if isinstance(deviation, float) and not pd.isna(deviation):
        shown += f"±{_short(deviation)}"
    return shown


def _short(value: float) -> str:
    """Three decimals, without the zero before the point."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return _number(value) if isinstance(value, float) else str(value)
