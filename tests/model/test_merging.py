"""Coefficients of whole merges on a tiny base: what must hold for any contributions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from composed import merged_delta
from torch import Tensor

from forge.errors import ForgeError
from forge.model import merging
from forge.model.adapters import Adapter
from forge.model.aims import label_aims
from forge.model.base import BaseModel
from forge.model.curvature import Quadratic
from forge.model.merging import (
    Member,
    choose_by_hold_out,
    merge_members,
    pooled_tasks,
    some_images,
)
from forge.model.objectives import Objective
from forge.model.scoring import TaskImages, outputs, score_tasks
from forge.model.searches import by_gradients
from forge.model.searches.gradient_free import search
from forge.model.searches.problem import Problem
from forge.model.strategies import compose, implementation_of
from forge.recipe.catalogue import check_combination
from forge.recipe.settings import SearchSettings

LUNG = ("benign lung tissues", "lung adenocarcinomas", "lung squamous cell carcinomas")
COLON = ("negative colon tumor", "positive colon tumor")
FEW = 12


def silent(best: float) -> None:
    pass


@pytest.fixture
def members(make_adapter: Callable[..., Path], read: Callable[[Path], Adapter], base: BaseModel) -> list[Member]:
    """Three contributions. Each one's images are labelled as its own adapter sees them, so that it helps there."""
    found = []
    for seed, (name, side, labels) in enumerate(
        [("breast", "ours", COLON[::-1]), ("colon", "ours", COLON), ("lung", "theirs", LUNG)]
    ):
        adapter = read(make_adapter(seed + 1, alpha=60))
        pixels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        targets = outputs(base, merged_delta("mixture", [(adapter, 1.0)]), pixels, labels).argmax(1)
        found.append(Member(name, adapter, 1.0, side, TaskImages(name, labels, pixels, targets)))
    return found


def two_sides(members: Sequence[Member]) -> list[Member]:
    return [replace(members[1], coefficient=0.9), members[2]]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("strategy", ["mixture", "fusion", "mixture-output"])
def test_the_order_of_members_does_not_matter_to_the_joint_search(
    base: BaseModel, strategy: str, members: list[Member]
) -> None:
    per = "contribution" if strategy == "mixture-output" else "module"
    settings = SearchSettings("joint", per, "cross-entropy", 0.01, evaluations=FEW)
    one, other = (merge_members(base, strategy, order, settings) for order in (members, members[::-1]))
    assert one.objective_after == pytest.approx(other.objective_after, abs=1e-4)
    assert one.objective_before == pytest.approx(other.objective_before, abs=1e-5)
    for name, coefficient in one.coefficients.items():
        assert other.coefficients[name] == pytest.approx(coefficient, abs=1e-4)


def test_the_gradient_free_search_is_the_papers(base: BaseModel, members: list[Member]) -> None:
    ours, theirs = two_sides(members)
    settings = SearchSettings("shiwa", "contribution", "cross-entropy", 0.0, evaluations=40)
    found = merge_members(base, "fusion", [ours, theirs], settings)
    tasks = [ours.images, theirs.images]

    def loss(point: tuple[float, ...]) -> float:
        first, second = torch.tensor(point).tolist()
        parts = compose("fusion", [(ours.adapter, 0.9 * first), (theirs.adapter, second)])
        return sum(score.cross_entropy for score in score_tasks(base, parts, tasks)) / 2

    assert found.objective_after == pytest.approx(search(loss, 2, settings, candidates=[(1, 0)]).objective, abs=2e-3)
    w, w2 = found.scales["ours"], found.scales["theirs"]
    assert found.objective_after == pytest.approx(loss((w, w2)) + 0.05 * (abs(w) + abs(w2)) / 2, abs=1e-4)
    assert found.coefficients == {
        "colon": pytest.approx(0.9 * w, abs=2e-6),
        "lung": pytest.approx(w2, abs=2e-6),
    }
    assert found.objective_before == pytest.approx(loss((1, 0)) + 0.05 / 2, abs=1e-4)
    assert found.by_task == {}


def test_the_exact_search_is_no_worse_than_the_gradient_free_one(base: BaseModel, members: list[Member]) -> None:
    pair = two_sides(members)
    for strategy in ("mixture", "mixture-output"):
        exact, shiwa = (
            merge_members(
                base, strategy, pair, SearchSettings(method, "contribution", "cross-entropy", 0.0, evaluations=FEW)
            )
            for method in ("exact", "shiwa")
        )
        assert exact.objective_after <= shiwa.objective_after + 2e-3
        assert exact.objective_after <= exact.objective_before + 1e-5


def test_a_very_large_pull_gives_the_coefficients_of_contributions(
    base: BaseModel, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GAIN", "GAIN_ON_THE_WAY"):
        monkeypatch.setattr(by_gradients, name, 1e-6)
    alone = merge_members(
        base, "mixture", members, SearchSettings("joint", "contribution", "cross-entropy", evaluations=FEW)
    )
    held = merge_members(
        base, "mixture", members, SearchSettings("joint", "module", "cross-entropy", pull=1e6, evaluations=FEW)
    )
    free = merge_members(
        base,
        "mixture",
        members,
        SearchSettings("joint", "module", "cross-entropy", pull=1e-4, evaluations=FEW, bounds=99.0),
    )
    for name, coefficient in alone.coefficients.items():
        found = held.coefficients[name]
        values = list(found.values()) if not isinstance(found, float) else [found]
        assert values == pytest.approx([coefficient] * len(values), abs=1e-4)
        assert len(set(free.coefficients[name].values())) == 5  # type: ignore[union-attr]


def test_the_objective_recorded_is_that_of_the_coefficients_recorded(base: BaseModel, members: list[Member]) -> None:
    settings = SearchSettings("joint", "contribution", "cross-entropy", evaluations=FEW)
    found = merge_members(base, "mixture", members, settings)
    values = [found.coefficients[member.name] for member in members]
    tasks = pooled_tasks([member.images for member in members])
    assert [task.task for task in tasks] == ["breast", "lung"]  # breast and colon have the same labels here
    delta = merged_delta("mixture", [(m.adapter, c) for m, c in zip(members, values, strict=True)])
    loss = sum(score.cross_entropy for score in score_tasks(base, delta, tasks)) / 2
    assert found.objective_after == pytest.approx(loss + 0.05 * sum(abs(c) for c in values) / 3, abs=1e-4)


def test_coefficients_of_a_task_are_for_its_images_alone(base: BaseModel, members: list[Member]) -> None:
    """One contribution is the task's own teacher, so on that task's images it alone is a perfect match."""
    pair = two_sides(members)
    settings = SearchSettings("joint", "contribution", "distillation", 0.0, evaluations=25, l1=0.0)
    found = merge_members(base, "mixture", pair, settings, task_aware=True)
    assert set(found.by_task) == {"colon", "lung"}
    for task, own, other in (("colon", "colon", "lung"), ("lung", "lung", "colon")):
        coefficients = found.by_task[task]
        assert set(coefficients) == {"colon", "lung"}
        assert coefficients[own] == pytest.approx(1, abs=0.1)
        assert coefficients[other] == pytest.approx(0, abs=0.1)
    assert found.coefficients["lung"] != pytest.approx(0, abs=0.1)  # shared coefficients serve both tasks


def test_weights_of_probabilities_are_shares(base: BaseModel, members: list[Member]) -> None:
    for method in ("joint", "exact", "shiwa"):
        settings = SearchSettings(method, "contribution", evaluations=FEW)
        found = merge_members(base, "mixture-output", members, settings, task_aware=method == "joint")
        for coefficients in (found.coefficients, *found.by_task.values()):
            values = [float(value) for value in coefficients.values()]  # type: ignore[arg-type]
            assert min(values) >= 0
            assert sum(values) == pytest.approx(1, abs=0.1 if method == "shiwa" else 1e-4)
            assert compose("mixture-output", [(m.adapter, coefficients[m.name]) for m in members])


def test_output_weights_without_anything_of_ours_have_a_score_before(base: BaseModel, members: list[Member]) -> None:
    new = [replace(member, side="theirs") for member in members]
    settings = SearchSettings("joint", "contribution", "cross-entropy", evaluations=FEW)
    found = merge_members(base, "mixture-output", new, settings)
    tasks = pooled_tasks([member.images for member in members])
    alone = sum(score.cross_entropy for score in score_tasks(base, {}, tasks)) / 2
    assert found.objective_before == pytest.approx(alone + 1, rel=1e-4)  # weights that sum to 0 cost 1


def test_the_same_result_every_time(base: BaseModel, members: list[Member]) -> None:
    settings = SearchSettings("exact", "module", "distillation", 0.01, evaluations=6)
    one, other = (merge_members(base, "mixture", members, settings) for _ in range(2))
    assert one == other


# Hold-out, on made-up objectives.


class MadeUpProblems:
    """In place of make_problem: each objective is least at a scale of its own, and images are counted."""

    def __init__(self, best: dict[str, float], judge: Callable[[int, float], float]) -> None:
        self.best, self.judge = best, judge
        self.calls: list[tuple[str, list[int]]] = []

    def __call__(self, base: object, strategy: str, members: Sequence[Member], settings: SearchSettings) -> Problem:
        number = len(self.calls)
        self.calls.append((settings.objective, members[0].images.pixels[:, 0, 0, 0].int().tolist()))
        centre = self.best[settings.objective]
        judging = number % (1 + len(self.best)) == 0
        fold = number // (1 + len(self.best))

        def value(point: Tensor) -> float:
            x = float(point[0, 0])
            return self.judge(fold, x) if judging else (x - centre) ** 2

        def quadratic(point: Tensor) -> Quadratic:
            return Quadratic(value(point), 2 * (point.double() - centre)[0], torch.tensor([[2.0]]).double())

        return Problem(Objective(value, quadratic), torch.tensor([0]), torch.ones(1, 1), None, False)


def numbered(count: int, adapter: Adapter) -> Member:
    """Images that hold their own number; labels take turns in pairs: 0 0 1 1 0 0 1 1."""
    pixels = torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return Member("one", adapter, 1.0, "theirs", TaskImages("one", COLON, pixels, torch.arange(count) // 2 % 2))


HELD_OUT = SearchSettings("joint", "contribution", "held-out", 0.0, l1=0.0)


@pytest.mark.parametrize("wanted", ["cross-entropy", "distillation"])
def test_what_counts_is_the_images_held_out(base: BaseModel, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    best = {"cross-entropy": 0.2, "distillation": 0.9}
    problems = MadeUpProblems(best, lambda fold, x: abs(x - best[wanted]))
    monkeypatch.setattr(merging, "make_problem", problems)
    found = choose_by_hold_out(base, "mixture", [numbered(8, {})], HELD_OUT, silent)
    assert found == replace(HELD_OUT, objective=wanted)
    even, odd = [0, 2, 4, 6], [1, 3, 5, 7]
    seen = [("cross-entropy", odd), ("cross-entropy", even), ("distillation", even)]
    assert problems.calls == [*seen, *((name, odd if part == even else even) for name, part in seen)]


def test_both_folds_count(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(fold: int, x: float) -> float:
        return 0.0 if (x > 0.5) == (fold == 0) else (1.0 if fold == 0 else 3.0)

    # Distillation (.9) is better in the first fold by 1, cross-entropy (.2) in the second by 3.
    monkeypatch.setattr(merging, "make_problem", MadeUpProblems({"cross-entropy": 0.2, "distillation": 0.9}, judge))
    assert choose_by_hold_out(base, "mixture", [numbered(8, {})], HELD_OUT, silent).objective == "cross-entropy"


def test_what_has_no_value_on_the_images_held_out_is_not_chosen(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = MadeUpProblems({"cross-entropy": 0.2, "distillation": 0.9}, lambda fold, x: 5.0 if x > 0.5 else math.nan)
    monkeypatch.setattr(merging, "make_problem", problems)
    assert choose_by_hold_out(base, "mixture", [numbered(8, {})], HELD_OUT, silent).objective == "distillation"


def test_one_image_per_class_cannot_be_held_out(base: BaseModel, members: list[Member]) -> None:
    images = TaskImages("lung", LUNG, members[2].images.pixels[:3], torch.arange(3))
    with pytest.raises(ForgeError, match="lung has one distilled image per class") as caught:
        merge_members(base, "mixture", [replace(members[2], images=images)], HELD_OUT)
    assert "[search]" in (caught.value.hint or "")


def test_a_choice_of_one_is_not_searched(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(merging, "make_problem")
    settings = SearchSettings("joint", "contribution", "distillation", "held-out")
    assert choose_by_hold_out(base, "mixture", [numbered(2, {})], settings, silent) == replace(settings, pull=0.0)


def test_pull_and_objective_are_chosen_and_recorded(base: BaseModel, members: list[Member]) -> None:
    settings = SearchSettings("joint", "module", "held-out", "held-out", evaluations=2)
    found = merge_members(base, "mixture", two_sides(members), settings)
    assert found.settings.objective in ("cross-entropy", "distillation")
    assert found.settings.pull in merging.PULLS


# Settings.


@pytest.mark.parametrize(
    ("strategy", "change", "message"),
    [
        ("mixture", {"method": "shiwa"}, "search.method shiwa finds two scales a merge"),
        ("mixture-output", {}, "mixture-output weighs whole outputs"),
        ("averaging", {}, "unknown strategy 'averaging'"),
    ],
)
def test_settings_without_a_meaning_are_refused(
    base: BaseModel, members: list[Member], strategy: str, change: dict[str, str], message: str
) -> None:
    settings = replace(SearchSettings(), **change)  # type: ignore[arg-type]
    with pytest.raises(ForgeError, match=message) as caught:
        merge_members(base, strategy, members, settings)
    assert caught.value.hint


@pytest.mark.parametrize("strategy", ["mixture", "fusion"])
@pytest.mark.parametrize("method", ["exact", "joint"])
def test_settings_with_a_meaning_pass(strategy: str, method: str) -> None:
    check_combination(strategy, method, "module")
    check_combination("mixture-output", method, "contribution")


# Tasks.


def test_the_same_labels_in_another_order_are_the_same_task(images: Tensor) -> None:
    first = TaskImages("colon", COLON, images[:3], torch.tensor([0, 1, 1]))
    second = TaskImages("colon of another hospital", COLON[::-1], images[3:5], torch.tensor([0, 1]))
    lung = TaskImages("a lung", LUNG, images[5:], torch.tensor([2, 1, 0, 1, 2]))
    alone, both = pooled_tasks([first, lung, second])
    assert (alone.task, both.task) == ("a lung", "colon")
    assert both.labels == COLON
    assert [both.labels[target] for target in both.targets] == [
        COLON[0], COLON[1], COLON[1],  # as they were
        COLON[1], COLON[0],  # their first label is our second
    ]  # fmt: skip
    assert torch.equal(both.pixels, images[:5])
    assert torch.equal(alone.targets, lung.targets)


def test_the_same_name_for_other_labels_stays_two_tasks(images: Tensor) -> None:
    first = TaskImages("tissue", COLON, images[:2], torch.tensor([0, 1]))
    second = TaskImages("tissue", LUNG, images[2:5], torch.arange(3))
    assert [(task.task, task.labels) for task in pooled_tasks([first, second])] == [
        ("tissue", COLON),
        ("tissue+", LUNG),
    ]


def test_pooled_images_score_as_their_parts(base: BaseModel, members: list[Member]) -> None:
    """Aligned targets: the loss of the pool is the mean of its parts' own."""
    parts = [members[0].images, members[1].images]
    (pool,) = pooled_tasks(parts)
    each = [score.cross_entropy for score in score_tasks(base, {}, parts)]
    objective = implementation_of("mixture").objective(base, [members[0].adapter], label_aims([pool]))
    assert objective.value(torch.zeros(1, 5)) == pytest.approx(sum(each) / 2, rel=1e-4)


# How much a search looks at.


def test_a_search_looks_at_so_many_images_and_at_every_member_and_class() -> None:
    pixels = torch.arange(40).float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    targets = torch.arange(40) // 20  # twenty of each of two classes, in order
    members = [Member(str(n), {}, 1.0, "ours", TaskImages("one", COLON, pixels, targets)) for n in range(5)]
    assert some_images(members, 200) == members
    fewer = some_images(members, 40)  # eight each, four a class
    assert [member.images.pixels[:, 0, 0, 0].int().tolist() for member in fewer] == [[2, 7, 12, 17, 22, 27, 32, 37]] * 5
    least = some_images(members, 3)
    assert [member.images.targets.tolist() for member in least] == [[0, 1]] * 5


def test_no_more_images_are_looked_at_than_there_may_be(
    base: BaseModel, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the eighteen images of the members nine: the same coefficients as where there are no others."""
    monkeypatch.setattr(merging, "MOST_IMAGES", 9)
    settings = SearchSettings("joint", "contribution", "cross-entropy", 0.0, evaluations=FEW)
    limited = merge_members(base, "mixture", members, settings)
    few = some_images(sorted(members, key=lambda member: member.name), 9)
    assert sum(len(member.images.targets) for member in few) <= 9
    monkeypatch.setattr(merging, "MOST_IMAGES", 600)
    assert limited == merge_members(base, "mixture", few, settings)
