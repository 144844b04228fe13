"""Writing a contribution into the work tree: what `train`, `distill` and `add` have in common."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge.data.matching import Given, KnownTask, by_name, check_texts, differ, fits, given_for
from forge.errors import ForgeError
from forge.formats.adapter import BASE_KEY, check_adapter_config, config_bytes, weights_bytes
from forge.formats.distilled import IMAGES, LABELS, OFFSET, SCALE, distilled_bytes
from forge.formats.safetensors import canonicalise
from forge.git.files import is_plain_file, read_plain_file, write_whole
from forge.git.places import WORK_TREE
from forge.git.running import Repository, git_text, hash_object
from forge.processes import is_main
from forge.recipe.card import Card, check_labels, read_card, to_toml
from forge.recipe.item import Base, under_several_names
from forge.recipe.layout import ADAPTER_FILE, CARD_FILE, CONFIG_FILE, DISTILLED_FILE, path_of
from forge.recipe.toml_text import MAX_BYTES
from forge.repo.contributions import find_all
from forge.repo.leftovers import alone_in_work_tree
from forge.repo.made_with import made_with_another
from forge.text import same_text

if TYPE_CHECKING:
    from torch import Tensor

    from forge.model.base import BaseModel
    from forge.model.distillation import DistilledImages


def contribution_folder(repo: Repository, name: str) -> Path:
    """contributions/NAME in the work tree; refuses a link on the way, which could lead out of it."""
    folder = repo.top / path_of(name)
    for place in (folder.parent, folder):
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise ForgeError(f"{place.relative_to(repo.top)} is not a folder", hint="move it out of the way")
    return folder


def existing_card(repo: Repository, name: str) -> Card | None:
    """The card of contributions/NAME in the work tree, if there is one."""
    text = _card_text(repo, name)
    return None if text is None else read_card(text, path_of(name, CARD_FILE))


@dataclass(frozen=True)
class Labelling:
    """The labels of a task, and which of them stands for each class of a data set."""

    labels: tuple[str, ...]
    of_class: Mapping[str, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of the labels."""
        names = {label: name for name, label in self.of_class.items()}
        return tuple(names[label] for label in self.labels if label in names)

    def of(self, source: str, classes: Sequence[str], given: Given) -> Mapping[str, str]:
        """The label of each class of another data set of this task, matched by name; it may lack classes."""
        known = KnownTask(self.labels, self.classes)
        labels = by_name(classes, known, given_for(Given(pairs=given.pairs), classes, source, tuple(self.of_class)))
        if not fits(labels, classes):
            raise differ(source, classes, [known], "the task has the labels")
        return labels


def choose_labels(given: Given, card: Card | None, classes: Sequence[str], source: str) -> Labelling:
    """The label texts for the data's classes: given, else the card's by name, else the class names.

    Raises ForgeError where the card is of other classes, and for texts that a model cannot tell apart.
    """
    given_texts = given_for(given, classes, source)
    if len(given_texts) < len(classes) and card is not None:
        known = KnownTask(card.labels, card.classes)
        of_class = by_name(classes, known, given_texts)
        if not fits(of_class, classes) or len(of_class) < len(card.labels):
            raise differ(source, classes, [known], "the card of this contribution has the labels")
        labels = card.labels
    else:
        of_class = {name: given_texts.get(name, unicodedata.normalize("NFC", name)) for name in classes}
        labels = tuple(of_class[name] for name in classes)
    check_texts(labels, classes, source)
    return Labelling(check_labels(labels, "--labels" if given.labels else "the labels"), of_class)


def check_same_task(repo: Repository, name: str, card: Card | None, labelling: Labelling) -> None:
    """Refuse to distil for other labels than the adapter that is there was trained for."""
    if card is None or not (contribution_folder(repo, name) / ADAPTER_FILE).exists():
        return
    if {same_text(label) for label in card.labels} != {same_text(label) for label in labelling.labels}:
        raise ForgeError(
            f"the adapter of {path_of(name)} was trained for {', '.join(card.labels)}, "
            f"not for {', '.join(labelling.labels)}",
            hint=f"train it again with these labels: git forge train {name}",
        )


def write_adapter(
    repo: Repository, name: str, tensors: Mapping[str, Tensor], config: Mapping[str, object], card: Card
) -> list[str]:
    """Write adapter and card; a distilled dataset that is there stays. What a person should know of it, in lines."""
    if not is_main():
        return []
    arrays = {key: value.detach().cpu().numpy() for key, value in tensors.items()}
    folder = contribution_folder(repo, name)
    files = {
        ADAPTER_FILE: weights_bytes(arrays, path_of(name, ADAPTER_FILE)),
        CONFIG_FILE: config_bytes(config),
        CARD_FILE: _rewritten_card(repo, name, card),
    }
    with alone_in_work_tree(repo, "git forge train", wait=True):
        remarks = _kept_aside(repo, path_of(name, ADAPTER_FILE), files[ADAPTER_FILE])
        write_files(folder, files)
    if (folder / DISTILLED_FILE).exists() and made_with_another(card, files[ADAPTER_FILE], path_of(name, ADAPTER_FILE)):
        remarks.append(f"warning: {path_of(name, DISTILLED_FILE)} was made with another adapter: distil again")
    return remarks + [
        f"warning: {problem}, which git forge commit refuses" for problem in doubled_in_work_tree(repo, name)
    ]


def write_card(repo: Repository, name: str, card: Card) -> None:
    """Write the card alone."""
    if not is_main():
        return
    with alone_in_work_tree(repo, "git forge train", wait=True):
        write_files(contribution_folder(repo, name), {CARD_FILE: _rewritten_card(repo, name, card)})


def write_distilled(repo: Repository, name: str, distilled: DistilledImages, card: Card, method: str) -> list[str]:
    """Write distilled dataset and card. What a person should know of it, in lines."""
    if not is_main():
        return []
    arrays = {
        IMAGES: distilled.images.numpy(),
        LABELS: distilled.targets.numpy(),
        OFFSET: distilled.offset.numpy(),
        SCALE: distilled.scale.numpy(),
    }
    files = {
        DISTILLED_FILE: distilled_bytes(arrays, card.task, card.labels, method, path_of(name, DISTILLED_FILE)),
        CARD_FILE: _rewritten_card(repo, name, card),
    }
    with alone_in_work_tree(repo, "git forge distill", wait=True):
        remarks = _kept_aside(repo, path_of(name, DISTILLED_FILE), files[DISTILLED_FILE])
        write_files(contribution_folder(repo, name), files)
    return remarks + [
        f"warning: {problem}, which git forge commit refuses" for problem in doubled_in_work_tree(repo, name)
    ]


def doubled_in_work_tree(repo: Repository, name: str, coming: Mapping[str, bytes] | None = None) -> list[str]:
    """Where contributions/NAME has the same adapter or distilled dataset as others in the work tree, one line each.

    coming: the files that it will have, where they are not there yet.
    """
    here, _ = find_all(repo, WORK_TREE)
    blobs = {other: files.blobs for other, files in here.items() if other != name or coming is None}
    if coming is not None:
        blobs[name] = {
            file: hash_object(repo, content, write=False, path=path_of(name, file)) for file, content in coming.items()
        }
    problems = []
    for file, what in ((ADAPTER_FILE, "adapter"), (DISTILLED_FILE, "distilled dataset")):
        own = blobs.get(name, {}).get(file)
        same = sorted(other for other, files in blobs.items() if own is not None and files.get(file) == own)
        if len(same) > 1:
            problems.append(under_several_names(what, same))
    return problems


def warn_of_replacing(repo: Repository, name: str, file: str) -> list[str]:
    """What to say before a file of contributions/NAME is made anew that no commit holds."""
    path = path_of(name, file)
    return [f"warning: {path} is not committed and will be replaced"] if _is_uncommitted(repo, path) else []


def _is_uncommitted(repo: Repository, path: str) -> bool:
    """Whether a file lies in the work tree that is not as it is in HEAD."""
    if not is_plain_file(repo.top / path):
        return False
    stored = hash_object(repo, repo.top / path, write=False, path=path)
    return stored != git_text(repo, "rev-parse", "--verify", "--quiet", f"HEAD:{path}", check=False)


def _kept_aside(repo: Repository, path: str, content: bytes) -> list[str]:
    """Keep what no commit holds of a file that `content` takes the place of, as a blob; what to say of it.

    It may have taken hours. git gc takes it away in its time, as it does with what `git stash drop` leaves.
    """
    file = repo.top / path
    if not is_plain_file(file) or file.read_bytes() == content or not _is_uncommitted(repo, path):
        return []
    blob = hash_object(repo, file, write=True)
    return [f"{path} was not committed and is replaced; as it was: git cat-file blob {blob[:10]} > FILE"]


def read_elsewhere(path: Path, limit: int) -> bytes:
    """A file from outside the repository, at most `limit` bytes."""
    try:
        if path.stat().st_size > limit:
            raise ForgeError(
                f"{path} is larger than {limit:,} bytes",
                hint="raise limits.file_mebibytes in forge.toml if you trust it",
            )
        return path.read_bytes()
    except OSError as error:
        raise ForgeError(f"{path}: {error.strerror}", hint="check the path") from error


def adapter_in_own_names(
    base: BaseModel, config: bytes, weights: bytes, source: str
) -> tuple[bytes, bytes, str | None]:
    """(adapter_config.json, weights, whose names they had) of an adapter from elsewhere, under this base's own names.

    The bytes stay as they are, and the last is None, where the adapter has those names. Raises ForgeError where it
    says itself that it was trained on another base, or changes what this one does not have.
    """
    from safetensors.torch import load, save

    from forge.model.adapter_names import in_own_names
    from forge.model.attention import adaptable_modules
    from forge.model.base import OWN_BASE

    check_adapter_config(config, f"{source}/{CONFIG_FILE}")
    read = json.loads(config)
    trained_on = read.get(BASE_KEY)
    if isinstance(trained_on, str) and trained_on.startswith(OWN_BASE) and not base.goes_by(trained_on):
        raise ForgeError(
            f"{source}: this adapter was trained on another base: {trained_on.removeprefix(OWN_BASE)}, not on "
            f"{base.reference} ({base.fingerprint})",
            hint="train it again on this repository's base",
        )
    renamed = in_own_names(read, load(weights), adaptable_modules(base.tower), source=source)
    if renamed is None:
        return config, weights, None
    plain = {**renamed.config, BASE_KEY: f"{OWN_BASE}{base.fingerprint}"}
    canonical = b"".join(canonicalise(save(renamed.tensors, {"format": "pt"}), f"{source}/{ADAPTER_FILE}"))
    return config_bytes(plain), canonical, renamed.spelling


def card_for(
    base: BaseModel,
    task: str,
    labels: tuple[str, ...],
    previous: Card | None,
    classes: tuple[str, ...] = (),
    data: Mapping[str, Any] | None = None,
) -> Card:
    """A card for this base, task and labels that keeps what an earlier one says of other things."""
    identity = Base(base.reference, base.fingerprint)
    if previous is None:
        return Card(task, labels, identity, classes, data or {})
    return replace(previous, task=task, labels=labels, base=identity, classes=classes, data=data or previous.data)


def _card_text(repo: Repository, name: str) -> bytes | None:
    return read_plain_file(contribution_folder(repo, name) / CARD_FILE, MAX_BYTES, path_of(name, CARD_FILE))


def _rewritten_card(repo: Repository, name: str, card: Card) -> bytes:
    """card.toml as it is to be, with the comments of the one that is there."""
    return to_toml(card, (_card_text(repo, name) or b"").decode("utf-8", "replace")).encode()


def rounded(value: Any) -> Any:
    """Figures as a card shows them: four decimals."""
    return round(value, 4) if isinstance(value, float) else value


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files one after the other, each whole or not at all, the card last: it vouches for the others.

    For who holds the lock of the work tree: what others leave unfinished here is taken for that of a dead process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)
