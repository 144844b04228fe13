"""The search of scales on functions whose minimum is known."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import ForgeError
from forge.model.searches.gradient_free import Point, objective_of, search
from forge.recipe.settings import SearchSettings

PLAIN = SearchSettings(l1=0.0)


class Recorded:
    """A function that remembers where it was asked."""

    def __init__(self, function: Callable[[Point], float]) -> None:
        self.function = function
        self.points: list[Point] = []

    def __call__(self, point: Point) -> float:
        self.points.append(point)
        return self.function(point)


def bowl(*centre: float) -> Recorded:
    return Recorded(lambda point: sum((x - c) ** 2 for x, c in zip(point, centre, strict=True)))


def test_the_defaults_are_the_papers() -> None:
    settings = SearchSettings()
    assert (settings.optimizer, settings.evaluations, settings.start) == ("Shiwa", 40, 0.5)
    assert (settings.bounds, settings.l1, settings.seed) == (1.5, 0.05, 0)


def test_the_objective_by_hand() -> None:
    assert objective_of(0.7, (1.0, -0.5), 0.05) == pytest.approx(0.7 + 0.05 * 0.75)
    assert objective_of(0.7, (-1.2,), 0.1) == pytest.approx(0.7 + 0.12)


@given(st.floats(0, 10), st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=5), st.floats(0, 1))
def test_the_objective_is_the_loss_and_the_mean_size(loss: float, point: list[float], l1: float) -> None:
    total = 0.0
    for value in point:
        total += value if value > 0 else -value
    assert objective_of(loss, point, l1) == pytest.approx(loss + l1 * total / len(point))


@pytest.mark.parametrize("centre", [(0.8,), (-1.1,), (0.9, -0.3), (0.2, 1.4), (0.1, -0.9, 1.2)])
def test_the_minimum_of_a_bowl_is_found(centre: tuple[float, ...]) -> None:
    found = search(bowl(*centre), len(centre), PLAIN)
    assert found.point == pytest.approx(centre, abs=0.15)
    assert found.objective == pytest.approx(sum((x - c) ** 2 for x, c in zip(found.point, centre, strict=True)))


def test_l1_pulls_towards_zero() -> None:
    # the minimum of (x - 1)^2 + l1 |x| is 1 - l1 / 2
    found = search(bowl(1.0), 1, replace(PLAIN, l1=0.8))
    assert found.point[0] == pytest.approx(0.6, abs=0.05)
    assert found.objective == pytest.approx((found.point[0] - 1) ** 2 + 0.8 * found.point[0])


@pytest.mark.parametrize("evaluations", [1, 7, 40])
@pytest.mark.parametrize("candidates", [(), ((1.0, 0.0),), ((1.0, 0.0), (0.0, 1.0))])
def test_so_many_evaluations_and_the_candidates(evaluations: int, candidates: tuple[Point, ...]) -> None:
    loss = bowl(0.7, 0.1)
    told: list[float] = []
    found = search(loss, 2, replace(PLAIN, evaluations=evaluations), candidates=candidates, advance=told.append)
    assert len(loss.points) == evaluations + len(candidates) == len(told)
    assert tuple(loss.points[: len(candidates)]) == candidates
    if evaluations > 1:  # with a budget of one, Shiwa asks for the middle
        assert loss.points[len(candidates)] == (0.5, 0.5)
    values = [loss.function(point) for point in loss.points]
    assert found.objective == min(values)
    assert found.point == loss.points[values.index(min(values))]
    assert told == [min(values[: i + 1]) for i in range(len(values))]


def test_a_better_candidate_wins_and_a_worse_one_does_not() -> None:
    def hole(point: Point) -> float:
        return -5.0 if point == (1.0, 0.0) else bowl(0.5, 0.5)(point)

    assert search(hole, 2, PLAIN, candidates=[(1.0, 0.0)]).point == (1.0, 0.0)
    assert search(bowl(0.5, 0.5), 2, PLAIN, candidates=[(1.0, 0.0)]).point == pytest.approx((0.5, 0.5), abs=0.05)


@pytest.mark.parametrize("optimizer", ["Shiwa", "NGOpt", "OnePlusOne", "RandomSearch"])
@pytest.mark.parametrize("bounds", [0.6, 1.5])
def test_bounds_hold_and_points_are_what_a_recipe_records(optimizer: str, bounds: float) -> None:
    loss = Recorded(lambda point: sum(point) * (-1) ** (len(point)))  # falls towards a corner
    settings = replace(PLAIN, optimizer=optimizer, bounds=bounds, evaluations=25)
    search(loss, 2, settings)
    for point in loss.points:
        assert all(-bounds <= value <= bounds for value in point)
        assert all(value == round(value, 6) for value in point)
        assert all(math.copysign(1, value) > 0 for value in point if value == 0)  # no -0.0


def test_the_same_settings_give_the_same_search() -> None:
    first, second, other = bowl(0.3, 0.9), bowl(0.3, 0.9), bowl(0.3, 0.9)
    settings = replace(PLAIN, optimizer="RandomSearch", evaluations=10)
    assert search(first, 2, settings) == search(second, 2, settings)
    assert first.points == second.points
    search(other, 2, replace(settings, seed=1))
    assert other.points != first.points
    assert search(bowl(0.3, 0.9), 2, PLAIN) == search(bowl(0.3, 0.9), 2, PLAIN)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.nan])
def test_losses_that_are_no_numbers_never_win(bad: float) -> None:
    loss = Recorded(lambda point: bad if point[0] > 0.45 else (point[0] - 0.1) ** 2)
    found = search(loss, 1, replace(PLAIN, optimizer="RandomSearch"), candidates=[(1.0,), (0.4,)])
    assert found.objective <= 0.09 + 1e-9
    assert found.point[0] <= 0.45


def test_nothing_but_losses_that_are_no_numbers() -> None:
    with pytest.raises(ForgeError, match="no finite score"):
        search(lambda point: math.nan, 2, PLAIN, candidates=[(1.0, 0.0)])


def test_an_unknown_optimiser() -> None:
    loss = bowl(0.5)
    with pytest.raises(ForgeError, match="no optimiser called 'Guess'"):
        search(loss, 1, replace(PLAIN, optimizer="Guess"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ForgeError("broken images")])
def test_an_interruption_ends_the_search(error: type[BaseException] | BaseException) -> None:
    def loss(point: Point) -> float:
        if len(recorded.points) > 3:
            raise error
        return 1.0 + point[0]

    recorded = Recorded(loss)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else ForgeError):
        search(recorded, 2, PLAIN)
    assert len(recorded.points) == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, ForgeError])
def test_a_search_that_is_cut_short_leaves_no_thread_behind(error: type[BaseException]) -> None:
    """A thread that waits for the next loss would keep Python from ending, as long as the exception is alive."""
    before = set(threading.enumerate())
    calls = 0

    def loss(point: Point) -> float:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error("stop")
        return point[0] ** 2

    with pytest.raises(error) as kept:  # holds the traceback, and with it the optimiser
        search(loss, 2, SearchSettings())
    left = [thread for thread in set(threading.enumerate()) - before if type(thread).__module__.startswith("nevergrad")]
    for thread in left:
        thread.join(timeout=10)
    assert [thread for thread in left if thread.is_alive()] == []
    assert kept.value is not None
