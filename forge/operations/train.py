"""`git forge train`: an adapter of the base, trained on private images into a contribution of the work tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge.console import Report, progress, silent
from forge.data.listing import ReadOptions
from forge.data.matching import Given
from forge.errors import ForgeError
from forge.git.running import Repository
from forge.operations.bases import load_repository_base
from forge.operations.contributing import (
    card_for,
    existing_card,
    rounded,
    warn_of_replacing,
    write_adapter,
    write_card,
)
from forge.operations.private_data import PrivateData, check_split, list_private_data, read_listed
from forge.operations.reading import complete_options
from forge.recipe.catalogue import AUGMENT_NONE
from forge.recipe.layout import ADAPTER_FILE, path_of
from forge.repo.locks import contribution_lock, only_one
from forge.repo.settings_file import load_settings

if TYPE_CHECKING:
    from forge.model.base import BaseModel
    from forge.model.scoring import TaskImages
    from forge.model.training import TrainedAdapter, TrainSettings


@dataclass(frozen=True)
class Trained:
    """A contribution with a new adapter: "LoRA" or "DoRA", of how many images, what the card says of how good it is."""

    contribution: str
    adapter: str
    images: int
    metrics: Mapping[str, object]
    best_epoch: int


def train(
    repo: Repository,
    name: str,
    data: Path,
    *,
    given: Given | None = None,
    task: str | None = None,
    test: Path | None = None,
    validation: float = 0.2,
    options: ReadOptions | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    report: Report = silent,
) -> Trained:
    """Train a LoRA or DoRA of the repository's base on `data`, and write it with its card into contributions/NAME.

    data, test: an image folder, a table or an .npz; `test` is only measured. given: labels by class. task: what it is
    called, NAME if not given. validation: the share of `data` held back where it has no val split. settings: fields of
    forge.model.training.TrainSettings that take other values than the defaults for the base. The data are written
    nowhere. Raises ForgeError where data and labels do not fit, and for a contribution that is being made already.
    """
    check_split(validation, seed)
    own = load_settings(repo.top)
    with only_one(contribution_lock(repo, name), f"git forge train {name}"):
        card = existing_card(repo, name)
        options = complete_options(options, card)
        listed = list_private_data(data, given or Given(), card, options, test)  # before anything heavy is loaded
        report(*warn_of_replacing(repo, name, ADAPTER_FILE))

        from forge.model import sharing, training
        from forge.model.prototypes import prototype_accuracy

        sharing.start()
        base = load_repository_base(repo, own.base)
        private = read_listed(base, listed, task or (card.task if card else name), validation, seed)
        report(*private.lines())
        defaults = training.default_settings(base.settings_family)
        chosen = replace(defaults, seed=seed, **_known(settings or {}))
        prototypes = prototype_accuracy(base, private.train, private.validation, seed)
        trained = fit_adapter(base, name, private.train, private.validation, chosen)
        fresh = card_for(base, private.task, private.labels, card, private.classes, private.summary.for_card())
        record = _record(chosen, trained, private, validation, options.group_by)
        metrics: dict[str, object] = {
            "validation_accuracy": rounded(trained.validation.accuracy),
            "validation_images": len(private.validation.targets),
            "prototype_validation_accuracy": rounded(prototypes),
        }
        report(*_under_the_floor(trained.validation.accuracy, prototypes))
        kept = {key: value for key, value in fresh.metrics.items() if key.startswith("distilled_")}
        fresh = replace(fresh, training=record, metrics={**metrics, **kept})
        report(*write_adapter(repo, name, trained.tensors, trained.config, fresh))
        if private.test is not None:  # measured when the adapter is safe
            metrics |= _measured(base, name, trained, private)
            write_card(repo, name, replace(fresh, metrics={**metrics, **kept}))
    return Trained(name, str(record["adapter"]), len(private.train.targets), metrics, trained.epoch)


def fit_adapter(
    base: BaseModel,
    name: str,
    images: TaskImages,
    validation: TaskImages,
    settings: TrainSettings,
) -> TrainedAdapter:
    """forge.model.training.train_adapter with its progress on a terminal; `name` is whose adapter it is."""
    from forge.model.training import train_adapter

    steps = settings.epochs_of(images) * settings.steps_of(images)
    with progress(f"training {name}", steps) as advance:
        return train_adapter(
            base,
            images,
            validation,
            settings,
            advance=lambda note: advance(1, at=note),
        )


def _known(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """`settings`, all of which there are. Raises ForgeError for any other.

    A length that is given in epochs or in steps alone is that, whatever the default says of the other.
    """
    from forge.model.training import TrainSettings

    names = [field.name for field in fields(TrainSettings)]
    for name in settings.keys() - names:
        raise ForgeError(f"there is no setting of training called {name!r}", hint=f"there are: {', '.join(names)}")
    lengths = {"epochs", "steps"}
    return {name: 0 for name in lengths - settings.keys() if lengths & settings.keys()} | dict(settings)


def _under_the_floor(reached: float, prototypes: float) -> list[str]:
    """What to say of an adapter that does worse on validation than class means of the untrained base."""
    if reached >= prototypes:
        return []
    return [
        f"The adapter reads {reached:.3f} of the validation images right, where class means of the untrained base read "
        f"{prototypes:.3f}.",
        "Try more --steps, another --learning-rate, or --augment none.",
    ]


def _record(
    settings: TrainSettings, trained: TrainedAdapter, private: PrivateData, validation: float, group_by: str | None
) -> dict[str, object]:
    """[training] of the card."""
    record: dict[str, object] = {"adapter": "DoRA" if settings.dora else "LoRA", **asdict(settings)}
    del record["dora"], record["steps"]  # what they came to is in "epochs"
    if settings.mixed_precision == "no":
        del record["mixed_precision"]
    record |= {
        "epochs": settings.epochs_of(private.train),
        "best_epoch": trained.epoch,
        "augment": ", ".join(trained.variations) or AUGMENT_NONE,
    }
    record |= {"validation_share": validation, "images": len(private.train.targets)}
    return record | ({"group_by": group_by} if group_by is not None else {})


def _measured(base: BaseModel, name: str, trained: TrainedAdapter, private: PrivateData) -> dict[str, object]:
    """What the adapter reaches on the held-out images, as the card says it."""
    from forge.model.adapters import plain_delta, read_adapter
    from forge.model.scoring import evaluate

    assert private.test is not None
    adapter = read_adapter(trained.config, trained.tensors, base.tower, source=path_of(name))
    measured = evaluate(base, plain_delta(adapter), private.test)
    metrics: dict[str, object] = {"test_accuracy": rounded(measured.accuracy), "test_images": measured.images}
    return metrics | ({"test_auc": rounded(measured.auc)} if measured.auc is not None else {})
