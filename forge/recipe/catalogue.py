"""The catalogue of choices: strategies, searches, objectives and distillation methods, each a value and listed once.

What offers a choice (options and their help), checks it (forge.toml, the forge item), words it or compares it (the
paper's tables) reads it here. What a choice does is in forge/model, in a table with the same keys: strategies,
searches, merging.AIMS and distill_methods. A name that is not in a table is refused wherever it is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from forge.errors import ForgeError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Strategy:
    """How coefficients and adapters become a model.

    weighs: what a coefficient multiplies. exported: what one adapter of such a model is. per_module: a contribution may
    have a coefficient for each adapted module. one_model: the model is one set of weights, which can be exported and
    take a consolidation's residual. relative: only the ratio of coefficients counts, and none is below zero.
    """

    name: str
    title: str
    help: str
    weighs: str
    exported: str = ""
    per_module: bool = True
    one_model: bool = True
    relative: bool = False


@dataclass(frozen=True)
class SearchMethod:
    """How coefficients are found (MedForge (2025), Section 3.3, and two of ours).

    order_independent: all contributions are weighed anew, so that the order of merging cannot matter; else the two
    sides of a merge are. gradient_free: losses alone are compared, by an optimizer that has a seed. tolerance: by
    how much a coefficient may be another on another machine (measured: item_differences.py).
    """

    name: str
    help: str
    order_independent: bool = False
    gradient_free: bool = False
    per_module: bool = True
    tolerance: float = 0.01


@dataclass(frozen=True)
class Granularity:
    """What has a coefficient of its own; by_module: every adapted module of a contribution."""

    name: str
    help: str
    by_module: bool = False


@dataclass(frozen=True)
class Objective:
    """What a search minimises on the distilled images. pull: how strongly coefficients of modules are then held."""

    name: str
    help: str
    pull: float


@dataclass(frozen=True)
class DistillationMethod:
    """How synthetic images are made. needs_adapter: of the contributor's own adapter, which is trained before.

    augments: siamese augmentations are drawn. default_for: the family of bases (BaseModel.settings_family) that has
    it where none is named. start, and what is released beside what every distillation releases, go into the card.
    """

    name: str
    help: str
    needs_adapter: bool = False
    augments: bool = True
    default_for: str = ""
    start: str = "noise, independent of the private images"
    also_released: str = ""

    @property
    def privacy(self) -> dict[str, str]:
        """[privacy] of the card, as far as it follows from the method."""
        return {"released": RELEASED + self.also_released, "start": self.start, "guarantee": GUARANTEE}


def by_name(values: Iterable[Value]) -> dict[str, Value]:
    """A table of values that have a name."""
    return {str(vars(value)["name"]): value for value in values}


MIXTURE = Strategy(
    "mixture",
    "Mixture",
    "adds up what the adapters change, module by module",
    weighs="what an adapter changes",
    exported="the exact concatenation of all adapters",
)
MIXTURE_OUTPUT = Strategy(
    "mixture-output",
    "Mixture at the output",
    "mixes what whole models say, to compare with the paper's released code",
    weighs="whole outputs",
    per_module=False,
    one_model=False,
    relative=True,
)
FUSION = Strategy(
    "fusion",
    "Fusion",
    "adds up the adapters' factors, which need one rank",
    weighs="an adapter's factors",
    exported="the fused adapter",
)
STRATEGIES: dict[str, Strategy] = by_name((MIXTURE, MIXTURE_OUTPUT, FUSION))
DEFAULT_STRATEGY = MIXTURE.name

SHIWA = SearchMethod(
    "shiwa", "the paper's: two scales a merge, without gradients", gradient_free=True, per_module=False, tolerance=0.03
)
EXACT = SearchMethod("exact", "the two sides of a merge, by gradients")
JOINT = SearchMethod(
    "joint", "all contributions at once, by gradients: the order of merging does not matter", order_independent=True
)
SEARCH_METHODS: dict[str, SearchMethod] = by_name((SHIWA, EXACT, JOINT))

PER_CONTRIBUTION = Granularity("contribution", "one coefficient for all of a contribution")
PER_MODULE = Granularity("module", "one coefficient for each adapted module of a contribution", by_module=True)
PER: dict[str, Granularity] = by_name((PER_CONTRIBUTION, PER_MODULE))

# The distillation loss is flatter than the cross-entropy near its minimum, and so is what keeps it in place.
CROSS_ENTROPY = Objective("cross-entropy", "on the distilled images' labels (MedForge (2025), Section 3.3)", pull=0.01)
DISTILLATION = Objective("distillation", "half the labels, half what the contributors' own adapters say", pull=0.003)
OBJECTIVES: dict[str, Objective] = by_name((CROSS_ENTROPY, DISTILLATION))
HELD_OUT = "held-out"  # of objective and pull: chosen on distilled images that the search has not seen
OBJECTIVE_CHOICES = (*OBJECTIVES, HELD_OUT)

RELEASED = (
    "the adapter's weights, the synthetic images, their number per class, the figures and the names of classes in "
    "this card"
)
GUARANTEE = "none: no differential privacy was applied"
DM = DistillationMethod("dm", "distribution matching without augmentation", augments=False)
DM_DSA = DistillationMethod(
    "dm-dsa",
    "distribution matching with siamese augmentation, the paper's Algorithm 1",
    default_for="paper",
)
DC_DSA = DistillationMethod("dc-dsa", "gradient matching (dataset condensation) with siamese augmentation")
TEACHER_POINTS = DistillationMethod(
    "teacher-points",
    "statistics of several layers, matched on the way from the base to NAME's adapter",
    needs_adapter=True,
    default_for="small",
    start="noise with the mean and deviation of the private training images per colour channel, which are released by "
    "it",
    also_released=", the mean and deviation of the private training images per colour channel",
)
DISTILLATION_METHODS: dict[str, DistillationMethod] = by_name((TEACHER_POINTS, DM_DSA, DM, DC_DSA))


def look_up(table: Mapping[str, Value], name: object, what: str) -> Value:
    """The value of a name in a table of choices; ForgeError naming those that there are."""
    if not isinstance(name, str) or name not in table:
        raise ForgeError(f"unknown {what} {str(name)[:40]!r}", hint=f"use one of: {', '.join(table)}")
    return table[name]


def strategy_named(name: object) -> Strategy:
    """One of STRATEGIES."""
    return look_up(STRATEGIES, name, "strategy")


def search_method_named(name: object) -> SearchMethod:
    """One of SEARCH_METHODS."""
    return look_up(SEARCH_METHODS, name, "search method")


def distillation_method_named(name: object) -> DistillationMethod:
    """One of DISTILLATION_METHODS."""
    return look_up(DISTILLATION_METHODS, name, "distillation method")


def default_distillation(family: str) -> DistillationMethod:
    """The distillation method of a family of bases where none is named."""
    return next(method for method in DISTILLATION_METHODS.values() if method.default_for == family)


def check_combination(strategy: str, method: str, per: str) -> None:
    """Raise ForgeError where a strategy or a search has no coefficient per module, and one is asked for."""
    if not look_up(PER, per, "granularity").by_module:
        return
    if not search_method_named(method).per_module:
        others = " or ".join(f'"{each.name}"' for each in SEARCH_METHODS.values() if each.per_module)
        raise ForgeError(
            f"search.method {method} finds two scales a merge: it has no coefficient per module",
            hint=f'set method = {others}, or per = "{PER_CONTRIBUTION.name}", under [search]',
        )
    if not strategy_named(strategy).per_module:
        raise ForgeError(
            f"merge.strategy {strategy} weighs {strategy_named(strategy).weighs}: it has no coefficient per module",
            hint=f'set per = "{PER_CONTRIBUTION.name}" under [search]',
        )


def check_one_model(strategy: str, consequence: str, hint: str) -> None:
    """Raise ForgeError where a model of this strategy is several sets of weights."""
    if not strategy_named(strategy).one_model:
        raise ForgeError(f"{strategy} is several models: {consequence}", hint=hint)


def described(choices: Iterable[Strategy | SearchMethod | Granularity | Objective | DistillationMethod]) -> str:
    """Choices in a sentence for an option's help: `mixture adds up ...; fusion adds up ...`."""
    return "; ".join(f"{each.name} {each.help}" for each in choices)


# How training images are varied at random; "auto": as far as the base tells their classes apart as well.
AUGMENT_AUTO, AUGMENT_NONE, AUGMENT_MIRROR, AUGMENT_ALL = AUGMENT_CHOICES = ("auto", "none", "mirror", "all")
