"""The searches of the catalogue, one file each; "exact" and "joint" differ in their problem only."""

from __future__ import annotations

from collections.abc import Callable

from forge.model.searches import by_gradients, gradient_free
from forge.model.searches.problem import Advance, Problem, Solution
from forge.recipe.catalogue import EXACT, JOINT, SHIWA, look_up
from forge.recipe.settings import SearchSettings

Solver = Callable[[Problem, SearchSettings, Advance], Solution]

SOLVERS: dict[str, Solver] = {
    SHIWA.name: gradient_free.solve,
    EXACT.name: by_gradients.solve,
    JOINT.name: by_gradients.solve,
}


def solve(problem: Problem, settings: SearchSettings, advance: Advance) -> Solution:
    """The scales that the search of the settings finds; each has its objective with what keeps scales in place."""
    return look_up(SOLVERS, settings.method, "search method")(problem, settings, advance)
