"""Whitened class statistics at points on the way to the contributor's adapter: the method "teacher-points".

A point is the base with u * (the adapter's dW) + a small random dW folded in, and one siamese augmentation. At every
point the statistics of real images are computed once (of at most real_batch a class, drawn anew for each point): per
feature, the class means and the class second moments about them, whitened by the within-class covariance. A step takes
a point at random and moves the synthetic images towards its statistics. Features are of several blocks, so that the
images carry more than the last layer sees; whitening gives directions in which a class hardly varies their due weight.

The images start from noise with the training set's channel statistics, which are released by that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from forge.errors import ForgeError
from forge.model.adapters import PAPER_MODULES, Adapter, plain_delta
from forge.model.attention import ClassTokenBlock
from forge.model.augmentation import KINDS, Augmentation, augment, draw
from forge.model.base import BaseModel
from forge.model.composing import Delta, folded
from forge.model.distill_methods.method import DistillMethod, Open
from forge.model.distill_methods.real_batches import class_members, pick
from forge.model.distill_settings import DistillSettings
from forge.model.pixel_steps import Advance, generator_of
from forge.model.precision import precision
from forge.model.scoring import TaskImages, batch_size, in_batches
from forge.model.sharing import gathered, own_part, summed
from forge.model.training_augmentation import siamese_kinds
from forge.recipe.catalogue import DM_DSA, TEACHER_POINTS

NOISE_RANK = 16  # of the random dW of a point, as the adapters have


@dataclass(frozen=True)
class Statistics:
    """What the real images of each class look like in one feature of width d, whitened.

    `whitening` [d, d] is symmetric; `means` [classes, d] and `seconds` [classes, d] (the mean square about the
    class mean) are of feature @ whitening.
    """

    whitening: Tensor
    means: Tensor
    seconds: Tensor


@dataclass(frozen=True)
class Point:
    """share * (the adapter's dW) + noise, under one augmentation; `noise` is a pair b [out, r], a [r, in] a module."""

    share: float
    noise: dict[str, tuple[Tensor, Tensor]]
    operation: Augmentation


def whitened_statistics(features: Tensor, targets: Tensor, classes: int, shrinkage: float) -> Statistics:
    """Statistics of features [n, d], in double precision within.

    The within-class covariance C is shrunk to (1 - shrinkage) C + shrinkage * tr(C)/d * I before C^-1/2 is taken.
    """
    values, targets = features.double(), targets.to(features.device)
    means = torch.stack([values[targets == c].mean(0) for c in range(classes)])
    rest = values - means[targets]
    covariance = rest.T @ rest / len(rest)
    width = len(covariance)
    identity = torch.eye(width, dtype=covariance.dtype, device=covariance.device)
    covariance = (1 - shrinkage) * covariance + shrinkage * covariance.trace() / width * identity
    spread, directions = torch.linalg.eigh(covariance)
    whitening = directions * spread.clamp_min(1e-8).rsqrt() @ directions.T
    squares = (rest @ whitening).square()
    seconds = torch.stack([squares[targets == c].mean(0) for c in range(classes)])
    return Statistics(whitening.float(), (means @ whitening).float(), seconds.float())


def statistics_loss(
    features: Sequence[Tensor], statistics: Sequence[Statistics], chosen: Sequence[int], second_moments: float
) -> Tensor:
    """Distance of synthetic features from the statistics, averaged over features and the classes `chosen`.

    Features are [len(chosen) * ipc, d], the classes in the order of `chosen`. Per class: the mean square of the
    whitened means' difference, plus `second_moments` times that of the second moments about the real mean.
    """
    total = torch.zeros((), device=features[0].device)
    for feature, real in zip(features, statistics, strict=True):
        whitened = feature @ real.whitening
        apart = whitened.view(len(chosen), -1, whitened.shape[1]) - real.means[list(chosen)].unsqueeze(1)
        means, seconds = apart.mean(1), apart.square().mean(1) - real.seconds[list(chosen)]
        total = total + (means.square().mean(1) + second_moments * seconds.square().mean(1)).sum()
    return total / len(features) / len(chosen)


@contextmanager
def feature_extractor(
    base: BaseModel,
    token_depths: Sequence[float],
    class_depths: Sequence[float],
    labels: tuple[str, ...],
    mixed_precision: str = "no",
) -> Iterator[Callable[[Tensor], list[Tensor]]]:
    """A function from normalised images to features [n, d] of the tower as it stands.

    Per token depth the mean and the deviation of the patch tokens, per class depth the class token; then the
    tower's output before the projection and after it, the latter of unit length, and its logits for the labels.
    Depth 1 is the last block. The logits are what the classes are told by: among a hundred directions of the
    features those few would hardly count, and the adapter itself then misreads its own synthetic images.
    """
    trunk = base.tower.trunk
    if base.tower.plugin_modules != PAPER_MODULES:
        raise ForgeError(
            f"{TEACHER_POINTS.name} looks into the blocks of open_clip's own ViTs, and this base's tower is timm's",
            hint=f"choose another one: --method {DM_DSA.name}",
        )
    blocks = list(trunk.transformer.resblocks)
    of_tokens, of_class = (blocks_at(depths, len(blocks)) for depths in (token_depths, class_depths))
    texts = base.text_embeddings(labels)
    seen: dict[int, Tensor] = {}

    def hook(number: int) -> Callable[..., None]:
        def record(module: object, arguments: object, output: Tensor) -> None:
            seen[number] = output.float()

        return record

    def extract(images: Tensor) -> list[Tensor]:
        with precision(mixed_precision, base.device):
            pooled = trunk(images).float()
        features = []
        for number in of_tokens:
            tokens = seen[number][:, 1:]
            features += [tokens.mean(1), deviation(tokens)]
        features += [seen[number][:, 0] for number in of_class]
        seen.clear()
        embedded = F.normalize(base.tower.projection(pooled), dim=-1)
        return [*features, pooled, embedded, base.logit_scale * embedded @ texts.T]

    last = blocks[-1]
    if isinstance(last, ClassTokenBlock):
        last.every_token = len(blocks) - 1 in of_tokens
    handles = [blocks[number].register_forward_hook(hook(number)) for number in {*of_tokens, *of_class}]
    try:
        yield extract
    finally:
        for handle in handles:
            handle.remove()
        if isinstance(last, ClassTokenBlock):
            last.every_token = False


def deviation(tokens: Tensor) -> Tensor:
    """Standard deviation [n, d] of tokens [n, k, d] over k; a third of the time of torch's std and its gradient."""
    apart = tokens - tokens.mean(1, keepdim=True)
    return (apart.square().sum(1) / (tokens.shape[1] - 1)).clamp_min(1e-20).sqrt()


def blocks_at(depths: Sequence[float], count: int) -> list[int]:
    """The numbers of the blocks at relative depths, in order, each once: 1 is the last of `count` blocks."""
    return sorted({min(count, max(1, math.ceil(depth * count))) - 1 for depth in depths})


def channel_noise(base: BaseModel, real: TaskImages, count: int, seed: int) -> Tensor:
    """Normal noise [count, 3, h, w] in normalised space, with the mean and deviation of the real images' channels."""
    sums, squares = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for batch in torch.split(real.pixels, batch_size(real.pixels)):
        pixels = base.prepare(batch).cpu().double()
        sums += pixels.sum((0, 2, 3))
        squares += pixels.square().sum((0, 2, 3))
    values = real.pixels.numel() / 3
    mean = sums / values
    deviation = (squares / values - mean.square()).clamp_min(0).sqrt()
    noise = torch.randn(count, 3, *base.image_size, generator=generator_of(seed, -1))
    return noise * deviation.float().view(1, 3, 1, 1) + mean.float().view(1, 3, 1, 1)


class TeacherPoints:
    """The points of a run with the real images' statistics at each; a Matcher of its own."""

    def __init__(
        self,
        base: BaseModel,
        adapter: Adapter,
        real: TaskImages,
        settings: DistillSettings,
        advance: Advance,
    ) -> None:
        self.base, self.settings, self.labels, self.classes = base, settings, real.labels, len(real.labels)
        self.teacher: Delta = plain_delta(adapter)
        kinds = siamese_kinds(base, real, settings.seed)
        self.points = [draw_point(base, self.teacher, settings, number, kinds) for number in range(settings.points)]
        self.statistics: list[list[Statistics]] = []
        for number, point in enumerate(self.points):
            advance(0, f"statistics {number + 1} of {len(self.points)}")
            self.statistics.append(self._statistics(point, self._drawn(real, number)))

    def _drawn(self, real: TaskImages, number: int) -> TaskImages:
        """The real images of point `number`: all of a class, or as many at random as settings.real_batch says."""
        most = self.settings.real_batch
        members = class_members(real)
        if not most or all(len(each) <= most for each in members):
            return real
        generator = generator_of(self.settings.seed, -2 - self.settings.points - number)
        chosen = torch.cat([pick(each, most, generator) for each in members]).sort().values
        return replace(real, pixels=real.pixels[chosen], targets=real.targets[chosen], groups=None)

    def _statistics(self, point: Point, real: TaskImages) -> list[Statistics]:
        """Over these real images, in batches; the features of one point are held at a time (on the CPU)."""
        batches: list[list[Tensor]] = []
        with torch.no_grad(), folded(self.base.tower, self._delta(point)), self._features() as extract:
            for (batch,) in in_batches(self.base, real.pixels[own_part(len(real.pixels))]):
                images = augment(self.base.prepare(batch), point.operation)
                batches.append([feature.cpu() for feature in extract(images)])
            statistics = []
            for parts in zip(*batches, strict=True):
                features = gathered(torch.cat(parts), len(real.pixels)).to(self.base.device)
                statistics.append(whitened_statistics(features, real.targets, self.classes, self.settings.shrinkage))
        return statistics

    def _delta(self, point: Point) -> Delta:
        return {
            name: point.share * change + point.noise[name][0] @ point.noise[name][1]
            for name, change in self.teacher.items()
        }

    def _features(self) -> AbstractContextManager[Callable[[Tensor], list[Tensor]]]:
        settings = self.settings
        depths = (settings.token_depths, settings.class_depths)
        return feature_extractor(self.base, *depths, self.labels, settings.mixed_precision)

    def redraw(self, generator: torch.Generator) -> None:
        """Nothing is carried from step to step."""

    def gradient(self, pixels: Tensor, generator: torch.Generator) -> tuple[float, Tensor]:
        number = int(torch.randint(len(self.points), (), generator=generator))
        point = self.points[number]
        limit = max(1, self.settings.step_images // self.settings.ipc)
        total, gradient = 0.0, torch.zeros_like(pixels)
        with folded(self.base.tower, self._delta(point)), self._features() as extract:
            for chosen in torch.split(torch.arange(self.classes), limit):
                classes = chosen.tolist()
                images = pixels.view(self.classes, self.settings.ipc, *pixels.shape[1:])[classes].flatten(0, 1)
                own = extract(augment(images[own_part(len(images))], point.operation))
                whole = gathered(torch.cat(own, dim=1), len(images))
                features = torch.split(whole, [feature.shape[1] for feature in own], dim=1)
                loss = statistics_loss(features, self.statistics[number], classes, self.settings.second_moments)
                loss = loss * (len(classes) / self.classes)
                gradient += torch.autograd.grad(loss, [pixels])[0]
                total += float(loss.detach())
        return total, summed(gradient)

    def follow(self, pixels: Tensor) -> None:
        """There is no network to train."""


def draw_point(
    base: BaseModel, teacher: Delta, settings: DistillSettings, number: int, kinds: tuple[str, ...] = KINDS
) -> Point:
    """Point `number` of a run: u in the middle of its share of [0, reach], noise and augmentation from the seed.

    The noise of a module is up to `strength` of its W in Frobenius norm; the augmentation is one of `kinds`.
    """
    generator = generator_of(settings.seed, -2 - number)
    modules = dict(base.tower.named_modules())
    noise = {}
    for name, change in teacher.items():
        b = torch.randn(change.shape[0], NOISE_RANK, generator=generator).to(base.device)
        a = torch.randn(NOISE_RANK, change.shape[1], generator=generator).to(base.device)
        share = settings.strength * float(torch.rand((), generator=generator))
        weight = modules[name].weight
        assert isinstance(weight, Tensor)
        noise[name] = (b * (share * weight.norm() / (b @ a).norm()), a)
    return Point(settings.reach * (number + 0.5) / settings.points, noise, draw(generator, kinds))


def _prepare(
    base: BaseModel,
    real: TaskImages,
    settings: DistillSettings,
    adapter: Adapter | None,
    advance: Advance,
) -> Open:
    assert adapter is not None  # the catalogue says that the method needs it
    points = TeacherPoints(base, adapter, real, settings, advance)
    return lambda: nullcontext(points)


_SMALL_BASES = DistillSettings(
    steps=180,
    real_batch=100,
    optimizer="adam",
    pixel_rate=0.2,
    final_rate=0.005,
    strength=0.05,
    judge_steps=100,
    method=TEACHER_POINTS.name,
)
METHOD = DistillMethod(
    defaults={"small": _SMALL_BASES, "paper": replace(_SMALL_BASES, judge_steps=1000)},
    uses=(
        "real_batch", "final_rate", "points", "reach", "token_depths", "class_depths", "shrinkage", "second_moments",
        "step_images",
    ),
    prepare=_prepare,
    start=channel_noise,
)  # fmt: skip
