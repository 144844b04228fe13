"""How a recipe's strategy, search and coefficients are put into words and tables, the same wherever they are shown."""

from __future__ import annotations

from collections.abc import Mapping

from forge.recipe.catalogue import PER, search_method_named
from forge.recipe.checks import Coefficient
from forge.recipe.item import ForgeItem, Search

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]  # headers, rows


def strategy_words(item: ForgeItem) -> str:
    """`mixture`, or `mixture, task-aware, consolidated`."""
    extra = (", task-aware" if item.tasks else "") + (", consolidated" if item.consolidation else "")
    return item.strategy + extra


def coefficient_words(coefficient: Coefficient | None) -> str:
    """`0.500000`; of one per module the mean and the range, `0.500000 (0.210 to 0.934)`; `-` for none."""
    if coefficient is None:
        return "-"
    if not isinstance(coefficient, Mapping):
        return f"{coefficient:.6f}"
    return f"{mean(coefficient):.6f} ({min(coefficient.values()):.3f} to {max(coefficient.values()):.3f})"


def short_coefficient(coefficient: Coefficient) -> str:
    """`0.500`, or `~0.500` for the mean of one per module."""
    return f"{'~' if isinstance(coefficient, Mapping) else ''}{mean(coefficient):.3f}"


def mean(coefficient: Coefficient) -> float:
    """The coefficient itself, or the mean over modules."""
    if not isinstance(coefficient, Mapping):
        return coefficient
    return sum(coefficient.values()) / len(coefficient)


def module_table(coefficients: Mapping[str, Coefficient]) -> Table | None:
    """One row per module, one column per contribution; None where no contribution has one per module.

    A contribution with one number has it everywhere; one that leaves a module alone has a `-` there.
    """
    modules = {module for each in coefficients.values() if isinstance(each, Mapping) for module in each}
    if not modules:
        return None

    def cell(coefficient: Coefficient, module: str) -> str:
        value = coefficient.get(module) if isinstance(coefficient, Mapping) else coefficient
        return "-" if value is None else f"{value:.6f}"

    rows = [
        (module, *(cell(coefficient, module) for coefficient in coefficients.values()))
        for module in sorted(modules, key=by_numbers)
    ]
    return ("Module", *coefficients), rows


def task_table(item: ForgeItem) -> Table | None:
    """One row per task with coefficients of its own, one column per contribution; None where there is no such task."""
    rows = [(task, *(coefficient_words(entry.tasks[task]) for entry in item.contributions)) for task in item.tasks]
    return (("Task", *item.names), rows) if rows else None


def search_rows(search: Search) -> list[tuple[str, str]]:
    """What a search was and reached, one (name, value) a row."""
    rows = [("method", f"{search.method}, one coefficient per {search.per}")]
    if search_method_named(search.method).gradient_free:
        rows.append(("optimizer", f"{search.optimizer}, seed {search.seed}, {search.evaluations} evaluations"))
    else:  # gradients: no optimizer to name and no chance to seed
        rows.append(("evaluations", f"at most {search.evaluations}"))
    rows.append(("start, bounds, L1", f"{search.start:g}, ±{search.bounds:g}, {search.l1:g}"))
    if PER[search.per].by_module:
        rows.append(("pull", f"{search.pull:g}"))
    rows += [(f"scale of {name}", f"{scale:.6f}") for name, scale in search.scales.items()]
    before = "" if search.objective_before is None else f"{search.objective_before:.6f} -> "
    rows.append(("objective", f"{search.objective}, {before}{search.objective_after:.6f}"))
    return rows


def by_numbers(name: str) -> list[tuple[int, str]]:
    """Sorts block 10 after block 9."""
    return [(int(part), "") if part.isdecimal() and len(part) < 10 else (-1, part) for part in name.split(".")]
