"""The objectives of a search against plain loops, and their gradients against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from forge.model import aims, curvature, scoring
from forge.model.adapters import Adapter, plain_delta
from forge.model.aims import colleagues, label_aims, soft_targets, teacher_aims
from forge.model.attention import adaptable_modules
from forge.model.base import BaseModel
from forge.model.objectives import Objective, module_names
from forge.model.scoring import TaskImages
from forge.model.strategies import implementation_of

LUNG = ("benign lung tissues", "lung adenocarcinomas", "lung squamous cell carcinomas")
COLON = ("negative colon tumor", "positive colon tumor")


@pytest.fixture
def tasks(images: Tensor) -> list[TaskImages]:
    """Seven images of three labels and three images of two."""
    return [
        TaskImages("lung", LUNG, images[:7], torch.arange(7) % 3),
        TaskImages("colon", COLON, images[7:], torch.tensor([1, 0, 1])),
    ]


@pytest.fixture(params=["lora", "dora"])
def adapters(
    request: pytest.FixtureRequest, make_adapter: Callable[..., Path], read: Callable[..., Adapter]
) -> list[Adapter]:
    """Two random adapters."""
    dora = request.param == "dora"
    return [read(make_adapter(seed, use_dora=dora)) for seed in (1, 2)]


def point_of(adapters: Sequence[Adapter], seed: int = 0) -> Tensor:
    """Random coefficients [members, modules] in [-.5, 1]."""
    shape = len(adapters), len(module_names(adapters))
    return 1.5 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def softmax(row: Sequence[float]) -> list[float]:
    most = max(row)
    each = [math.exp(value - most) for value in row]
    return [value / sum(each) for value in each]


def by_hand(
    base: BaseModel, strategy: str, adapters: Sequence[Adapter], point: Tensor, task: TaskImages
) -> list[list[float]]:
    """Probabilities of each image: dW of every module added to the tower's weights by hand, one image at a time."""
    names = module_names(adapters)
    modules = adaptable_modules(base.tower)
    before = {name: modules[name].weight.data.clone() for name in names}
    try:
        for column, name in enumerate(names):
            weights = [float(c) for c in point[:, column]]
            weight = before[name]
            parts = [adapter[name] for adapter in adapters]
            total = torch.zeros_like(weight)
            if strategy == "mixture":
                for c, part in zip(weights, parts, strict=True):
                    changed = weight + part.scaling * part.b @ part.a
                    if part.magnitude is not None:
                        changed = changed * (part.magnitude / changed.norm(dim=1))[:, None]
                    total += c * (changed - weight)
            else:
                a = sum(c * part.a for c, part in zip(weights, parts, strict=True))
                b = sum(c * part.scaling * part.b for c, part in zip(weights, parts, strict=True))
                changed = weight + b @ a
                if parts[0].magnitude is not None:
                    m0 = weight.norm(dim=1)
                    m = m0 + sum(c * (part.magnitude - m0) for c, part in zip(weights, parts, strict=True))
                    changed = changed * (m / changed.norm(dim=1))[:, None]
                total = changed - weight
            modules[name].weight.data = weight + total
        texts = base.text_embeddings(task.labels)
        rows = []
        with torch.no_grad():
            for image in task.pixels:
                embedded = base.tower(image[None])[0]
                unit = embedded / embedded.norm()
                rows.append(softmax([base.logit_scale * float(unit @ text) for text in texts]))
        return rows
    finally:
        for name in names:
            modules[name].weight.data = before[name]


def with_gradient(objective: Objective, point: Tensor) -> tuple[float, Tensor]:
    near = objective.quadratic(point)
    return near.value, near.gradient.view_as(point)


def finite_differences(objective: Objective, point: Tensor, step: float) -> Tensor:
    gradient = torch.zeros_like(point, dtype=torch.float64)
    for row in range(point.shape[0]):
        for column in range(point.shape[1]):
            values = []
            for sign in (1, -1):
                moved = point.clone()
                moved[row, column] += sign * step
                values.append(objective.value(moved))
            gradient[row, column] = (values[0] - values[1]) / (2 * step)
    return gradient


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("strategy", ["mixture", "fusion"])
def test_the_value_is_the_mean_cross_entropy_over_tasks(
    base: BaseModel, strategy: str, adapters: list[Adapter], tasks: list[TaskImages]
) -> None:
    point = point_of(adapters)
    expected = 0.0
    for task in tasks:
        rows = by_hand(base, strategy, adapters, point, task)
        losses = [-math.log(row[target]) for row, target in zip(rows, task.targets.tolist(), strict=True)]
        expected += sum(losses) / len(losses) / len(tasks)
    objective = implementation_of(strategy).objective(base, adapters, label_aims(tasks))
    assert objective.value(point) == pytest.approx(expected, rel=1e-4)
    assert with_gradient(objective, point)[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("strategy", ["mixture", "fusion"])
def test_the_distillation_loss_is_the_mean_divergence_from_labels_and_teachers(
    base: BaseModel, strategy: str, adapters: list[Adapter], tasks: list[TaskImages]
) -> None:
    point = point_of(adapters, 1)
    expected = 0.0
    for adapter, task in zip(adapters, tasks, strict=True):
        alone = by_hand(base, "mixture", [adapter], torch.ones(1, len(adapter)), task)
        merged = by_hand(base, strategy, adapters, point, task)
        for said, given, target in zip(alone, merged, task.targets.tolist(), strict=True):
            wanted = [0.5 * p + 0.5 * (label == target) for label, p in enumerate(said)]
            divergence = sum(p * math.log(p / q) for p, q in zip(wanted, given, strict=True))
            expected += divergence / len(task.pixels) / len(tasks)
    aims = teacher_aims(base, list(zip(adapters, tasks, strict=True)))
    objective = implementation_of(strategy).objective(base, adapters, aims)
    assert objective.value(point) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert with_gradient(objective, point)[0] == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("strategy", ["mixture", "fusion"])
@pytest.mark.parametrize("teachers", [False, True])
def test_the_gradient_is_that_of_finite_differences(
    base: BaseModel, strategy: str, adapters: list[Adapter], tasks: list[TaskImages], teachers: bool
) -> None:
    aims = teacher_aims(base, list(zip(adapters, tasks, strict=True))) if teachers else label_aims(tasks)
    objective = implementation_of(strategy).objective(base, adapters, aims)
    point = point_of(adapters, 2)
    _, gradient = with_gradient(objective, point)
    assert gradient.shape == (2, 5)  # q and v of two layers, and the projection
    expected = finite_differences(objective, point, 1e-2)
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(gradient, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("strategy", ["mixture", "fusion"])
def test_batches_change_neither_value_nor_gradient(
    base: BaseModel, strategy: str, adapters: list[Adapter], tasks: list[TaskImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = implementation_of(strategy).objective(base, adapters, label_aims(tasks))
    point = point_of(adapters)
    value, (total, gradient) = objective.value(point), with_gradient(objective, point)
    for module in (aims, scoring):
        monkeypatch.setattr(module, "images_at_once", lambda base, pixels: 2)
    assert objective.value(point) == pytest.approx(value, rel=1e-5)
    again, in_batches = with_gradient(objective, point)
    assert again == pytest.approx(total, rel=1e-5)
    torch.testing.assert_close(in_batches, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("strategy", ["mixture", "fusion"])
def test_the_matrix_is_that_of_every_images_logits_moved_by_hand(
    base: BaseModel, strategy: str, adapters: list[Adapter], tasks: list[TaskImages]
) -> None:
    """sum J^T (diag p - p p^T) J over images, J by finite differences of the composed model's logits."""
    implementation, names = implementation_of(strategy), module_names(adapters)
    point = point_of(adapters, 4)

    def logits_at(moved: Tensor, task: TaskImages) -> Tensor:
        members = [(a, dict(zip(names, row.tolist(), strict=True))) for a, row in zip(adapters, moved, strict=True)]
        ((delta, _),) = implementation.parts(members)
        return scoring.outputs(base, delta, task.pixels, task.labels).double()

    step, expected = 1e-2, torch.zeros(10, 10, dtype=torch.float64)
    for task in tasks:
        columns = []
        for place in range(10):
            ends = [point.flatten().index_add(0, torch.tensor([place]), torch.tensor([s])) for s in (step, -step)]
            high, low = (logits_at(end.view_as(point), task) for end in ends)
            columns.append((high - low) / (2 * step))
        moves = torch.stack(columns, -1)  # [images, classes, coefficients]
        for j, p in zip(moves, logits_at(point, task).softmax(-1), strict=True):
            expected += j.T @ (torch.diag(p) - torch.outer(p, p)) @ j / len(task.targets) / len(tasks)
    matrix = implementation.objective(base, adapters, label_aims(tasks)).quadratic(point).matrix
    torch.testing.assert_close(matrix, expected, rtol=0.03, atol=0.03 * float(expected.abs().max()))


def test_of_many_classes_the_gradient_is_exact_and_the_curvature_what_is_greatest_in_it() -> None:
    generator = torch.Generator().manual_seed(2)
    p = torch.randn(4, 9, generator=generator).mul(2).softmax(-1)
    targets = torch.randn(4, 9, generator=generator).softmax(-1)
    rows, errors, roots = curvature.differences(p, targets)
    assert len(rows) == 1 + curvature.DIRECTIONS
    wrong = torch.einsum("rb,rbc->bc", errors, rows.double())
    torch.testing.assert_close(wrong, (p - targets).double(), rtol=1e-5, atol=1e-6)
    half = torch.einsum("brs,rbc->bsc", roots, rows.double())
    whole = (torch.diag_embed(p) - p[:, :, None] * p[:, None]).double()
    for kept, middle in zip(half.mT @ half, whole, strict=True):
        left = torch.linalg.eigvalsh(middle - kept)
        assert float(left.min()) > -1e-6  # nothing that is not there
        assert float(left.max()) <= float(torch.linalg.eigvalsh(middle)[-curvature.DIRECTIONS]) + 1e-6


def test_no_image_is_asked_of_more_teachers_than_there_may_be(
    base: BaseModel,
    make_adapter: Callable[..., Path],
    read: Callable[..., Adapter],
    tasks: list[TaskImages],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapters = [read(make_adapter(seed)) for seed in range(4)]
    monkeypatch.setattr(aims, "MOST_TEACHERS", 2)
    taught = teacher_aims(base, [(adapter, tasks[1]) for adapter in adapters], 0.0)
    alone = [torch.tensor(by_hand(base, "mixture", [adapter], torch.ones(1, 5), tasks[1])) for adapter in adapters]
    for number, aim in enumerate(taught):  # its own, and the one after it
        expected = (alone[number] + alone[(number + 1) % 4]) / 2
        torch.testing.assert_close(aim.targets, expected, rtol=1e-3, atol=1e-5)


def test_a_module_that_a_member_lacks_has_no_effect(
    base: BaseModel, make_adapter: Callable[..., Path], read: Callable[..., Adapter], tasks: list[TaskImages]
) -> None:
    whole, part = read(make_adapter(1)), read(make_adapter(2, modules=["projection"]))
    names = module_names([whole, part])
    assert names == sorted(whole)
    objective = implementation_of("mixture").objective(base, [whole, part], label_aims(tasks))
    point = point_of([whole, part])
    value, gradient = with_gradient(objective, point)
    missing = [column for column, name in enumerate(names) if name != "projection"]
    assert gradient[1, missing].tolist() == [0.0] * 4
    assert float(gradient[1].abs().max()) > 0
    point[1, missing] += 3
    assert objective.value(point) == pytest.approx(value, rel=1e-5)


def test_own_teachers_are_matched_perfectly_at_their_own_coefficients(
    base: BaseModel, adapters: list[Adapter], tasks: list[TaskImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aims, "LABEL_SHARE", 0.0)
    objective = implementation_of("mixture").objective(base, adapters, teacher_aims(base, [(adapters[0], tasks[0])]))
    alone = torch.tensor([[1.0] * 5, [0.0] * 5])
    value, gradient = with_gradient(objective, alone)
    assert value == pytest.approx(0, abs=1e-6)
    assert float(gradient.abs().max()) < 1e-4


def test_aims_by_hand(base: BaseModel, adapters: list[Adapter], tasks: list[TaskImages]) -> None:
    lung, colon = label_aims(tasks)
    assert (lung.share, colon.share) == (0.5, 0.5)  # not seven tenths and three
    assert colon.targets.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    assert lung.floor == 0.0
    first, _ = teacher_aims(base, list(zip(adapters, tasks, strict=True)))
    rows = by_hand(base, "mixture", adapters[:1], torch.ones(1, 5), tasks[0])
    wanted = [
        [0.5 * p + 0.5 * (label == target) for label, p in enumerate(row)]
        for row, target in zip(rows, tasks[0].targets.tolist(), strict=True)
    ]
    torch.testing.assert_close(first.targets, torch.tensor(wanted), rtol=1e-3, atol=1e-5)
    entropy = -sum(p * math.log(p) for row in wanted for p in row) / len(wanted)
    assert first.floor == pytest.approx(entropy, rel=1e-3)


def test_contributors_of_one_label_set_teach_together(
    base: BaseModel, adapters: list[Adapter], tasks: list[TaskImages]
) -> None:
    other = TaskImages("colon", tasks[0].labels[::-1], tasks[0].pixels[:2], tasks[0].targets[:2])  # in another order
    assert colleagues([(adapters[0], tasks[0]), (adapters[1], other)], LUNG) == adapters[:2]
    assert colleagues([(adapters[0], tasks[0]), (adapters[1], tasks[1])], LUNG) == adapters[:1]
    one, two = torch.tensor([[0.2, 0.8]]), torch.tensor([[0.6, 0.4]])
    # half of [0, 1], half of the mean [.4, .6]
    torch.testing.assert_close(soft_targets(torch.tensor([1]), [one, two], 0.5), torch.tensor([[0.2, 0.8]]))


def test_mixture_at_the_output_by_a_loop(base: BaseModel, adapters: list[Adapter], tasks: list[TaskImages]) -> None:
    weights = torch.tensor([[0.7], [0.2]])
    expected = 0.0
    for task in tasks:
        each = [by_hand(base, "mixture", [adapter], torch.ones(1, 5), task) for adapter in adapters]
        for image, target in enumerate(task.targets.tolist()):
            mixed = (0.7 * each[0][image][target] + 0.2 * each[1][image][target]) / 0.9
            expected -= math.log(mixed) / len(task.pixels) / len(tasks)
    objective = implementation_of("mixture-output").objective(base, adapters, label_aims(tasks))
    assert objective.value(weights) == pytest.approx(expected, rel=1e-4)
    value, gradient = with_gradient(objective, weights)
    assert value == pytest.approx(expected, rel=1e-4)
    step = 1e-2
    slopes = [
        with_gradient(objective, weights + sign * step * torch.eye(2)[:, [place]])[1][:, 0]
        for place in (0, 1)
        for sign in (1, -1)
    ]
    matrix = torch.stack([(slopes[0] - slopes[1]) / (2 * step), (slopes[2] - slopes[3]) / (2 * step)])
    torch.testing.assert_close(objective.quadratic(weights).matrix, matrix, rtol=0.02, atol=2e-3)
    torch.testing.assert_close(gradient, finite_differences(objective, weights, 1e-2), rtol=0.02, atol=1e-4)
    assert objective.value(3 * weights) == pytest.approx(expected, rel=1e-4)  # it does not feel its scale


def test_a_weight_of_zero_leaves_the_others(base: BaseModel, adapters: list[Adapter], tasks: list[TaskImages]) -> None:
    objective = implementation_of("mixture-output").objective(base, adapters, label_aims(tasks))
    with scoring.folded(base.tower, plain_delta(adapters[1])):
        alone = [F.cross_entropy(scoring.logits(base, t.pixels, t.labels), t.targets) for t in tasks]
    assert objective.value(torch.tensor([[0.0], [0.4]])) == pytest.approx(float(sum(alone)) / 2, rel=1e-5)


def test_every_member_runs_once_for_all_output_weights(
    base: BaseModel, adapters: list[Adapter], tasks: list[TaskImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = implementation_of("mixture-output").objective(base, adapters, label_aims(tasks))

    def no_forward(*arguments: object) -> Tensor:
        raise AssertionError("the tower ran")

    monkeypatch.setattr(type(base.tower), "forward", no_forward)
    for weight in (0.1, 0.5, 0.9):
        objective.quadratic(torch.tensor([[weight], [1 - weight]]))
