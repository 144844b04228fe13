"""Whether a forge item that somebody else made is the one that comes out when it is made again.

A recipe is a function of contributions and settings, but computed in floats: another processor adds them in another
order. What differs by no more than that is the same. Measured on one model of three contributions over 1 and 2
threads, three instruction sets and two kinds of kernels: coefficients by gradients differ by 3e-6, those of the
gradient-free search, which decides by comparing losses, by 4e-3, and one of forty images changed its answer. Recipes
made by hand were off by .1 and more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from forge.recipe.catalogue import search_method_named
from forge.recipe.checks import Coefficient
from forge.recipe.item import ForgeItem, OwnScore, Search, TaskScore
from forge.recipe.item_keys import known_fields

OBJECTIVE = 2e-3
CROSS_ENTROPY = 2e-3  # where the coefficients are the same; what they may differ by moves it further
CROSS_ENTROPY_GRADIENT_FREE = 5e-2
IMAGES = 1.0  # whose answer may flip

_OF_A_SEARCH = ("scales", "objective_before", "objective_after")


def differences(recorded: ForgeItem, reproduced: ForgeItem) -> list[str]:
    """What a recorded recipe says otherwise than the same recipe made again, one line each; what was accepted apart.

    reproduced: from the same contributions, which are not compared here but by name.
    """
    if recorded.base.fingerprint != reproduced.base.fingerprint:
        return [f"the base is {recorded.base.fingerprint[:19]}, not {reproduced.base.fingerprint[:19]}"]
    if recorded.strategy != reproduced.strategy:
        return [f"the strategy is {recorded.strategy}, not {reproduced.strategy}"]
    if recorded.names != reproduced.names:
        return [f"the contributions are {', '.join(recorded.names)}, not {', '.join(reproduced.names)}"]
    return [
        *_search(recorded.search, reproduced.search),
        *_coefficients(recorded, reproduced),
        *_scores(recorded, reproduced),
    ]


def _search(recorded: Search | None, reproduced: Search | None) -> Iterator[str]:
    if (recorded is None) != (reproduced is None):
        yield "it records no search, and there was one" if recorded is None else "it records a search that was none"
        return
    if recorded is None or reproduced is None:
        return
    for each in known_fields(Search):
        value, other = getattr(recorded, each.name), getattr(reproduced, each.name)
        if each.name not in _OF_A_SEARCH and value != other:
            yield f"the search's {each.name} is {value}, not {other}"
    if recorded.scales.keys() != reproduced.scales.keys():
        yield f"the search's scales are {sorted(recorded.scales)}, not {sorted(reproduced.scales)}"
    for what in ("objective_before", "objective_after"):
        value, other = getattr(recorded, what), getattr(reproduced, what)
        if (value is None) != (other is None) or (value is not None and abs(value - other) > OBJECTIVE):
            yield f"the search's {what} is {_number(value)}, not {_number(other)}"


def _coefficients(recorded: ForgeItem, reproduced: ForgeItem) -> Iterator[str]:
    allowed = search_method_named(reproduced.search.method).tolerance if reproduced.search is not None else 0.0
    for entry, other in zip(recorded.contributions, reproduced.contributions, strict=True):
        yield from _coefficient(f"the coefficient of {entry.name}", entry.coefficient, other.coefficient, allowed)
        if entry.tasks.keys() != other.tasks.keys():
            yield f"{entry.name} has coefficients for other tasks than {', '.join(other.tasks) or 'none'}"
            continue
        for task, coefficient in entry.tasks.items():
            what = f"the coefficient of {entry.name} for {task}"
            yield from _coefficient(what, coefficient, other.tasks[task], allowed)


def _coefficient(what: str, recorded: Coefficient, other: Coefficient, allowed: float) -> Iterator[str]:
    """The widest difference. A search may find one number for all modules, or a number for each that are all equal."""
    modules = sorted(
        {*(recorded if isinstance(recorded, Mapping) else ()), *(other if isinstance(other, Mapping) else ())}
    )
    pairs = [(module, _of(recorded, module), _of(other, module)) for module in modules or [""]]
    worst = max(pairs, key=lambda pair: abs(pair[1] - pair[2]))
    if abs(worst[1] - worst[2]) > allowed + 1e-9:
        in_module = f" in {worst[0]}" if worst[0] else ""
        yield f"{what}{in_module} is {worst[1]:.6f}, not {worst[2]:.6f}"


def _of(coefficient: Coefficient, module: str) -> float:
    return coefficient.get(module, 0.0) if isinstance(coefficient, Mapping) else coefficient


def _scores(recorded: ForgeItem, reproduced: ForgeItem) -> Iterator[str]:
    gradient_free = reproduced.search is not None and search_method_named(reproduced.search.method).gradient_free
    loss = CROSS_ENTROPY_GRADIENT_FREE if gradient_free else CROSS_ENTROPY
    if [score.task for score in recorded.scores] != [score.task for score in reproduced.scores]:
        yield f"the scores are of other tasks than {', '.join(score.task for score in reproduced.scores) or 'none'}"
        return
    for score, other in zip(recorded.scores, reproduced.scores, strict=True):
        if score.labels != other.labels:
            yield f"the labels of task {score.task} are others"
        yield from _score(f"task {score.task}", score, other, loss)
    if recorded.own_scores:  # earlier versions had none
        for own, again in zip(recorded.own_scores, reproduced.own_scores, strict=True):
            yield from _score(f"contribution {own.name}", own, again, loss)


def _score(of: str, recorded: TaskScore | OwnScore, again: TaskScore | OwnScore, loss: float) -> Iterator[str]:
    if recorded.images != again.images:
        yield f"the images of {of} are {recorded.images}, not {again.images}"
        return
    share = (IMAGES + 1e-6) / max(1, again.images)
    for what, allowed in (
        ("accuracy", share),
        ("cross_entropy", loss),
        ("accuracy_before", share),
        ("cross_entropy_before", loss),
    ):
        one, other = getattr(recorded, what), getattr(again, what)
        if (one is None) != (other is None) or (one is not None and abs(one - other) > allowed):
            yield f"the {what} of {of} is {_number(one)}, not {_number(other)}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
