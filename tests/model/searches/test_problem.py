"""The numbers of a merge on made-up objectives: what is free, what it multiplies and what keeps it in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from forge.model.curvature import Quadratic
from forge.model.objectives import Objective
from forge.model.searches import by_gradients
from forge.model.searches.by_gradients import solve_per_module
from forge.model.searches.gradient_free import search
from forge.model.searches.gradient_free import solve as solve_gradient_free
from forge.model.searches.problem import Problem, Solution, in_scales, objective_at
from forge.recipe.settings import SearchSettings

PLAIN = SearchSettings(l1=0.0)
KEEP = torch.tensor([1.0, 0.0], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search ends where nothing is to be gained, not where it no longer matters to a model."""
    for name in ("GAIN", "GAIN_ON_THE_WAY"):
        monkeypatch.setattr(by_gradients, name, 1e-7)


def silent(best: float) -> None:
    pass


def solve_shared(problem: Problem, settings: SearchSettings, advance: Callable[[float], None]) -> Solution:
    return by_gradients.solve_shared(problem, settings, advance)[0]


def holding(pull: float) -> SearchSettings:
    return replace(PLAIN, pull=pull)


def made_up(function: Callable[[Tensor], Tensor]) -> Objective:
    """An objective from a differentiable function of C [members, columns]."""

    def value(point: Tensor) -> float:
        return float(function(point.double()))

    def quadratic(point: Tensor) -> Quadratic:
        flat = point.double().flatten()
        asked = lambda values: function(values.view_as(point))  # noqa: E731
        with torch.enable_grad():
            gradient = torch.autograd.functional.jacobian(asked, flat)
            matrix = torch.autograd.functional.hessian(asked, flat)
        assert isinstance(gradient, Tensor) and isinstance(matrix, Tensor)
        return Quadratic(value(point), gradient, matrix)

    return Objective(value, quadratic)


def bowl(wanted: Tensor) -> Objective:
    return made_up(lambda c: (c - wanted.double()).square().sum())


# Two members of ours (side 0) with coefficients .9 and .6, one of theirs (side 1), three modules.
UNITS = torch.tensor([0, 0, 1])
BEFORE = torch.tensor([[0.9], [0.6], [1.0]]).expand(3, 3)


def test_coefficients_by_hand() -> None:
    problem = Problem(bowl(torch.zeros(3, 3)), UNITS, BEFORE * torch.tensor([1.0, 2.0, 0.0]), None, False)
    scales = torch.tensor([[0.5, 1.0, 2.0], [0.1, 0.2, 0.3]])
    expected = torch.tensor([[0.45, 1.8, 0.0], [0.3, 1.2, 0.0], [0.1, 0.4, 0.0]])
    torch.testing.assert_close(problem.coefficients(scales), expected)
    torch.testing.assert_close(problem.coefficients(torch.tensor([[1.0], [0.0]]))[0], torch.tensor([0.9, 1.8, 0.0]))
    assert (problem.unit_count, problem.columns) == (2, 3)


@pytest.mark.parametrize("shared", [True, False])
def test_an_objective_of_scales_is_that_of_coefficients(shared: bool) -> None:
    """Gradient and matrix by autograd through the coefficients, which the change of variables must give too."""
    skew = torch.randn(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    objective = made_up(lambda c: (skew @ c.flatten()).square().sum() + c.sum())
    problem = Problem(objective, UNITS, BEFORE * torch.tensor([1.0, 2.0, 0.5]), None, False)
    scales = torch.tensor([[0.5], [0.1]] if shared else [[0.5, 1.0, 2.0], [0.1, 0.2, 0.3]], dtype=torch.float64)
    near = in_scales(problem, objective.quadratic(problem.coefficients(scales)), shared)
    weights = problem.before.double()

    def through(values: Tensor) -> Tensor:
        c = values.view_as(scales)[problem.units] * weights
        return (skew @ c.flatten()).square().sum() + c.sum()

    flat = scales.flatten()
    gradient, matrix = (
        torch.autograd.functional.jacobian(through, flat),
        torch.autograd.functional.hessian(through, flat),
    )
    assert near.value == pytest.approx(float(through(flat)), rel=1e-6)
    torch.testing.assert_close(near.gradient, gradient, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(near.matrix, matrix, rtol=1e-5, atol=1e-5)


def test_shared_scales_of_a_bowl() -> None:
    # min_w 3 ((.9 w - .8)^2 + (.6 w - .2)^2): w = (.9 * .8 + .6 * .2) / (.81 + .36)
    wanted = torch.tensor([[0.8], [0.2], [0.7]]).expand(3, 3)
    found = solve_shared(Problem(bowl(wanted), UNITS, BEFORE, KEEP, False), PLAIN, silent)
    w = 0.84 / 1.17
    torch.testing.assert_close(found.scales[:, 0], torch.tensor([w, 0.7], dtype=torch.float64), rtol=0, atol=1e-3)
    assert torch.equal(found.scales, found.scales[:, :1].expand(2, 3))
    expected = 3 * ((0.9 * w - 0.8) ** 2 + (0.6 * w - 0.2) ** 2)
    assert found.objective == pytest.approx(expected, abs=1e-4)


def test_the_size_of_the_scales_costs_by_hand() -> None:
    # min w^2-2w+1 + l1 |w| / 2: w = 1 - l1 / 4
    problem = Problem(bowl(torch.ones(2, 1)), torch.tensor([0, 1]), torch.ones(2, 1), None, False)
    found = solve_shared(problem, replace(PLAIN, l1=0.8), silent)
    assert found.scales[:, 0].tolist() == pytest.approx([0.8, 0.8], abs=1e-3)
    assert found.objective == pytest.approx(2 * 0.04 + 0.8 * 0.8, abs=1e-4)
    scales = torch.tensor([1.0, -0.5], dtype=torch.float64)
    assert objective_at(problem, scales, 0.8) == pytest.approx(2.25 + 0.8 * 0.75)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([1e-3, 0.1, 2.0]))
def test_each_module_goes_from_the_shared_scale_as_far_as_it_is_let(seed: int, pull: float) -> None:
    """min (s - t)^2 + pull (s - s*)^2 per module: s = (t + pull s*) / (1 + pull)."""
    wanted = 2 * torch.rand(2, 4, generator=torch.Generator().manual_seed(seed)) - 1
    problem = Problem(bowl(wanted), torch.tensor([0, 1]), torch.ones(2, 4), None, False)
    shared = solve_shared(problem, PLAIN, silent)
    torch.testing.assert_close(shared.scales[:, 0], wanted.double().mean(1), rtol=0, atol=2e-3)
    found = solve_per_module(problem, shared, None, holding(pull), silent)
    expected = (wanted.double() + pull * shared.scales) / (1 + pull)
    torch.testing.assert_close(found.scales, expected, rtol=0, atol=2e-3)
    assert found.objective <= shared.objective


def test_a_very_large_pull_gives_the_shared_scales() -> None:
    wanted = torch.tensor([[1.0, -1.0, 0.3], [0.2, 0.9, -0.4]])
    problem = Problem(bowl(wanted), torch.tensor([0, 1]), torch.ones(2, 3), None, False)
    shared = solve_shared(problem, PLAIN, silent)
    found = solve_per_module(problem, shared, None, holding(1e6), silent)
    torch.testing.assert_close(found.scales, shared.scales, rtol=0, atol=1e-5)
    assert found.objective <= shared.objective


def test_units_that_share_a_scale_per_module() -> None:
    wanted = torch.tensor([[0.9, 0.0, 0.45], [0.6, 0.0, 0.3], [1.0, 0.5, 0.0]])
    problem = Problem(bowl(wanted), UNITS, BEFORE, KEEP, False)
    found = solve_per_module(problem, solve_shared(problem, PLAIN, silent), None, holding(0.0), silent)
    expected = torch.tensor([[1.0, 0.0, 0.5], [1.0, 0.5, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found.scales, expected, rtol=0, atol=2e-3)


def narrow_valley(c: Tensor) -> Tensor:
    """Zero at (1, 0) alone, in a hole too narrow for gradients from (.5, .5) to find; else a bowl around (.5, .8)."""
    near = (c - torch.tensor([[1.0], [0.0]], dtype=torch.float64)).square().sum()
    return 1 + (c - torch.tensor([[0.5], [0.8]], dtype=torch.float64)).square().sum() - 3 * torch.exp(-1e4 * near)


@pytest.mark.parametrize("solve", [solve_shared, solve_gradient_free])
def test_ours_is_kept_where_that_is_best(solve: Callable[..., object]) -> None:
    problem = Problem(made_up(narrow_valley), torch.tensor([0, 1]), torch.ones(2, 1), KEEP, False)
    kept = solve(problem, PLAIN, silent)
    assert kept.scales[:, 0].tolist() == [1.0, 0.0]  # type: ignore[attr-defined]
    without = solve(replace(problem, keep_ours=None), PLAIN, silent)
    assert without.scales[:, 0].tolist() == pytest.approx([0.5, 0.8], abs=0.1)  # type: ignore[attr-defined]


def test_ours_is_not_kept_where_something_is_better() -> None:
    problem = Problem(bowl(torch.tensor([[0.6], [0.7]])), torch.tensor([0, 1]), torch.ones(2, 1), KEEP, False)
    assert solve_shared(problem, PLAIN, silent).scales[:, 0].tolist() == pytest.approx([0.6, 0.7], abs=1e-3)


@pytest.mark.parametrize("keep", [KEEP, None])
def test_the_gradient_free_search_is_the_papers(keep: Tensor | None) -> None:
    wanted = torch.tensor([[0.8], [0.2], [0.7]]).expand(3, 3)
    chosen = SearchSettings(evaluations=15)
    problem = Problem(bowl(wanted), UNITS, BEFORE, keep, False)
    told: list[float] = []
    found = solve_gradient_free(problem, chosen, told.append)

    def loss(point: tuple[float, ...]) -> float:
        # COBYLA magnifies rounding, so in single precision as recipes are applied; the rest is by hand.
        ours, theirs = torch.tensor(point).tolist()
        rows = [(torch.tensor(c) * torch.tensor(s)).double() for c, s in ((0.9, ours), (0.6, ours), (1.0, theirs))]
        return float(sum(3 * (c - w).square() for c, w in zip(rows, wanted[:, 0].double(), strict=True)))

    expected = search(loss, 2, chosen, candidates=[] if keep is None else [(1.0, 0.0)])
    assert found.scales[:, 0].tolist() == pytest.approx(expected.point, abs=1e-5)
    assert found.objective == pytest.approx(expected.objective, rel=1e-5)
    assert len(told) == 15 + (keep is not None)


# Weights of probabilities.


def mixture_of(first: list[float], second: list[float]) -> Objective:
    """-mean log of the normalised mixture of what two members give the right label of each image."""
    each = torch.tensor([first, second], dtype=torch.float64)
    return made_up(lambda c: -((c[:, 0] / c.sum()) @ each).log().mean())


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_weights_of_probabilities_are_shares(seed: int) -> None:
    likely = (0.05 + 0.9 * torch.rand(2, 8, generator=torch.Generator().manual_seed(seed))).tolist()
    objective = mixture_of(*likely)
    problem = Problem(objective, torch.tensor([0, 1]), torch.ones(2, 1), None, True)
    found = solve_shared(problem, SearchSettings(), silent)
    weights = problem.coefficients(found.scales)
    assert float(weights.min()) >= 0
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    assert found.objective == pytest.approx(objective.value(weights), abs=1e-5)
    grid = torch.linspace(0, 1, 201)
    best = min(objective.value(torch.stack([w, 1 - w])[:, None]) for w in grid)
    assert objective.value(weights) <= best + 5e-3


def test_a_member_that_never_helps_gets_no_weight() -> None:
    problem = Problem(
        mixture_of([0.9, 0.8, 0.95], [0.1, 0.2, 0.05]), torch.tensor([0, 1]), torch.ones(2, 1), KEEP, True
    )
    for solve in (solve_shared, solve_gradient_free):
        found = solve(problem, SearchSettings(), silent)
        assert found.scales[:, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-3)


def test_the_sum_of_weights_counts_and_their_size_does_not() -> None:
    problem = Problem(mixture_of([0.5], [0.5]), torch.tensor([0, 1]), torch.ones(2, 1), None, True)
    expected = -torch.tensor(0.5).log().item()
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert objective_at(problem, half, 0.05) == pytest.approx(expected)
    assert objective_at(problem, 2 * half, 0.05) == pytest.approx(expected + 1)
