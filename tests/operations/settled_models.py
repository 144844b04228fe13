"""Model repositories for tests of settling: nothing is searched, every merge has the same two scales."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sample_models import LABELS, SampleModel, no_settings
from story.hospitals import Said, forge
from story.snapshots import Snapshot
from story.snapshots import snapshot as snapshot_of

from forge.git.running import Repository
from forge.operations import changing, settling
from forge.operations.folding import Folded
from forge.recipe.item import ForgeItem, TaskScore, empty
from forge.recipe.item_text import from_json
from forge.recipe.layout import ITEM_FILE
from forge.recipe.settings import Settings
from forge.recipe.three_way import MergePlan, combine
from forge.repo.storage import attribute_lines

OURS, THEIRS = 0.5, 0.25  # what a merge scales each side by
WRECKED = "wrecked"  # the name of a contribution that costs every other task half of its images
GONE = "merge.forge.driver=gone-from-path %O %A %B"


def fold(repo: Repository, plan: MergePlan, before: ForgeItem, settings: Settings, read: Any, **_: Any) -> Folded:
    """As the real one, with two scales that are always the same and scores that only WRECKED makes worse."""
    unchanged = (plan.base, plan.strategy, plan.ours) == (before.base, before.strategy, before.contributions)
    if unchanged and not plan.theirs:
        return Folded(before)
    if not plan.ours and not plan.theirs:
        return Folded(empty(plan.base, plan.strategy))
    entries = combine(plan, OURS, THEIRS)
    wrecked = any(entry.name == WRECKED for entry in plan.theirs)
    scores = [
        TaskScore(entry.name, LABELS, 20, 0.4 if wrecked and entry.name != WRECKED else 0.9, 0.5, 0.9, 0.25)
        for entry in entries
    ]
    return Folded(ForgeItem(plan.base, plan.strategy, entries, None, tuple(scores)))


class SettledModel(SampleModel):
    """A SampleModel with the attributes of a model repository."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        lines = [line for line in attribute_lines() if "contributions" not in line]
        self.write(".gitattributes", "".join(f"{line}\n" for line in lines).encode())
        self.commit("Attributes")

    def stop(self, *args: str) -> str:
        """A git command whose merge driver is gone from PATH: it stops in conflict. All that it said."""
        done = self.run("-c", GONE, *args)
        assert done.returncode != 0, done.stdout
        assert self.git("ls-files", "--unmerged"), done.stdout + done.stderr
        return done.stdout + done.stderr

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *args], cwd=self.top, env=self.variables(), capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    def variables(self) -> dict[str, str]:
        return {**os.environ, "GIT_CONFIG_GLOBAL": no_settings(), "GIT_EDITOR": "true"} | {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"), ("DATE", "2026-01-01T00:00:00+00:00"))
        }

    def branch(
        self, name: str, start: str, coefficients: dict[str, float], versions: Sequence[tuple[str, int]]
    ) -> None:
        """A branch with these contributions written and folded with these coefficients."""
        self.git("switch", "--quiet", "-c", name, start)
        for contribution, version in versions:
            self.write_contribution(contribution, version)
        scores = [TaskScore(each, LABELS, 20, 0.9, 0.25) for each in coefficients]
        self.write_item(self.item(coefficients, scores))
        self.commit(f"{name}: {', '.join(each for each, _ in versions)}")

    def blob(self, name: str) -> str:
        return self.git("rev-parse", name)


def run(model: SettledModel, *args: str) -> Said:
    return forge(model.top, *args)


def ok(model: SettledModel, *args: str) -> str:
    said = run(model, *args)
    assert said.code == 0, said
    return said.out


def snapshot(model: SettledModel) -> Snapshot:
    return snapshot_of(model.top, objects=False)


def item(model: SettledModel, rev: str = "") -> ForgeItem:
    return from_json(model.git("show", f"{rev}:{ITEM_FILE}") + "\n")


def coefficients(model: SettledModel, rev: str = "HEAD") -> dict[str, Any]:
    return {entry.name: entry.coefficient for entry in item(model, rev).contributions}


def go_on(model: SettledModel, *args: str) -> None:
    done = model.run(*args)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_whole(model: SettledModel) -> None:
    """HEAD is a model, and nothing else is in index or work tree."""
    assert model.git("status", "--porcelain") == ""
    assert ok(model, "verify", "--no-scores").startswith("ok: ")


@pytest.fixture(scope="session")
def settled_original(tmp_path_factory: pytest.TempPathFactory) -> SettledModel:
    """main with breast; lung and colon began before its last commit; other has another lung, and colon besides."""
    model = SettledModel(tmp_path_factory.mktemp("settled") / "model")
    model.write_contribution("breast")
    model.write_item(model.item({"breast": 1.0}, [TaskScore("breast", LABELS, 20, 0.9, 0.25)]))
    model.commit("Breast")
    model.branch("lung", "main", {"breast": 0.7, "lung": 0.4}, [("lung", 1)])
    model.branch("colon", "main", {"breast": 0.6, "colon": 0.5}, [("colon", 1)])
    model.branch("other", "colon", {"breast": 0.6, "colon": 0.5, "lung": 0.3}, [("lung", 2)])
    model.branch("updated", "main", {"breast": 0.9}, [("breast", 5)])
    model.branch(WRECKED, "main", {"breast": 0.7, WRECKED: 0.4}, [(WRECKED, 1)])
    model.git("switch", "--quiet", "main")
    model.write_item(model.item({"breast": 0.8}, [TaskScore("breast", LABELS, 20, 0.9, 0.25)]))
    model.commit("Search breast again")
    return model


@pytest.fixture
def settled(settled_original: SettledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SettledModel:
    """A copy of it, on main, where the current folder is; nothing is searched."""
    model = settled_original.copy(tmp_path / "model")
    monkeypatch.chdir(model.top)
    for module in (settling, changing):
        monkeypatch.setattr(module, "fold", fold)
    # This clone is set up by hand: the first command of git forge has nothing to do and to say.
    monkeypatch.setattr("forge.clone.setup.ensure_installed", lambda repo: None)
    return model
