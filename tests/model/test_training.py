"""Training a plugin module on a task that is easy to learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from forge.errors import ForgeError
from forge.model import training
from forge.model.adapters import parameter_count, plain_delta, read_adapter
from forge.model.base import BaseModel
from forge.model.composing import folded
from forge.model.scoring import Score, TaskImages, score, score_tasks
from forge.model.training import TrainSettings, default_settings, fit_on_images, train_adapter

QUICK = TrainSettings("adamw", 5e-3, "cosine", 0.01, epochs=3, batch=8, rank=4, alpha=4)
MakeTask = Callable[..., TaskImages]

pytestmark = pytest.mark.usefixtures("untouched")


def test_the_papers_settings() -> None:
    paper = default_settings("paper")
    assert (paper.optimizer, paper.learning_rate, paper.weight_decay) == ("sgd", 0.01, 5e-4)
    assert (paper.epochs, paper.batch, paper.schedule) == (100, 64, "constant")
    assert (paper.rank, paper.alpha, paper.dropout) == (16, 16, 0.1)


@pytest.mark.parametrize(
    "settings", [QUICK, replace(QUICK, optimizer="sgd", learning_rate=0.1, schedule="constant")], ids=["adamw", "sgd"]
)
def test_an_easy_task_is_learnt(base: BaseModel, bright_or_dark: MakeTask, settings: TrainSettings) -> None:
    train, validation, test = (bright_or_dark(count, seed) for seed, count in enumerate((32, 16, 40)))
    before = score(base, test)
    notes: list[str] = []
    trained = train_adapter(base, train, validation, settings, advance=notes.append)
    adapter = read_adapter(trained.config, trained.tensors, base.tower, source="trained")
    (after,) = score_tasks(base, plain_delta(adapter), [test])
    assert after.accuracy > 0.9
    assert after.cross_entropy < before.cross_entropy / 2
    assert len(notes) == 3 * 4  # epochs of 32 images in batches of 8
    assert notes[0].startswith("epoch 1, loss ") and notes[-1].startswith("epoch 3, loss ")
    losses = [float(note.rpartition(" ")[2]) for note in notes]
    assert losses[-1] < losses[0]
    assert 1 <= trained.epoch <= 3
    assert parameter_count(adapter) == 4 * 4 * (64 + 64) + 4 * (64 + 32)
    (on_validation,) = score_tasks(base, plain_delta(adapter), [validation])
    assert on_validation.accuracy == trained.validation.accuracy
    assert on_validation.cross_entropy == pytest.approx(trained.validation.cross_entropy, rel=1e-4)


def test_the_configuration_goes_with_the_tensors(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(8)
    trained = train_adapter(base, task, task, replace(QUICK, epochs=1))
    assert (trained.config["r"], trained.config["lora_alpha"], trained.config["lora_dropout"]) == (4, 4, 0.1)
    assert trained.config["peft_type"] == "LORA"
    assert trained.config["base_model_name_or_path"] == f"git-forge:{base.fingerprint}"
    assert all(name.startswith("base_model.model.") for name in trained.tensors)


def test_the_same_seed_gives_the_same_adapter(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(16)
    settings = replace(QUICK, epochs=2)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    first = train_adapter(base, task, task, settings)
    assert torch.equal(torch.get_rng_state(), state)  # the program's own generator is left alone
    torch.manual_seed(99)
    second = train_adapter(base, task, task, settings)
    assert sorted(first.tensors) == sorted(second.tensors)
    assert all(torch.equal(second.tensors[name], value) for name, value in first.tensors.items())
    other = train_adapter(base, task, task, replace(settings, seed=1))
    assert any(not torch.equal(other.tensors[name], value) for name, value in first.tensors.items())


def test_a_step_of_sgd_is_the_one_by_hand(base: BaseModel, bright_or_dark: MakeTask) -> None:
    """B starts at zero, so the first step changes B alone: B = -lr * gradient of the loss in B."""
    task = bright_or_dark(6)
    settings = TrainSettings("sgd", 0.1, "constant", 0.0, epochs=1, batch=6, rank=2, alpha=6, dropout=0.0)
    trained = train_adapter(base, task, task, settings)
    a = trained.tensors["base_model.model.projection.lora_A.weight"]
    b = torch.zeros(32, 2, requires_grad=True)
    with torch.no_grad():
        features = base.tower.trunk(task.pixels)
    embedded = features @ base.tower.projection.weight.T + (6 / 2) * features @ a.T @ b.T
    similarity = F.normalize(embedded, dim=-1) @ base.text_embeddings(task.labels).T
    loss = F.cross_entropy(base.logit_scale * similarity, task.targets)
    (gradient,) = torch.autograd.grad(loss, [b])
    expected = -0.1 * gradient
    torch.testing.assert_close(
        trained.tensors["base_model.model.projection.lora_B.weight"], expected, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.5, 1.0), (0.9, 2.0), (0.8, 0.1)], 3),
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.95)], 2),
        ([(0.7, 0.5), (0.7, 0.5), (0.7, 0.5)], 1),
        ([(0.1, 9.0), (0.2, 9.0), (0.3, 9.0)], 1),
    ],
)
def test_the_best_epoch_is_kept(
    base: BaseModel,
    bright_or_dark: MakeTask,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[tuple[float, float]],
    best: int,
) -> None:
    """The lowest cross-entropy on validation, then the earlier; the weights of that very epoch."""
    task = bright_or_dark(8)
    seen: list[torch.Tensor] = []

    def recorded(base: BaseModel, validation: TaskImages) -> Score:
        layer: Any = base.tower.projection
        seen.append(layer.lora_B["default"].weight.detach().clone())
        accuracy, cross_entropy = scores[len(seen) - 1]
        return Score(cross_entropy, accuracy)

    monkeypatch.setattr(training, "score", recorded)
    trained = train_adapter(base, task, task, replace(QUICK, schedule="constant"))
    assert trained.epoch == best
    assert trained.validation == Score(scores[best - 1][1], scores[best - 1][0])
    assert torch.equal(trained.tensors["base_model.model.projection.lora_B.weight"], seen[best - 1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_base_is_left_as_it_was_when_interrupted(
    base: BaseModel, bright_or_dark: MakeTask, error: type[BaseException]
) -> None:
    task = bright_or_dark(16)
    notes: list[str] = []

    def advance(note: str) -> None:
        notes.append(note)
        if len(notes) == 3:
            raise error

    with pytest.raises(error):
        train_adapter(base, task, task, QUICK, advance=advance)
    with pytest.raises(error):
        fit_on_images(
            base, task.pixels, task.targets, task.labels, steps=4, advance=lambda: (_ for _ in ()).throw(error())
        )


def test_training_that_diverges(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(8)
    with pytest.raises(ForgeError, match="diverged in epoch 1") as caught:
        train_adapter(base, task, task, replace(QUICK, optimizer="sgd", learning_rate=math.inf))
    assert "--learning-rate" in (caught.value.hint or "")


def test_no_epochs_train_nothing(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(4)
    with pytest.raises(ForgeError, match="nothing was trained"):
        train_adapter(base, task, task, replace(QUICK, epochs=0, schedule="constant"))


def test_a_few_images_are_learnt_by_steps(base: BaseModel, bright_or_dark: MakeTask) -> None:
    few, test = bright_or_dark(6), bright_or_dark(40, 1)
    calls: list[int] = []
    arguments = (base, few.pixels, few.targets, few.labels)
    tensors = fit_on_images(*arguments, steps=12, advance=lambda: calls.append(1))
    assert len(calls) == 12
    adapter = read_adapter({"r": 16, "lora_alpha": 16}, tensors, base.tower, source="fitted")
    with folded(base.tower, plain_delta(adapter)):
        assert score(base, test).accuracy > 0.9
    again = fit_on_images(*arguments, steps=12)
    assert all(torch.equal(again[name], value) for name, value in tensors.items())


def test_images_are_augmented_as_asked(base: BaseModel, bright_or_dark: MakeTask) -> None:
    few = bright_or_dark(4)
    batches: list[torch.Tensor] = []

    def augmentation(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batches.append(images)
        return images * torch.rand((), generator=generator)

    fit_on_images(base, few.pixels, few.targets, few.labels, steps=3, augmentation=augmentation)
    assert [len(batch) for batch in batches] == [4, 4, 4]
    rows = {tuple(image.flatten()[:5].tolist()) for image in few.pixels}
    assert all({tuple(image.flatten()[:5].tolist()) for image in batch} == rows for batch in batches)


# DoRA.


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_dora_is_trained_and_read_back(base: BaseModel, bright_or_dark: MakeTask, optimizer: str) -> None:
    rates = {"adamw": (5e-3, "cosine"), "sgd": (0.1, "constant")}
    rate, schedule = rates[optimizer]
    settings = replace(QUICK, optimizer=optimizer, learning_rate=rate, schedule=schedule, epochs=2, dora=True)
    train, validation = bright_or_dark(16), bright_or_dark(8, 1)
    trained = train_adapter(base, train, validation, settings)
    assert trained.config["use_dora"] is True
    magnitudes = [value for name, value in trained.tensors.items() if name.endswith(".lora_magnitude_vector")]
    assert sorted(tuple(each.shape) for each in magnitudes) == [(32,), *[(64,)] * 4]
    adapter = read_adapter(trained.config, trained.tensors, base.tower, source="trained")
    assert parameter_count(adapter) == 4 * (4 * (64 + 64) + 64) + 4 * (64 + 32) + 32
    norms = base.tower.projection.weight.norm(dim=1)
    learnt = adapter["projection"].magnitude
    assert learnt is not None and not torch.allclose(learnt, norms)  # the magnitude is trained too
    (found,) = score_tasks(base, plain_delta(adapter), [validation])
    assert found.accuracy == trained.validation.accuracy
    assert found.cross_entropy == pytest.approx(trained.validation.cross_entropy, rel=1e-4)


def test_a_lora_is_no_dora(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(4)
    trained = train_adapter(base, task, task, replace(QUICK, epochs=1))
    assert trained.config["use_dora"] is False
    assert not any("magnitude" in name for name in trained.tensors)


def test_a_step_of_a_dora_is_the_one_by_hand(base: BaseModel, bright_or_dark: MakeTask) -> None:
    """The first step of SGD: m <- m - lr * gradient, of embeddings (m / ||W||) W x as B is zero."""
    task = bright_or_dark(6)
    settings = TrainSettings("sgd", 0.1, "constant", 0.0, epochs=1, batch=6, rank=2, alpha=6, dropout=0.0, dora=True)
    trained = train_adapter(base, task, task, settings)
    weight = base.tower.projection.weight.detach()
    norms = weight.norm(dim=1)
    magnitude = norms.clone().requires_grad_()
    with torch.no_grad():
        features = base.tower.trunk(task.pixels)
    embedded = features @ weight.T * (magnitude / norms)
    similarity = F.normalize(embedded, dim=-1) @ base.text_embeddings(task.labels).T
    loss = F.cross_entropy(base.logit_scale * similarity, task.targets)
    (gradient,) = torch.autograd.grad(loss, [magnitude])
    found = trained.tensors["base_model.model.projection.lora_magnitude_vector"]
    torch.testing.assert_close(found - norms, -0.1 * gradient, rtol=1e-3, atol=1e-6)


def test_a_few_images_are_learnt_by_a_dora(base: BaseModel, bright_or_dark: MakeTask) -> None:
    few, test = bright_or_dark(6), bright_or_dark(40, 1)
    tensors = fit_on_images(base, few.pixels, few.targets, few.labels, steps=12, dora=True)
    adapter = read_adapter({"r": 16, "lora_alpha": 16, "use_dora": True}, tensors, base.tower, source="fitted")
    with folded(base.tower, plain_delta(adapter)):
        assert score(base, test).accuracy > 0.9


def test_variations_are_for_training_only_where_asked(base: BaseModel, bright_or_dark: MakeTask) -> None:
    task = bright_or_dark(16)
    settings = TrainSettings("sgd", 0.05, "constant", 0.0, epochs=1, batch=8, rank=2, dropout=0.0)
    plain, varied = (train_adapter(base, task, task, replace(settings, augment=choice)) for choice in ("none", "all"))
    assert (plain.variations, varied.variations) == ((), ("mirror", "upside-down", "transpose"))
    assert any(not torch.equal(plain.tensors[name], varied.tensors[name]) for name in plain.tensors)


@pytest.mark.parametrize(
    ("epochs", "steps", "images", "classes", "lasts"),
    [
        (100, 0, [1000], 2, 100),
        (3, 160, [40], 2, 80),
        (3, 160, [400], 3, 13),
        (3, 160, [800], 2, 7),
        (3, 160, [5000], 2, 3),
        (0, 160, [5000], 2, 2),
        (0, 160, [320], 12, 32),  # sqrt(12 / 3) times the steps
        (0, 0, [5000], 2, 0),
        (3, 160, [800, 800], 2, 7),
        (3, 160, [20, 20, 20], 2, 160),
        (3, 160, [], 2, 0),
    ],
)
def test_a_training_lasts_epochs_or_steps(epochs: int, steps: int, images: list[int], classes: int, lasts: int) -> None:
    settings = TrainSettings("adamw", 1e-3, "cosine", 0.0, epochs=epochs, steps=steps, batch=32)
    labels = tuple(f"class {number}" for number in range(classes))
    tasks = [TaskImages("t", labels, torch.zeros(n, 3, 1, 1), torch.zeros(n, dtype=torch.long)) for n in images]
    assert settings.epochs_of(*tasks) == lasts


@pytest.mark.parametrize(
    ("now", "best", "images", "last", "better"),
    [
        ((0.8, 0.4), (0.9, 0.5), 100, False, True),
        ((0.9, 0.5), (0.9, 0.5), 100, False, False),
        ((0.85, 0.9), (0.9, 0.5), 100, True, True),  # two deviations are .06
        ((0.83, 0.1), (0.9, 0.5), 100, True, False),
        ((0.83, 0.9), (0.9, 0.5), 25, True, True),
        ((0.99, math.nan), (0.9, 0.5), 100, True, False),
    ],
)
def test_which_epoch_is_better(
    now: tuple[float, float], best: tuple[float, float], images: int, last: bool, better: bool
) -> None:
    """(accuracy, cross-entropy) each."""
    scores = [Score(cross_entropy, accuracy) for accuracy, cross_entropy in (now, best)]
    assert training.is_better(scores[0], scores[1], images, last) is better
