"""Small model repositories for tests: real git, tiny payloads, fixed names and dates."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from forge.formats import safetensors as safetensors_format
from forge.git.places import WORK_TREE
from forge.git.running import Repository, find_repository
from forge.recipe import card, settings
from forge.recipe import item as recipe
from forge.recipe import item_text as recipe_text
from forge.recipe.item import Base, ForgeItem, Search, TaskScore
from forge.recipe.layout import ITEM_FILE, path_of
from forge.repo.contributions import find_files

BASE = Base("embedded", "sha256:" + "0" * 64)
LABELS = ("benign tissue", "malignant tumor")


def adapter_config(rank: int = 2, **changes: object) -> bytes:
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "bias": "none", "target_modules": ["q_proj"]}
    return json.dumps(config | changes).encode()


def adapter(version: float = 1.0, rank: int = 2, module: str = "trunk.layer.0.q_proj", name: str = "") -> bytes:
    """One adapted module, 4 -> 3 features; of every contribution another one."""
    key = f"base_model.model.{module}"
    own = version + zlib.crc32(name.encode()) / 2**32
    tensors = {
        f"{key}.lora_A.weight": np.full((rank, 4), own, np.float32),
        f"{key}.lora_B.weight": np.full((3, rank), version, np.float32),
    }
    return safetensors_format.to_bytes(tensors)


def distilled(task: str, labels: Sequence[str] = LABELS, version: int = 1) -> bytes:
    """Two images of 4x5 pixels per label."""
    count = 2 * len(labels)
    tensors = {
        "images": np.full((count, 3, 4, 5), version, np.uint8),
        "labels": np.arange(count, dtype=np.int64) % len(labels),
        "offset": np.zeros(3, np.float32),
        "scale": np.full(3, 1 / 255, np.float32),
    }
    return safetensors_format.to_bytes(tensors, {"task": task, "labels": json.dumps(labels), "method": "dm"})


def no_settings() -> str:
    """An empty file of the test's home in the place of a user's settings.

    Not the null device: `git config --global` renames a new file over what it writes to, and root may do that in /dev.
    """
    file = Path.home() / "no-settings"
    file.touch()
    return str(file)


class SampleModel:
    """A model repository in `top`, made by hand: no command of git forge and none of its filters runs."""

    def __init__(self, top: Path) -> None:
        self.top = top
        top.mkdir(parents=True, exist_ok=True)
        self.hour = 0
        self.git("init", "--quiet", "--initial-branch=main")
        self.write("forge.toml", settings.to_toml(settings.Settings(BASE)).encode())
        self.write_item(recipe.empty(BASE, "mixture"))
        self.commit("Start the model")

    def copy(self, top: Path) -> SampleModel:
        """The same repository in another folder, as it is: much faster than making it again."""
        twin = copy.copy(self)
        twin.top = top
        shutil.copytree(self.top, top, symlinks=True)
        twin.git("update-index", "-q", "--refresh", check=False)
        return twin

    @property
    def repo(self) -> Repository:
        return find_repository(self.top)

    def git(self, *args: str, check: bool = True) -> str:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        date = f"2026-01-01T{self.hour:02}:00:00+00:00"
        for role in ("AUTHOR", "COMMITTER"):
            variables |= {f"GIT_{role}_NAME": "Ada", f"GIT_{role}_EMAIL": "ada@example.org"}
            variables[f"GIT_{role}_DATE"] = date
        variables |= {"GIT_CONFIG_GLOBAL": no_settings(), "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", *args]
        done = subprocess.run(command, cwd=self.top, env=variables, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, path: str, content: bytes) -> None:
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def write_contribution(self, name: str, version: int = 1, labels: Sequence[str] = LABELS) -> None:
        """contributions/NAME in the work tree; the task has the contribution's name."""
        self.write(path_of(name, "adapter_config.json"), adapter_config())
        self.write(path_of(name, "adapter_model.safetensors"), adapter(version, name=name))
        self.write(path_of(name, "distilled.safetensors"), distilled(name, labels, version))
        text = card.to_toml(card.Card(name, tuple(labels), BASE))
        self.write(path_of(name, "card.toml"), text.encode())

    def item(
        self, coefficients: dict[str, float], scores: Sequence[TaskScore] = (), search: Search | None = None
    ) -> ForgeItem:
        """A recipe of contributions as they are in the work tree."""
        repo = self.repo
        entries = (find_files(repo, name, WORK_TREE).entry(c) for name, c in coefficients.items())
        return ForgeItem(BASE, "mixture", tuple(entries), search, tuple(scores))

    def write_item(self, item: ForgeItem) -> None:
        self.write(ITEM_FILE, recipe_text.to_json(item).encode())

    def commit(self, message: str) -> str:
        """Commit the whole work tree, an hour after the last commit."""
        self.hour += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def add_contribution(
        self, name: str, coefficients: dict[str, float], scores: Sequence[TaskScore] = (), version: int = 1
    ) -> str:
        """Write a contribution, fold it into the item with these coefficients, and commit both."""
        self.write_contribution(name, version)
        self.write_item(self.item(coefficients, scores))
        return self.commit(f"Add {name}")
