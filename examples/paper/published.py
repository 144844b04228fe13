"""The numbers that MedForge (2025) reports, to stand beside ours: ACC and AUC, means over 3 seeds."""

from __future__ import annotations

from typing import Final

Figures = tuple[float, float]  # ACC, AUC

DATASETS: Final = ("BreakHis", "LC25000", "MedFMC-Colon")
TASK_DATASETS: Final = {"breast": "BreakHis", "lung": "LC25000", "colon": "MedFMC-Colon"}

# Table 1, by our name of the method: one entry per data set, then the average.
TABLE_1: Final[dict[str, tuple[Figures, Figures, Figures, Figures]]] = {
    "single": ((0.914, 0.923), (0.997, 0.996), (0.978, 0.997), (0.963, 0.972)),
    "distilled": ((0.881, 0.883), (0.911, 0.974), (0.799, 0.872), (0.864, 0.910)),
    "lorahub-raw": ((0.705, 0.641), (0.959, 0.997), (0.825, 0.945), (0.830, 0.861)),
    "lorahub": ((0.654, 0.804), (0.956, 0.997), (0.819, 0.936), (0.810, 0.912)),
    "soup": ((0.769, 0.847), (0.594, 0.900), (0.777, 0.890), (0.713, 0.879)),
    "fusion-shiwa-contribution-cross-entropy": ((0.846, 0.854), (0.781, 0.914), (0.792, 0.908), (0.806, 0.892)),
    "mixture-shiwa-contribution-cross-entropy": ((0.803, 0.846), (0.959, 0.998), (0.966, 0.978), (0.909, 0.941)),
}

# Table 2: the average after merging in an order, by strategy.
TABLE_2: Final[dict[str, dict[str, Figures]]] = {
    "breast > lung > colon": {"fusion": (0.790, 0.846), "mixture": (0.871, 0.907)},
    "breast > colon > lung": {"fusion": (0.806, 0.892), "mixture": (0.909, 0.941)},
    "colon > lung > breast": {"fusion": (0.800, 0.871), "mixture": (0.901, 0.931)},
}

# Table 3: the average by method of distillation; "distilled" is distilled data only.
TABLE_3: Final[dict[str, dict[str, Figures]]] = {
    "dc-dsa": {"distilled": (0.770, 0.891), "fusion": (0.879, 0.907), "mixture": (0.875, 0.919)},
    "dm": {"distilled": (0.849, 0.910), "fusion": (0.808, 0.858), "mixture": (0.838, 0.892)},
    "dm-dsa": {"distilled": (0.864, 0.910), "fusion": (0.806, 0.892), "mixture": (0.909, 0.941)},
}

# Table 4: the average with DoRA in place of LoRA.
TABLE_4: Final[dict[str, Figures]] = {
    "single": (0.962, 0.974),
    "distilled": (0.858, 0.913),
    "lorahub": (0.781, 0.894),
    "lorahub-raw": (0.782, 0.870),
    "soup": (0.720, 0.888),
    "fusion-shiwa-contribution-cross-entropy": (0.785, 0.894),
    "mixture-shiwa-contribution-cross-entropy": (0.906, 0.937),
}
