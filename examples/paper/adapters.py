"""The adapters of an experiment: one per participant, and one on everybody's raw images; kept once trained."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from examples.paper.kept import keep
from examples.paper.scenarios import Participant, images_digest
from forge.model.adapters import Adapter, read_adapter
from forge.model.base import BaseModel
from forge.model.training import TrainSettings, default_settings
from forge.operations.train import fit_adapter
from forge.recipe.catalogue import AUGMENT_MIRROR, AUGMENT_NONE


def participant_adapter(
    folder: Path, base: BaseModel, participant: Participant, settings: TrainSettings | None = None
) -> Adapter:
    """The adapter that `git forge train` would make of a participant's images with the defaults for this base."""
    wanted = replace(settings or default_settings(base.settings_family), seed=participant.seed)
    if participant.horizontal_flip and wanted.augment == AUGMENT_NONE:
        wanted = replace(wanted, augment=AUGMENT_MIRROR)
    data = [images_digest(participant.train), images_digest(participant.validation)]

    def make() -> tuple[dict, dict]:  # type: ignore[type-arg]
        trained = fit_adapter(base, participant.name, participant.train, participant.validation, wanted)
        return trained.tensors, {"config": trained.config, "validation": asdict(trained.validation)}

    tensors, notes = keep(folder, "adapter", [base.fingerprint, asdict(wanted), data], make)
    return read_adapter(notes["config"], tensors, base.tower, source=participant.name)
