"""Baselines against tensors computed by hand and against PEFT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from examples.paper.baselines import (
    PEFT_COMBINATIONS,
    batches_in_turn,
    lorahub,
    peft_combination,
    pooled_adapter,
    share_of,
    soup,
)
from forge.errors import ForgeError
from forge.model.adapters import Adapter, LowRank, plain_delta, read_adapter
from forge.model.attention import adaptable_modules
from forge.model.base import BaseModel
from forge.model.scoring import TaskImages, score_tasks
from forge.model.searches.gradient_free import objective_of
from forge.model.strategies import compose
from forge.model.training import TrainSettings, train_adapter
from forge.recipe.settings import SearchSettings

QUICK = TrainSettings("adamw", 5e-3, "cosine", 0.01, epochs=2, batch=8, rank=4, alpha=4)
MakeTask = Callable[..., TaskImages]

pytestmark = pytest.mark.usefixtures("untouched")


def random_adapter(base: BaseModel, seed: int, rank: int = 2, scaling: float = 1.5) -> Adapter:
    """An adapter of two modules with factors that are far from zero."""
    generator = torch.Generator().manual_seed(seed)
    modules = sorted(adaptable_modules(base.tower).items())
    chosen = [(name, module) for name, module in modules if name.endswith(("q_proj", "v_proj"))][:2]
    return {
        name: LowRank(
            torch.randn(rank, module.weight.shape[1], generator=generator) / 4,
            torch.randn(module.weight.shape[0], rank, generator=generator) / 4,
            scaling,
        )
        for name, module in chosen
    }


def test_soup_is_the_mean_of_the_factors(base: BaseModel) -> None:
    first, second, third = (random_adapter(base, seed) for seed in range(3))
    ((delta, weight),) = soup([first, second, third])
    assert weight == 1
    for name in first:
        a = (first[name].a + second[name].a + third[name].a) / 3
        b = (first[name].b + second[name].b + third[name].b) / 3
        torch.testing.assert_close(delta[name], 1.5 * b @ a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_peft_cat_is_the_weighted_sum_of_changes(base: BaseModel, weight: float) -> None:
    adapters = [random_adapter(base, seed) for seed in range(2)]
    combined = plain_delta(peft_combination(base, adapters, "cat", weight))
    changes = [plain_delta(adapter) for adapter in adapters]
    assert sorted(combined) == sorted(changes[0])
    for name, delta in combined.items():
        torch.testing.assert_close(delta, weight * (changes[0][name] + changes[1][name]), rtol=1e-4, atol=1e-6)


def test_peft_svd_is_the_best_approximation_of_that_sum(base: BaseModel) -> None:
    adapters = [random_adapter(base, seed) for seed in range(2)]
    combined = plain_delta(peft_combination(base, adapters, "svd", 0.5))
    changes = [plain_delta(adapter) for adapter in adapters]
    for name, delta in combined.items():
        left, values, right = torch.linalg.svd((changes[0][name] + changes[1][name]) / 2)
        best = left[:, :2] @ torch.diag(values[:2]) @ right[:2]
        torch.testing.assert_close(delta, best, rtol=1e-3, atol=1e-5)


def test_peft_linear_adds_the_factors(base: BaseModel) -> None:
    first, second = (random_adapter(base, seed) for seed in range(2))
    combined = plain_delta(peft_combination(base, [first, second], "linear", 0.5))
    for name, delta in combined.items():
        # Each factor carries the square root of weight times scaling.
        expected = 0.5 * 1.5 * (first[name].b + second[name].b) @ (first[name].a + second[name].a)
        torch.testing.assert_close(delta, expected, rtol=1e-4, atol=1e-6)


def test_peft_ties_keeps_the_larger_half_and_elects_signs(base: BaseModel) -> None:
    first, second = (random_adapter(base, seed) for seed in range(2))
    combined = peft_combination(base, [first, second], "ties", 0.5, density=0.5)

    def ties(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        weighted = []
        for factor in (one, other):
            keep = torch.zeros(factor.numel(), dtype=torch.bool)
            keep[factor.abs().flatten().topk(factor.numel() // 2).indices] = True
            weighted.append((0.5 * 1.5) ** 0.5 * torch.where(keep.view_as(factor), factor, 0))
        sign = torch.where(sum(weighted) >= 0, 1.0, -1.0)
        agreeing = [torch.where(part.sign() == sign, part, 0) for part in weighted]
        count = sum((part != 0).float() for part in agreeing)
        return sum(agreeing) / torch.as_tensor(count).clamp_min(1)

    for name, module in combined.items():
        expected = ties(first[name].b, second[name].b) @ ties(first[name].a, second[name].a)
        torch.testing.assert_close(module.delta(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", PEFT_COMBINATIONS)
def test_a_lone_adapter_without_pruning_is_itself(base: BaseModel, kind: str) -> None:
    adapter = random_adapter(base, 3)
    combined = plain_delta(peft_combination(base, [adapter], kind, 1.0, density=1.0))
    for name, delta in plain_delta(adapter).items():
        torch.testing.assert_close(combined[name], delta, rtol=1e-3, atol=1e-5)


def test_dare_drops_by_the_seed_alone(base: BaseModel) -> None:
    adapters = [random_adapter(base, seed) for seed in range(2)]

    def delta(seed: int) -> dict[str, torch.Tensor]:
        return plain_delta(peft_combination(base, adapters, "dare_linear", 0.5, seed=seed))

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = delta(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert all(torch.equal(value, first[name]) for name, value in delta(1).items())
    assert any(not torch.equal(value, first[name]) for name, value in delta(2).items())


def test_peft_would_leave_a_magnitude_out(base: BaseModel) -> None:
    plain = random_adapter(base, 0)
    weights = {name: adaptable_modules(base.tower)[name].weight.detach() for name in plain}
    dora = {name: replace(m, magnitude=weights[name].norm(dim=1), weight=weights[name]) for name, m in plain.items()}
    with pytest.raises(ForgeError, match="magnitude"):
        peft_combination(base, [dora], "cat", 1.0)


def test_lorahub_finds_the_least_of_what_it_saw(base: BaseModel, bright_or_dark: MakeTask) -> None:
    adapters = [random_adapter(base, seed) for seed in range(2)]
    tasks = [bright_or_dark(8, 1), bright_or_dark(6, 2)]
    settings = SearchSettings(evaluations=10)
    seen: list[float] = []
    found = lorahub(base, adapters, tasks, settings, advance=seen.append)
    assert len(seen) == 10 and seen[-1] == found.objective
    parts = compose("fusion", list(zip(adapters, found.point, strict=True)))
    loss = sum(each.cross_entropy for each in score_tasks(base, parts, tasks)) / 2
    assert found.objective == pytest.approx(objective_of(loss, found.point, 0.05))
    assert all(abs(value) <= 1.5 for value in found.point)


def test_one_task_is_trained_as_train_adapter_does(base: BaseModel, bright_or_dark: MakeTask) -> None:
    train, validation = bright_or_dark(20, 1), bright_or_dark(8, 2)
    alone = train_adapter(base, train, validation, QUICK)
    pooled = pooled_adapter(base, [train], [validation], QUICK)
    assert pooled.config == alone.config and pooled.epoch == alone.epoch
    assert pooled.validation.accuracy == alone.validation.accuracy
    assert all(torch.equal(pooled.tensors[name], value) for name, value in alone.tensors.items())


def test_two_tasks_are_learnt_at_once(base: BaseModel, bright_or_dark: MakeTask, dark_or_bright: MakeTask) -> None:
    train, test = [bright_or_dark(32), dark_or_bright(16)], [bright_or_dark(20, 5), dark_or_bright(20, 5)]
    notes: list[str] = []
    made = pooled_adapter(base, train, test, replace(QUICK, epochs=4), advance=notes.append)
    assert len(notes) == 4 * (4 + 2)
    adapter = read_adapter(made.config, made.tensors, base.tower, source="pooled")
    assert all(each.accuracy > 0.9 for each in score_tasks(base, plain_delta(adapter), test))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 9))
def test_an_epoch_takes_every_image_once(counts: list[int], size: int) -> None:
    tasks = [
        TaskImages(f"task{number}", ("a", "b"), torch.zeros(count, 3, 1, 1), torch.zeros(count, dtype=torch.long))
        for number, count in enumerate(counts)
    ]
    batches = batches_in_turn(tasks, size, torch.Generator().manual_seed(0))
    for task, count in zip(tasks, counts, strict=True):
        taken = [index for each, index in batches if each is task]
        assert sorted(torch.cat(taken).tolist()) == list(range(count))
        assert all(len(index) <= size for index in taken)
    turns = [task.task for task, _ in batches][: len(counts)]
    assert turns == [task.task for task in tasks]


@given(st.lists(st.integers(0, 2), min_size=3, max_size=60), st.floats(0.05, 1))
def test_a_share_is_the_same_part_of_every_class(numbers: list[int], share: float) -> None:
    targets = torch.tensor([0, 1, 2, *numbers])
    images = TaskImages("t", ("a", "b", "c"), torch.arange(len(targets)).view(-1, 1, 1, 1), targets)
    part = share_of(images, share, seed=1)
    for label in range(3):
        there, taken = int((targets == label).sum()), int((part.targets == label).sum())
        assert taken == max(1, round(share * there))
    places = part.pixels.flatten().tolist()
    assert places == sorted(set(places))
    assert torch.equal(targets[places], part.targets)
