"""Gauss-Newton on functions whose minimum is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from forge.errors import ForgeError
from forge.model.curvature import Quadratic
from forge.model.searches.gauss_newton import Minimum, minimise, minimise_quadratic

TOLD = 1e-9  # what a step has to gain, where the test is about the minimum


class Squares:
    """The sum of squares of residuals, with its Gauss-Newton model; remembers where it was asked."""

    def __init__(self, residuals: Callable[[Tensor], Tensor]) -> None:
        self.residuals = residuals
        self.points: list[Tensor] = []
        self.values: list[float] = []

    def __call__(self, point: Tensor) -> Quadratic:
        rest = self.residuals(point)
        slope = torch.autograd.functional.jacobian(self.residuals, point)
        assert isinstance(slope, Tensor)
        self.points.append(point.clone())
        self.values.append(float(rest.square().sum()))
        return Quadratic(self.values[-1], 2 * slope.T @ rest, 2 * slope.T @ slope)


def bowl(centre: Tensor, steepness: Tensor) -> Squares:
    return Squares(lambda x: steepness.sqrt() * (x - centre))


def rosenbrock(x: Tensor) -> Tensor:
    return torch.stack([1 - x[0], 10 * (x[1] - x[0].square())])


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


@settings(max_examples=30)
@given(st.data(), st.integers(1, 12))
def test_the_minimum_of_a_bowl_is_seen_in_a_few_looks(data: st.DataObject, size: int) -> None:
    several = {"min_size": size, "max_size": size}
    centre = torch.tensor(data.draw(st.lists(numbers(-1.4, 1.4), **several)), dtype=torch.float64)
    steepness = torch.tensor(data.draw(st.lists(numbers(0.5, 5.0), **several)), dtype=torch.float64)
    function = bowl(centre, steepness)
    reached = minimise(function, torch.full((size,), 0.5), evaluations=60, bounds=1.5, least_gain=TOLD)
    torch.testing.assert_close(reached.point, centre, rtol=0, atol=1e-3)
    assert len(function.points) <= 5


def test_a_curved_valley() -> None:
    reached = minimise(Squares(rosenbrock), torch.tensor([-1.2, 1.0]), evaluations=80, bounds=1.5, least_gain=TOLD)
    torch.testing.assert_close(reached.point, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-3)


@settings(max_examples=30)
@given(numbers(1.6, 4.0), numbers(-1.4, 1.4), st.booleans(), numbers(0.1, 2.0))
def test_a_minimum_beyond_the_bounds_is_kept_within(far: float, near: float, below: bool, steep: float) -> None:
    centre = torch.tensor([-far if below else far, near], dtype=torch.float64)
    function = bowl(centre, torch.tensor([1.0, steep], dtype=torch.float64))
    reached = minimise(function, torch.full((2,), 0.5), evaluations=40, bounds=1.5, least_gain=TOLD)
    assert all(float(point.abs().max()) <= 1.5 for point in function.points)
    expected = torch.tensor([-1.5 if below else 1.5, near], dtype=torch.float64)
    torch.testing.assert_close(reached.point, expected, rtol=0, atol=1e-3)


def test_a_bound_moves_the_values_that_depend_on_it() -> None:
    # Held at x = 1.5, 2 (.7 (1.5 - 3) + y + 1) = 0 where y = .05.
    root = torch.linalg.cholesky(torch.tensor([[1.0, 0.7], [0.7, 1.0]], dtype=torch.float64)).T
    centre = torch.tensor([3.0, -1.0], dtype=torch.float64)
    function = Squares(lambda x: root @ (x - centre))
    reached = minimise(function, torch.full((2,), 0.5), evaluations=40, bounds=1.5, least_gain=TOLD)
    assert reached.point.tolist() == pytest.approx([1.5, 0.05], abs=1e-3)


def test_a_lower_bound_of_its_own_and_a_start_outside() -> None:
    function = bowl(torch.tensor([-1.0, 0.2], dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    reached = minimise(function, torch.tensor([7.0, -3.0]), evaluations=40, bounds=1.5, least=0.1, least_gain=TOLD)
    assert function.points[0].tolist() == [1.5, 0.1]
    assert reached.point.tolist() == pytest.approx([0.1, 0.2], abs=1e-3)


@settings(max_examples=30)
@given(st.lists(numbers(-1.4, 1.4), min_size=3, max_size=3), numbers(0, 2))
def test_the_size_of_the_values_costs_by_hand(centre: list[float], l1: float) -> None:
    """min (x - c)^2 + l1 |x|: c moved by l1 / 2 towards zero, and zero where that is further than c is away."""
    function = bowl(torch.tensor(centre, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    reached = minimise(function, torch.full((3,), 0.5), evaluations=20, bounds=1.5, l1=l1, least_gain=TOLD)
    expected = [math.copysign(max(0.0, abs(c) - l1 / 2), c) for c in centre]
    assert reached.point.tolist() == pytest.approx(expected, abs=1e-3)


def test_the_quadratic_is_solved_as_a_linear_system_has_it() -> None:
    generator = torch.Generator().manual_seed(3)
    slope = torch.randn(30, 12, dtype=torch.float64, generator=generator)
    slope[:, 1] = slope[:, 0] + 1e-2 * slope[:, 1]  # two that hardly differ
    gradient = torch.randn(12, dtype=torch.float64, generator=generator)
    matrix = slope.T @ slope / 30
    around = Minimum(torch.zeros(12, dtype=torch.float64), Quadratic(0.0, gradient, matrix))
    expected = torch.linalg.solve(matrix + 0.05 * torch.eye(12), -gradient)
    torch.testing.assert_close(minimise_quadratic(around, 0.05, (-99, 99), 0.0), expected, rtol=1e-3, atol=1e-3)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(0.05, 2.0))
def test_within_bounds_nothing_near_is_better(seed: int, size: int, bound: float) -> None:
    """The conditions of an optimum: no slope where a value is free, and one that leads out where it is held."""
    generator = torch.Generator().manual_seed(seed)
    slope = torch.randn(size + 2, size, dtype=torch.float64, generator=generator)
    gradient = 3 * torch.randn(size, dtype=torch.float64, generator=generator)
    around = Minimum(torch.zeros(size, dtype=torch.float64), Quadratic(0.0, gradient, slope.T @ slope))
    point = minimise_quadratic(around, 1e-2, (-bound, bound), 0.0)
    rest = gradient + (slope.T @ slope + 1e-2 * torch.eye(size)) @ point
    assert float(point.abs().max()) <= bound + 1e-9
    for value, left in zip(point.tolist(), rest.tolist(), strict=True):
        if abs(value) < bound - 1e-6:
            assert left == pytest.approx(0, abs=1e-3)
        else:
            assert left * value <= 1e-6  # downhill is outside


@pytest.mark.parametrize("evaluations", range(1, 12))
def test_never_more_evaluations_than_asked_for_and_the_best_of_them(evaluations: int) -> None:
    function = Squares(lambda x: torch.cat([rosenbrock(x), (9 * x).sin()]))  # steps that are hard to choose
    seen: list[float] = []
    reached = minimise(
        function, torch.tensor([-1.2, 1.0]), evaluations=evaluations, bounds=1.5, least_gain=TOLD, advance=seen.append
    )
    assert 1 <= len(function.points) <= evaluations
    assert reached.near.value == min(function.values)
    assert reached.point.tolist() == function.points[function.values.index(min(function.values))].tolist()
    assert seen == [min(function.values[: count + 1]) for count in range(len(function.values))]


def test_a_step_that_is_to_gain_too_little_is_not_tried() -> None:
    function = bowl(torch.tensor([0.6], dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    minimise(function, torch.tensor([0.5]), evaluations=40, bounds=1.5, least_gain=0.02)
    assert len(function.points) == 1


def test_what_is_known_of_the_start_is_not_asked_again() -> None:
    function = bowl(torch.tensor([0.6], dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    start = torch.tensor([0.5], dtype=torch.float64)
    known = function(start)
    minimise(function, start, evaluations=1, bounds=1.5, least_gain=TOLD, known=known)
    assert len(function.points) == 2 and function.points[1].tolist() != [0.5]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_best_finite_point_wins_where_others_have_no_value(bad: float) -> None:
    def cliff(point: Tensor) -> Quadratic:
        x = float(point[0])
        one = torch.ones(1, dtype=torch.float64)
        return Quadratic(bad if x > 0.8 else -x, -one, torch.ones(1, 1, dtype=torch.float64))

    reached = minimise(cliff, torch.tensor([0.5]), evaluations=20, bounds=1.5, least_gain=TOLD)
    assert 0.5 < float(reached.point[0]) <= 0.8
    assert reached.near.value == pytest.approx(-float(reached.point[0]))


def test_a_slope_that_is_no_number_ends_the_search() -> None:
    def model_at(point: Tensor) -> Quadratic:
        return Quadratic(
            float(point.square().sum()), torch.full((2,), math.nan).double(), torch.eye(2, dtype=torch.float64)
        )

    reached = minimise(model_at, torch.ones(2), evaluations=9, bounds=1.5, least_gain=TOLD)
    assert reached.point.tolist() == [1.0, 1.0]


def test_no_value_at_the_start_is_an_error() -> None:
    def model_at(point: Tensor) -> Quadratic:
        return Quadratic(math.nan, torch.zeros(2), torch.eye(2))

    with pytest.raises(ForgeError, match="no finite score"):
        minimise(model_at, torch.zeros(2), evaluations=5, bounds=1.5, least_gain=TOLD)


def test_the_same_result_every_time() -> None:
    first, second = (
        minimise(Squares(rosenbrock), torch.tensor([-1.2, 1.0]), evaluations=6, bounds=1.5, least_gain=TOLD)
        for _ in range(2)
    )
    assert torch.equal(first.point, second.point)
