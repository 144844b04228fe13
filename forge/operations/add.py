"""`git forge add`: a contribution that was trained elsewhere, checked and put into the work tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from forge.console import Report, silent
from forge.data.matching import KnownTask, check_texts, differ
from forge.errors import ForgeError
from forge.formats.distilled import DistilledView, check_distilled, relabelled
from forge.formats.safetensors import canonicalise
from forge.git.running import Repository
from forge.operations.bases import load_repository_base
from forge.operations.contributing import (
    adapter_in_own_names,
    contribution_folder,
    doubled_in_work_tree,
    read_elsewhere,
    write_files,
)
from forge.operations.loading import load_adapter, load_distilled
from forge.recipe.card import Card, check_labels, read_card, to_toml
from forge.recipe.layout import ADAPTER_FILE, CARD_FILE, CONFIG_FILE, DISTILLED_FILE, path_of
from forge.recipe.settings import Settings
from forge.repo.leftovers import alone_in_work_tree
from forge.repo.locks import contribution_lock, only_one
from forge.repo.made_with import KEY, made_with_another
from forge.repo.settings_file import load_settings
from forge.text import same_labels


@dataclass(frozen=True)
class Added:
    """What was taken in. spelling: whose names the adapter's modules had, None where they had those of this base."""

    contribution: str
    parameters: int
    images: int
    spelling: str | None


@dataclass(frozen=True)
class _Card:
    """The card that lies beside the adapter: where, as text, and read; the latter None where there is none."""

    file: Path
    text: bytes | None
    read: Card | None


def add(
    repo: Repository,
    name: str,
    adapter: Path,
    distilled: Path,
    *,
    labels: Sequence[str] = (),
    task: str | None = None,
    replacing: bool = False,
    report: Report = silent,
) -> Added:
    """Check an adapter and a distilled dataset against the repository's base and put them into contributions/NAME.

    adapter: a PEFT folder, with a card.toml or without. labels: in the order of the class numbers, those of the
    distilled dataset if not given; task likewise. replacing: also where contributions/NAME is there. Raises
    ForgeError, with nothing written, where anything is wrong.
    """
    settings = load_settings(repo.top)
    limit = settings.limits.file_bytes
    with only_one(contribution_lock(repo, name), f"git forge add {name}"):
        folder = contribution_folder(repo, name)
        if folder.exists() and not replacing:
            raise ForgeError(f"{path_of(name)} is there already", hint="choose another NAME, or give --replace")
        config = read_elsewhere(adapter / CONFIG_FILE, limit)
        weights = b"".join(canonicalise(read_elsewhere(adapter / ADAPTER_FILE, limit), str(adapter / ADAPTER_FILE)))
        images = b"".join(canonicalise(read_elsewhere(distilled, limit), str(distilled)))
        view = check_distilled(images, str(distilled), settings.limits.distilled_images)
        texts = _texts(labels, view, distilled)
        card = _read_card(adapter, limit)
        _check_card(card, settings, texts, bool(labels), distilled)

        from forge.model.adapters import parameter_count
        from forge.model.label_texts import check_label_texts

        base = load_repository_base(repo, settings.base)
        config, weights, spelling = adapter_in_own_names(base, config, weights, str(adapter))
        for label, read in check_label_texts(base, texts, str(distilled)).items():
            report(f"label cut: of {label!r} the base reads {read!r}")
        parameters = parameter_count(load_adapter(base, config, weights, str(adapter)))
        load_distilled(base, images, str(distilled), settings.limits)
        fresh = _fresh_card(card, settings, task or view.task, texts)
        files = {
            CONFIG_FILE: config,
            ADAPTER_FILE: weights,
            DISTILLED_FILE: relabelled(images, fresh.task, texts, str(distilled)),
            CARD_FILE: to_toml(fresh, (card.text or b"").decode()).encode(),
        }
        if made_with_another(fresh, weights, str(adapter)):
            raise ForgeError(
                f"{distilled} was made with another adapter than {adapter}, says {card.file}",
                hint=f"distil again; or, if these images are to stay, take the line {KEY} out of its [distillation]",
            )
        for problem in doubled_in_work_tree(repo, name, files):
            raise ForgeError(f"{problem}: it would count more than once", hint="choose the NAME that it has already")
        with alone_in_work_tree(repo, f"git forge add {name}", wait=True):
            write_files(folder, files)
    return Added(name, parameters, view.images, spelling)


def _texts(labels: Sequence[str], view: DistilledView, distilled: Path) -> tuple[str, ...]:
    """The label texts of the contribution, as given or as the distilled dataset has them."""
    texts = check_labels(tuple(labels), "--labels") if labels else view.labels
    if len(texts) != len(view.labels):
        raise ForgeError(
            f"{distilled} has {len(view.labels)} classes, but {len(texts)} --labels were given",
            hint=f"its own labels are: {', '.join(view.labels)}",
        )
    check_texts(texts, view.labels, str(distilled))
    return texts


def _read_card(adapter: Path, limit: int) -> _Card:
    file = adapter / CARD_FILE
    text = read_elsewhere(file, limit) if file.is_file() else None
    return _Card(file, text, read_card(text, str(file)) if text is not None else None)


def _check_card(card: _Card, settings: Settings, texts: tuple[str, ...], given: bool, distilled: Path) -> None:
    """Raise ForgeError for a card of another base, or of other labels where none are given."""
    if card.read is None:
        return
    base = card.read.base
    if base.fingerprint != settings.base.fingerprint:
        raise ForgeError(
            f"{card.file}: this adapter was trained on another base: {base.reference} "
            f"({base.fingerprint}), not on {settings.base.reference} ({settings.base.fingerprint})",
            hint="train it again on this repository's base",
        )
    if not given and same_labels(card.read.labels) != same_labels(texts):
        known = [KnownTask(card.read.labels)]
        raise differ(str(distilled), texts, known, f"{card.file} has the labels", "--labels TEXT")


def _fresh_card(card: _Card, settings: Settings, task: str, texts: tuple[str, ...]) -> Card:
    """The contribution's card: what the one beside the adapter says, under this task and these labels."""
    if card.read is None:
        return Card(task, texts, settings.base)
    classes = dict(zip(card.read.labels, card.read.classes, strict=False))
    ordered = tuple(classes[label] for label in texts if label in classes)
    return replace(card.read, task=task, labels=texts, classes=ordered if len(ordered) == len(texts) else ())
