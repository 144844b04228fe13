"""`git forge distill`: a few synthetic images that stand for the private ones, into a contribution of the work tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
    check_same_task,
    existing_card,
    rounded,
    warn_of_replacing,
    write_distilled,
)
from forge.operations.own_adapter import own_adapter, own_adapter_id
from forge.operations.private_data import PrivateData, check_split, list_private_data, read_listed
from forge.operations.reading import complete_options
from forge.recipe.card import validation_split
from forge.recipe.catalogue import distillation_method_named
from forge.recipe.layout import DISTILLED_FILE, path_of
from forge.recipe.settings import LimitSettings
from forge.repo.locks import contribution_lock, only_one, unfinished_lock
from forge.repo.made_with import KEY
from forge.repo.settings_file import load_settings

if TYPE_CHECKING:
    from forge.model.adapters import Adapter
    from forge.model.base import BaseModel
    from forge.model.distillation import DistilledImages, DistillSettings, Progress
    from forge.model.scoring import TaskImages
    from forge.operations.unfinished import Unfinished


class UnusedSettingError(ForgeError):
    """A setting that the method makes nothing of."""

    def __init__(self, setting: str, method: str) -> None:
        super().__init__(f"{setting} means nothing to the method {method}")
        self.setting, self.method = setting, method


@dataclass(frozen=True)
class Distilled:
    """A contribution with a new distilled dataset: of how many images, how many, and how good they are.

    accuracy: on the validation split, of a fresh adapter that was trained on the distilled images alone.
    """

    contribution: str
    images: int
    distilled_images: int
    accuracy: float


def distill(
    repo: Repository,
    name: str,
    data: Path,
    *,
    given: Given | None = None,
    task: str | None = None,
    method: str | None = None,
    validation: float | None = None,
    options: ReadOptions | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    restart: bool = False,
    report: Report = silent,
) -> Distilled:
    """Distil `data` into contributions/NAME of the work tree, and say in the card what that releases.

    data: the images that the contribution was trained on. given: labels by class, those of the card if not given.
    method: one of forge.model.distillation.METHODS, the base's default if not given. validation, seed: as in training
    if not given. settings: fields of DistillSettings that take other values than the method's defaults. restart:
    forget an interrupted run, which is continued else. Raises UnusedSettingError, and ForgeError where data, labels and
    adapter do not fit.
    """
    own = load_settings(repo.top)
    with ExitStack() as locks:
        for file in (contribution_lock(repo, name), unfinished_lock(repo, name)):
            locks.enter_context(only_one(file, f"git forge distill {name}"))
        card = existing_card(repo, name)
        options = complete_options(options, card)
        listed = list_private_data(data, given or Given(), card, options)  # before anything heavy is loaded
        check_same_task(repo, name, card, listed.labelling)
        report(*warn_of_replacing(repo, name, DISTILLED_FILE))

        from forge.model import sharing
        from forge.operations.unfinished import Unfinished

        sharing.start()
        trained_share, trained_seed = validation_split(card)
        validation = trained_share if validation is None else validation
        seed = trained_seed if seed is None else seed
        check_split(validation, seed)
        base = load_repository_base(repo, own.base)
        chosen = replace(_defaults(base, method, settings or {}), seed=seed, **(settings or {}))
        adapter = _adapter(repo, name, data, base, chosen, own.limits)
        made_with = {KEY: own_adapter_id(repo, name, own.limits)} if adapter is not None else {}
        private = read_listed(base, listed, task or (card.task if card else name), validation, seed)
        report(*private.lines())
        unfinished = Unfinished.of(repo, name, base, private, chosen, adapter)
        resume = None if restart else unfinished.read()
        with sharing.main_first():  # when all have read it
            pass
        distilled = _continued(base, name, private, chosen, adapter, resume, unfinished, report)
        assert distilled.score is not None
        accuracy = rounded(distilled.score.accuracy)
        fresh = card_for(base, private.task, private.labels, card, private.classes, private.summary.for_card())
        figures = {"distilled_images": len(distilled.images), "distilled_validation_accuracy": accuracy}
        fresh = replace(
            fresh,
            distillation={**_used(chosen), "validation_share": validation, **made_with},
            metrics={**fresh.metrics, **figures},
            privacy=privacy_statement(chosen.method, fresh.privacy),
        )
        report(*write_distilled(repo, name, distilled, fresh, chosen.method))
        unfinished.forget()
    return Distilled(name, len(private.train.targets), len(distilled.images), accuracy)


def distil_images(
    base: BaseModel,
    name: str,
    images: TaskImages,
    validation: TaskImages,
    settings: DistillSettings,
    *,
    adapter: Adapter | None = None,
    resume: Progress | None = None,
    save: Callable[[Progress], None] = lambda state: None,
) -> DistilledImages:
    """forge.model.distillation.distil with its progress on a terminal; `name` is whose images they are."""
    from forge.model.distillation import distil

    with progress(f"distilling {name}", settings.steps) as advance:
        if resume is not None:
            advance(resume.step)
        return distil(
            base,
            images,
            validation,
            settings,
            adapter=adapter,
            resume=resume,
            save=save,
            advance=lambda steps, note: advance(steps, at=note),
        )


def privacy_statement(method: str, written: Mapping[str, Any]) -> dict[str, Any]:
    """[privacy] of the card: what these images release is stated anew, what else was `written` there is kept."""
    return distillation_method_named(method).privacy | {
        key: value for key, value in written.items() if key not in ("released", "start")
    }


def _defaults(base: BaseModel, method: str | None, settings: Mapping[str, Any]) -> DistillSettings:
    """The method's settings for this base. Raises UnusedSettingError for one of `settings` that it makes nothing of."""
    from forge.model.distillation import default_settings

    defaults = default_settings(base.settings_family, method)
    for key in settings.keys() - _used(defaults).keys():
        raise UnusedSettingError(key, defaults.method)
    return defaults


def _used(settings: DistillSettings) -> dict[str, Any]:
    from forge.model.distillation import used_settings

    return used_settings(settings)


def _adapter(
    repo: Repository, name: str, data: Path, base: BaseModel, settings: DistillSettings, limits: LimitSettings
) -> Adapter | None:
    """The contributor's own adapter, for a method that starts from it."""
    if not settings.needs_adapter:
        return None
    adapter = own_adapter(repo, name, base, limits)
    if adapter is None:
        raise ForgeError(
            f"the method {settings.method} starts from the adapter, but {path_of(name)} has none",
            hint=f"run git forge train {name} --data {data} first, or choose another --method",
        )
    return adapter


def _continued(
    base: BaseModel,
    name: str,
    private: PrivateData,
    settings: DistillSettings,
    adapter: Adapter | None,
    resume: Progress | None,
    unfinished: Unfinished,
    report: Report,
) -> DistilledImages:
    """Run the method, from where an interrupted run of the same has come to."""
    if resume is not None:
        report(f"Continuing an interrupted run at step {resume.step} of {settings.steps}.")
    try:
        with unfinished.saving() as save:
            return distil_images(
                base, name, private.train, private.validation, settings, adapter=adapter, resume=resume, save=save
            )
    except KeyboardInterrupt:
        if unfinished.path.is_file():
            report("The run so far is kept: the same command continues it.")
        raise
