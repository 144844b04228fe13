"""The figures: shares of the bound, Figure 5 (t-SNE of raw and distilled features), and the distilled images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from examples.paper.methods import METHODS
from examples.paper.scenarios import SCENARIOS
from examples.paper.tables import SITE_TITLES, shares
from forge.model.adapters import plain_delta
from forge.model.base import BaseModel
from forge.model.composing import Delta, folded
from forge.model.scoring import batch_size

if TYPE_CHECKING:
    from examples.paper.experiment import Experiment

COLOURS = {
    "reference": "#8c8c8c",
    "baseline": "#5b8db8",
    "raw": "#9d7bb8",
    "paper": "#d98b3a",
    "merged": "#c2452d",
    "consolidated": "#7a1f12",
    "task-aware": "#4a9a62",
}
MEANINGS = {
    "reference": "no merge",
    "baseline": "baseline, no raw data",
    "raw": "baseline, 10% of the raw data",
    "paper": "the paper's settings",
    "merged": "git forge",
    "consolidated": "git forge, consolidated",
    "task-aware": "git forge, one set per label set",
}
RAW_SHOWN = 300  # raw images of a task in Figure 5
SHEET_SHOWN = 10  # images of a class in the contact sheet


def shares_plot(rows: pd.DataFrame, distillation: str, path: Path) -> None:
    """A panel per scenario: every method's average ACC as share of the bound, with its standard deviation."""
    of = shares(rows[(rows["adapter"] == "lora") & rows["distillation"].isin(["", distillation])])
    of = of[of["task"] == "average"]
    scenarios = sorted(set(of["scenario"]), key=SCENARIOS.index)
    if not scenarios:
        return
    most = max(of[of["scenario"] == name]["method"].nunique() for name in scenarios)
    figure = _figure(7.5 * len(scenarios), 1.4 + 0.27 * most)
    seen: set[str] = set()
    for number, name in enumerate(scenarios, 1):
        axes = figure.add_subplot(1, len(scenarios), number)
        part = of[of["scenario"] == name].groupby("method")["share"].agg(["mean", "std"]).fillna(0.0)
        part = part.loc[sorted(part.index, key=list(METHODS).index, reverse=True)]
        seen |= {METHODS[method].group for method in part.index}
        for place, (method, figures) in enumerate(part.iterrows()):
            axes.errorbar(
                figures["mean"], place, xerr=figures["std"], fmt="o", markersize=6, capsize=2,
                color=COLOURS[METHODS[str(method)].group],
            )  # fmt: skip
        axes.axvline(1.0, color="#333333", linewidth=0.8, linestyle=":")
        titles = SITE_TITLES if name == "multi-site" else {}
        axes.set_yticks(range(len(part)), [titles.get(m, METHODS[m].title) for m in part.index], fontsize=8)
        axes.set_title(name)
        bound = "one adapter on all raw data" if name == "multi-site" else "single-task adapters"
        axes.set_xlabel(f"average test ACC / that of {bound}")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [_patch(COLOURS[group], MEANINGS[group]) for group in COLOURS if group in seen]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    _save(figure, path)


def features_plot(experiment: Experiment, path: Path) -> None:
    """Figure 5: a column per task, t-SNE of raw (dots) and distilled (stars) images' features, coloured by class.

    Upper row: features of the base; lower row: of the base with the contributor's adapter.
    """
    images = experiment.distilled_tasks(experiment.settings.distillation)
    adapters = experiment.adapters()
    participants = experiment.participants
    figure = _figure(4.2 * len(participants), 8.4)
    for column, each in enumerate(participants):
        chosen = torch.randperm(len(each.train.targets), generator=torch.Generator().manual_seed(0))[:RAW_SHOWN]
        raw, distilled = each.train.pixels[chosen], images[each.name]
        models: Sequence[tuple[str, Delta]] = (("base", {}), ("its adapter", plain_delta(adapters[each.name])))
        for line, (name, delta) in enumerate(models):
            points = embed(np.concatenate([features(experiment.base, delta, p) for p in (raw, distilled.pixels)]))
            axes = figure.add_subplot(2, len(participants), line * len(participants) + column + 1)
            for kind, targets, of, style in (
                ("raw", each.train.targets[chosen], points[: len(chosen)], {"marker": ".", "s": 14, "alpha": 0.5}),
                ("distilled", distilled.targets, points[len(chosen) :], {"marker": "*", "s": 90, "edgecolor": "black"}),
            ):
                for number, label in enumerate(each.train.labels):
                    of_class = (targets == number).cpu().numpy()
                    axes.scatter(
                        of[of_class, 0], of[of_class, 1], color=f"C{number}", linewidth=0.5,
                        label=f"{label}, {kind}", **style,
                    )  # fmt: skip
            axes.set_title(f"{each.name}, features of {name}", fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
            if line == 1:
                axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False)
    _save(figure, path)


def features(base: BaseModel, delta: Delta, pixels: Tensor) -> np.ndarray:
    """Unit-length embeddings [n, joint width] of images under base + dW."""
    with torch.no_grad(), folded(base.tower, delta):
        parts = [
            F.normalize(base.tower(base.prepare(batch)), dim=-1) for batch in torch.split(pixels, batch_size(pixels))
        ]
    found: np.ndarray = torch.cat(parts).cpu().numpy()
    return found


def embed(points: np.ndarray) -> np.ndarray:
    """t-SNE to the plane [n, 2], the same for the same points."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(points) - 1) / 3)
    placed: np.ndarray = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(points)
    return placed


def contact_sheet(experiment: Experiment, path: Path) -> None:
    """Per task and class, a line of raw images above a line of distilled ones."""
    images = experiment.distilled_tasks(experiment.settings.distillation)
    lines: list[tuple[str, np.ndarray]] = []
    for each in experiment.participants:
        for number, label in enumerate(each.train.labels):
            for kind, task in (("raw", each.train), ("distilled", images[each.name])):
                chosen = torch.nonzero((task.targets == number).cpu()).flatten()[:SHEET_SHOWN]
                lines.append((f"{label}\n{kind}", visible(experiment.base, task.pixels[chosen])))
    width = max(len(pictures) for _, pictures in lines)
    figure = _figure(0.8 * width + 2.2, 0.82 * len(lines))
    for line, (name, pictures) in enumerate(lines):
        for place in range(width):
            axes = figure.add_subplot(len(lines), width, line * width + place + 1)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if place < len(pictures):
                axes.imshow(pictures[place])
            if place == 0:
                axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    _save(figure, path, resolution=75)  # small images: more dots show nothing more


def visible(base: BaseModel, pixels: Tensor) -> np.ndarray:
    """Images as RGB in [0, 1], [n, h, w, 3]; what a distilled pixel has beyond is cut off."""
    if pixels.dtype == torch.uint8:
        plain = pixels.float().cpu() / 255
    else:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (base.mean, base.std))
        plain = pixels.cpu() * std + mean
    shown: np.ndarray = plain.clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return shown


def _figure(width: float, height: float) -> Any:
    """A figure of its own: no window system, and nothing of pyplot's state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


def _save(figure: Any, path: Path, resolution: int = 130) -> None:
    # No software version in the file: the same figures are the same bytes.
    figure.savefig(path, dpi=resolution, metadata={"Software": None})
