"""What random histories start from: model repositories with people, made once and copied, and things to contribute."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from histories.people import Person
from sample_models import BASE
from story.hospitals import (
    adapter_config,
    card_text,
    distilled_arrays,
    random_adapter,
    write_contribution,
)

from forge.clone.setup import add_attributes
from forge.formats.safetensors import to_bytes
from forge.git.running import find_repository
from forge.recipe.item import empty
from forge.recipe.item_text import to_json
from forge.recipe.settings import SearchSettings, Settings, to_toml

LABELS = {
    "breast": ("benign breast tissues", "malignant breast tumors"),
    "colon": ("negative colon tumor", "positive colon tumor"),
    "lung": ("benign lung tissues", "lung adenocarcinomas", "lung squamous cell carcinomas"),
    "Lung": ("benign lung tissues", "lung adenocarcinomas", "lung squamous cell carcinomas"),  # as lung on some disks
    "skin": ("a mole", "a melanoma"),
}
NAMES = tuple(LABELS)
VERSIONS = (1, 2, 3, 4)
# Name of a start: options of git forge init, and the gate.
MODELS: Mapping[str, tuple[tuple[str, ...], float]] = {
    "mixture": (("--settings", "paper"), 1.0),
    "fusion": (("--settings", "paper", "--strategy", "fusion"), 1.0),
    "outputs": (("--settings", "paper", "--strategy", "mixture-output"), 1.0),
    "joint": (("--settings", "best"), 1.0),
    "gated": (("--settings", "paper"), 0.1),
}
PEOPLE = ("alice", "bob", "bench")  # the last has a work tree of bob's clone

Files = Mapping[str, bytes]


@dataclass
class Workshop:
    """`program`: the folder of git-forge; `folder`: of the starts; `counts`: what the histories did, for people.

    base: None where the program's search always finds the same scales (see fixed_scales) and nothing loads a base.
    """

    program: Path
    base: Path | None
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def models(self) -> list[str]:
        return [name for name in sorted(MODELS) if self.base or name not in ("joint", "gated")]

    def start(self, model: str, place: Path) -> dict[str, Person]:
        """Copies of a bare origin and two clones with a model, in `place`, and one more work tree."""
        if not (self.folder / model).exists():
            self._make(model)
        shutil.copytree(self.folder / model, place, symlinks=True)
        people = {name: Person(name, place / name, self.program) for name in ("origin", *PEOPLE)}
        people["bob"].ok("worktree", "add", "--quiet", "-b", "bench", str(place / "bench"), "main")
        return people

    def _make(self, model: str) -> None:
        place = self.folder / f"{model}.unfinished"
        options, gate = MODELS[model]
        alice = Person("alice", place / "alice", self.program)
        alice.top.mkdir(parents=True)
        alice.ok("init", "--quiet", "--initial-branch=main")
        settings = alice.top / "forge.toml"
        if self.base is None:
            self._init_by_hand(alice, options)
        else:
            alice.ok("forge", "init", "--base", str(self.base), *options)
        text = re.sub(r"(?m)^evaluations = .*$", "evaluations = 2", settings.read_text())
        settings.write_text(re.sub(r"(?m)^gate = .*$", f"gate = {gate}", text))
        alice.ok("commit", "--quiet", "-am", "Search quickly")
        for branch, name in (("main", "lung"), ("north", "colon"), ("south", "breast")):
            alice.ok("switch", "--quiet", *(["main"] if branch == "main" else ["-c", branch, "main~1"]))
            write_contribution(alice.top, name, self.files(name, 1, settings))
            alice.ok("forge", "commit", "-m", f"{name} at the start")
        alice.ok("switch", "--quiet", "main")
        alice.ok("clone", "--quiet", "--bare", str(alice.top), str(place / "origin"))
        (place / "origin" / "config").write_text("[core]\n\tbare = true\n[uploadpack]\n\tallowFilter = true\n")
        alice.ok("remote", "add", "origin", "../origin")
        alice.ok("fetch", "--quiet")
        alice.ok("clone", "--quiet", str(place / "origin"), str(place / "bob"))
        bob = Person("bob", place / "bob", self.program)
        bob.ok("remote", "set-url", "origin", "../origin")
        bob.ok("forge", "install")
        for person in (alice, bob):  # git trusts the times of copied files
            person.ok("config", "core.checkStat", "minimal")
            person.ok("config", "core.trustctime", "false")
        place.rename(self.folder / model)

    def _init_by_hand(self, alice: Person, options: Sequence[str]) -> None:
        """What git forge init does, for a base that nobody has."""
        strategy = options[-1] if "--strategy" in options else "mixture"
        chosen = Settings(BASE, strategy, search=SearchSettings(method="shiwa", per="contribution"))
        (alice.top / "forge.toml").write_text(to_toml(chosen))
        (alice.top / "forge-item.json").write_text(to_json(empty(BASE, strategy)))
        add_attributes(find_repository(alice.top))
        alice.ok("forge", "install")
        alice.ok("add", "--all")
        alice.ok("commit", "--quiet", "-m", "Start a model")

    def files(self, name: str, version: int, settings: Path) -> Files:
        """The files of a contribution: version 2 has another adapter, 3 other images too, 4 another alpha.

        As git forge stores them, so that files in the work tree are the same whether written or checked out.
        """
        labels = LABELS[name]
        seed = 10 * NAMES.index(name) + (1 if version == 4 else version)
        adapter = random_adapter(seed)
        for key in adapter:
            adapter[key] *= 0.3
        reference, fingerprint = re.findall(r'(?m)^(?:reference|fingerprint) = (".*")$', settings.read_text())
        images = distilled_arrays(len(labels), NAMES.index(name) if version != 3 else seed)
        return {
            "adapter_config.json": adapter_config(lora_alpha=8 if version == 4 else 16),
            "adapter_model.safetensors": to_bytes(adapter, {"format": "pt"}),
            "distilled.safetensors": to_bytes(images, {"task": name, "labels": json.dumps(labels)}),
            "card.toml": card_text(name, labels, json.loads(reference), json.loads(fingerprint)),
        }
