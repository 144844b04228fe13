"""The exact search on functions whose minimum is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from forge.errors import ForgeError
from forge.model.searches.gradient_descent import minimise


class Recorded:
    """A differentiable function with its gradient by autograd, which remembers where it was asked."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function
        self.points: list[Tensor] = []
        self.values: list[float] = []

    def __call__(self, point: Tensor) -> tuple[float, Tensor]:
        with torch.enable_grad():
            asked = point.clone().requires_grad_()
            value = self.function(asked)
            (gradient,) = torch.autograd.grad(value, [asked])
        self.points.append(point.clone())
        self.values.append(float(value.detach()))
        return self.values[-1], gradient


def bowl(centre: Tensor, steepness: Tensor) -> Recorded:
    return Recorded(lambda x: (steepness * (x - centre).square()).sum())


def rosenbrock(x: Tensor) -> Tensor:
    return (1 - x[0]).square() + 100 * (x[1] - x[0].square()).square()


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


@settings(max_examples=30)
@given(st.data(), st.integers(1, 12))
def test_the_minimum_of_a_bowl_is_found(data: st.DataObject, size: int) -> None:
    several = {"min_size": size, "max_size": size}
    centre = torch.tensor(data.draw(st.lists(numbers(-1.4, 1.4), **several)), dtype=torch.float64)
    steepness = torch.tensor(data.draw(st.lists(numbers(0.5, 5.0), **several)), dtype=torch.float64)
    start = torch.full((size,), 0.5)
    found = minimise(bowl(centre, steepness), start, evaluations=60, bounds=1.5)
    torch.testing.assert_close(found.point, centre, rtol=0, atol=1e-2)
    assert found.objective == pytest.approx(0, abs=1e-4)


def test_a_bowl_that_is_not_along_the_axes() -> None:
    matrix = torch.tensor([[2.0, 0.9, 0.0], [0.9, 1.0, -0.4], [0.0, -0.4, 0.7]], dtype=torch.float64)
    centre = torch.tensor([0.9, -0.3, 1.1], dtype=torch.float64)
    found = minimise(
        Recorded(lambda x: (x - centre) @ matrix @ (x - centre)), torch.full((3,), 0.5), evaluations=40, bounds=1.5
    )
    torch.testing.assert_close(found.point, centre, rtol=0, atol=5e-3)


def test_a_curved_valley() -> None:
    found = minimise(Recorded(rosenbrock), torch.tensor([-1.2, 1.0]), evaluations=80, bounds=1.5)
    torch.testing.assert_close(found.point, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-2)


@settings(max_examples=30)
@given(numbers(1.6, 4.0), numbers(-1.4, 1.4), st.booleans(), numbers(0.1, 2.0))
def test_a_minimum_beyond_the_bounds_is_kept_within(far: float, near: float, below: bool, steep: float) -> None:
    centre = torch.tensor([-far if below else far, near], dtype=torch.float64)
    function = bowl(centre, torch.tensor([1.0, steep], dtype=torch.float64))
    found = minimise(function, torch.full((2,), 0.5), evaluations=40, bounds=1.5)
    assert all(float(point.abs().max()) <= 1.5 for point in function.points)
    expected = torch.tensor([-1.5 if below else 1.5, near], dtype=torch.float64)
    torch.testing.assert_close(found.point, expected, rtol=0, atol=1e-2)


def test_a_bound_moves_the_values_that_depend_on_it() -> None:
    # Held at x = 1.5, 2 (.7 (1.5 - 3) + y + 1) = 0 where y = .05.
    matrix = torch.tensor([[1.0, 0.7], [0.7, 1.0]], dtype=torch.float64)
    centre = torch.tensor([3.0, -1.0], dtype=torch.float64)
    function = Recorded(lambda x: (x - centre) @ matrix @ (x - centre))
    found = minimise(function, torch.full((2,), 0.5), evaluations=40, bounds=1.5)
    assert found.point.tolist() == pytest.approx([1.5, 0.05], abs=1e-2)


def test_a_start_beyond_the_bounds_is_brought_within() -> None:
    function = bowl(torch.tensor([0.2], dtype=torch.float64), torch.ones(1))
    found = minimise(function, torch.tensor([7.0]), evaluations=40, bounds=1.5)
    assert function.points[0].tolist() == [1.5]
    assert found.point.tolist() == pytest.approx([0.2], abs=1e-3)


@pytest.mark.parametrize("evaluations", range(1, 30))
def test_never_more_evaluations_than_asked_for(evaluations: int) -> None:
    function = Recorded(lambda x: rosenbrock(x) + (10 * x).sin().abs().sum())  # steps that are hard to choose
    seen: list[float] = []
    found = minimise(function, torch.tensor([-1.2, 1.0]), evaluations=evaluations, bounds=1.5, advance=seen.append)
    assert 1 <= len(function.points) <= evaluations
    assert found.objective == min(function.values)
    assert found.point.tolist() == function.points[function.values.index(min(function.values))].tolist()
    assert seen == [min(function.values[: count + 1]) for count in range(len(function.values))]


def test_the_start_counts_where_nothing_is_better() -> None:
    found = minimise(Recorded(lambda x: x.square().sum()), torch.zeros(3), evaluations=10, bounds=1.5)
    assert found.point.tolist() == [0.0, 0.0, 0.0]
    assert found.objective == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_best_finite_point_wins_where_others_have_no_value(bad: float) -> None:
    def cliff(point: Tensor) -> tuple[float, Tensor]:
        x = float(point[0])
        return (bad if x > 0.8 else -x), torch.tensor([-1.0])

    found = minimise(cliff, torch.tensor([0.5]), evaluations=20, bounds=1.5)
    assert 0.5 <= float(found.point[0]) <= 0.8
    assert found.objective == pytest.approx(-float(found.point[0]))


def test_a_gradient_without_a_value_ends_the_search() -> None:
    found = minimise(
        lambda x: (float(x.square().sum()), torch.full((2,), math.nan)), torch.ones(2), evaluations=9, bounds=1.5
    )
    assert found.point.tolist() == [1.0, 1.0]


def test_no_value_anywhere_is_an_error() -> None:
    with pytest.raises(ForgeError, match="no finite score"):
        minimise(lambda x: (math.nan, torch.zeros(2)), torch.zeros(2), evaluations=5, bounds=1.5)


def test_the_same_result_every_time() -> None:
    first, second = (
        minimise(Recorded(rosenbrock), torch.tensor([-1.2, 1.0]), evaluations=25, bounds=1.5) for _ in range(2)
    )
    assert torch.equal(first.point, second.point)
    assert first.objective == second.objective


def test_gradients_of_single_precision_and_the_callers_start_are_left_alone() -> None:
    start = torch.full((2,), 0.5)
    found = minimise(
        lambda x: (float((x - 1).square().sum()), (2 * (x - 1)).float()), start, evaluations=20, bounds=1.5
    )
    assert found.point.dtype == torch.float64
    assert start.tolist() == [0.5, 0.5]
