"""Contributions for the benchmarks of merging: adapters that have learnt something, and images of their tasks.

A few adapters are trained for seconds on generated tissue; further contributions are those with noise, each with the
stain of a hospital of its own. Their images are real ones of the generator's, twenty a class, in place of distilled
ones, which would take minutes each: a search looks at them alike.

    python -m examples.bench.learnt FOLDER 3 10

makes model repositories FOLDER/3 and FOLDER/10 of so many contributions, of which main has all but one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import run

import torch

from examples.bench.consortium import blob_id
from examples.bench.plain_way import generated_images
from examples.generated.tasks import task_labels
from forge.formats.adapter import config_bytes, weights_bytes
from forge.formats.distilled import IMAGES, LABELS, OFFSET, SCALE, distilled_bytes
from forge.model.adapters import Adapter, read_adapter
from forge.model.base import BaseModel, load_base
from forge.model.scoring import TaskImages
from forge.model.synthetic import quantise
from forge.model.training import default_settings, train_adapter
from forge.recipe.card import Card, to_toml
from forge.recipe.item import Base, Entry, ForgeItem, Search
from forge.recipe.item_text import to_json
from forge.recipe.layout import (
    ADAPTER_FILE,
    ATTRIBUTES_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DISTILLED_FILE,
    ITEM_FILE,
    SETTINGS_FILE,
    path_of,
)
from forge.recipe.settings import SearchSettings, Settings
from forge.recipe.settings import to_toml as settings_to_toml
from forge.repo.storage import attribute_lines

TASKS = ("breast", "lung", "colon")
TRAINED = 6
NOISE = 0.2  # of a factor's own deviation
A_CLASS = 20


@dataclass(frozen=True)
class Learnt:
    """A contribution: its adapter as PEFT has it, and its images [n, 3, 32, 32] as bytes."""

    name: str
    config: dict[str, object]
    tensors: dict[str, torch.Tensor]
    images: TaskImages

    def adapter(self, base: BaseModel) -> Adapter:
        return read_adapter(self.config, self.tensors, base.tower, source=self.name)

    def files(self, base: BaseModel) -> dict[str, bytes]:
        """The files of its folder by name, as git forge writes them."""
        arrays = {name: tensor.numpy() for name, tensor in self.tensors.items()}
        stored = quantise(base, base.normalise(self.images.pixels), self.images.targets)
        images = {
            IMAGES: stored.images.numpy(),
            LABELS: stored.targets.numpy(),
            OFFSET: stored.offset.numpy(),
            SCALE: stored.scale.numpy(),
        }
        card = Card(self.images.task, self.images.labels, Base("embedded", base.fingerprint))
        return {
            CONFIG_FILE: config_bytes(self.config),
            ADAPTER_FILE: weights_bytes(arrays, self.name),
            DISTILLED_FILE: distilled_bytes(images, self.images.task, self.images.labels, "dm", self.name),
            CARD_FILE: to_toml(card).encode(),
        }


def make_contributions(base: BaseModel, count: int) -> list[Learnt]:
    """So many contributions; the same each time."""
    trained = [_trained(base, number) for number in range(min(count, TRAINED))]
    return [_contribution(trained[number % TRAINED], number) for number in range(count)]


def _trained(base: BaseModel, number: int) -> Learnt:
    task = TASKS[number % len(TASKS)]
    settings = replace(default_settings("small"), epochs=4, steps=0, seed=number)
    train, validation = _images(task, "train", 300, number), _images(task, "validation", 60, number)
    adapter = train_adapter(base, train, validation, settings)
    return Learnt(task, adapter.config, adapter.tensors, _distilled(task, number))


def _contribution(like: Learnt, number: int) -> Learnt:
    name = f"{like.name}-{number:03}"
    if number < TRAINED:
        return replace(like, name=name)
    generator = torch.Generator().manual_seed(number)
    tensors = {
        key: value + NOISE * value.std() * torch.randn(value.shape, generator=generator)
        for key, value in like.tensors.items()
    }
    return Learnt(name, like.config, tensors, _distilled(like.name, number))


def _images(task: str, split: str, count: int, number: int) -> TaskImages:
    """`count` images of the hospital of this number."""
    return generated_images(task, split, count, number + 1, number)


def _distilled(task: str, number: int) -> TaskImages:
    return _images(task, "validation", A_CLASS * len(task_labels(task)), number)


def make_model(top: Path, base: BaseModel, contributions: Sequence[Learnt]) -> None:
    """A model repository whose main has all of the contributions but one, which the branch `last` has alone."""
    top.mkdir(parents=True)
    _git(top, "init", "--quiet", "--initial-branch=main")
    _git(top, "config", "user.name", "Ada")
    _git(top, "config", "user.email", "ada@example.org")
    _git(top, "config", "core.hooksPath", "/dev/null")  # until the model is made
    identity = Base("embedded", base.fingerprint)
    (top / SETTINGS_FILE).write_text(settings_to_toml(Settings(identity)))
    (top / ATTRIBUTES_FILE).write_text("".join(f"{line}\n" for line in attribute_lines()))
    _commit(top, ForgeItem(identity, "mixture"))
    _git(top, "branch", "last")
    entries = [_written(top, base, each) for each in contributions[:-1]]
    shared = round(1 / max(1, len(entries)), 6)
    search = Search(**vars(SearchSettings()), scales={}, objective_before=None, objective_after=0.0)
    _commit(top, _item(identity, [(entry, shared) for entry in entries], search if len(entries) > 1 else None))
    _git(top, "switch", "--quiet", "last")
    _commit(top, _item(identity, [(_written(top, base, contributions[-1]), 1.0)], None))
    _git(top, "switch", "--quiet", "main")
    _git(top, "config", "--unset", "core.hooksPath")
    _git(top, "tag", "main-as-it-was")
    run([Path(sys.executable).with_name("git-forge"), "install"], cwd=top, check=True, capture_output=True)


def _written(top: Path, base: BaseModel, contribution: Learnt) -> Entry:
    files = contribution.files(base)
    for name, content in files.items():
        path = top / path_of(contribution.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    adapter, config, distilled = (blob_id(files[name]) for name in (ADAPTER_FILE, CONFIG_FILE, DISTILLED_FILE))
    return Entry(contribution.name, adapter, config, distilled, 1.0)


def _item(base: Base, weighed: Sequence[tuple[Entry, float]], search: Search | None) -> ForgeItem:
    entries = tuple(
        Entry(entry.name, entry.adapter, entry.config, entry.distilled, coefficient) for entry, coefficient in weighed
    )
    return ForgeItem(base, "mixture", entries, search)


def _commit(top: Path, item: ForgeItem) -> None:
    (top / ITEM_FILE).write_text(to_json(item))
    _git(top, "add", "--all")
    _git(top, "commit", "--quiet", "--message", "made by hand")


def _git(top: Path, *args: str) -> None:
    run(["git", *args], cwd=top, check=True)


def main(folder: Path, counts: Sequence[int]) -> None:
    """Make the model repositories."""
    base = load_base("embedded")
    everybody = make_contributions(base, max(counts))
    for count in counts:
        make_model(folder / str(count), base, everybody[:count])


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(count) for count in sys.argv[2:]])
