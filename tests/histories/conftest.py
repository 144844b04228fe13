"""Repositories that are made once and copied, for histories that are about git: see fixed_scales."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from histories import fixed_scales
from histories.forge_server import forge_server
from sample_models import BASE, LABELS, adapter, adapter_config, distilled
from story.hospitals import NAMES, Merged, contribute, copy_repository, git_ok, merged_in_order

from forge.clone import setup as clone_setup
from forge.git.running import find_repository
from forge.recipe import card, settings
from forge.recipe import item as recipe
from forge.recipe import item_text as recipe_text
from forge.recipe.layout import ITEM_FILE

Files = Mapping[str, Mapping[str, bytes]]


def contribution_files(task: str, version: int = 1) -> dict[str, bytes]:
    """The four files of a contribution, small and valid."""
    return {
        "adapter_config.json": adapter_config(),
        "adapter_model.safetensors": adapter(version, name=task),
        "distilled.safetensors": distilled(task, LABELS, version),
        "card.toml": card.to_toml(card.Card(task, LABELS, BASE)).encode(),
    }


def start_model(top: Path) -> Path:
    """What `git forge init` makes, for a base that nobody has: nothing here loads it. git trusts times when copied."""
    top.mkdir(parents=True)
    git_ok(top, "init", "--quiet", "--initial-branch=main")
    # Copies of this folder are the same to git, so that it need not hash every file of every test again.
    git_ok(top, "config", "core.checkStat", "minimal")
    git_ok(top, "config", "core.trustctime", "false")
    clone_setup.install(find_repository(top))
    clone_setup.add_attributes(find_repository(top))
    search = settings.SearchSettings(method="shiwa", per="contribution")
    (top / "forge.toml").write_text(settings.to_toml(settings.Settings(BASE, search=search)))
    (top / ITEM_FILE).write_text(recipe_text.to_json(recipe.empty(BASE, "mixture")))
    git_ok(top, "add", "--all")
    git_ok(top, "commit", "--quiet", "-m", "Start the model")
    return top


@pytest.fixture(scope="session")
def server(isolated_home: Path) -> Iterator[Path]:
    """The folder of a `git-forge` that starts in no time and whose search always finds the same."""
    with forge_server(script=fixed_scales.__file__) as folder:
        yield folder


@pytest.fixture(scope="session")
def contributions() -> Files:
    """The files of the three contributions by name."""
    return {name: contribution_files(name, number) for number, name in enumerate(NAMES, 1)}


@pytest.fixture
def quick(server: Path) -> Iterator[Path]:
    """git forge in this process is that of the server, and what it sets up names its program; the program."""
    program = server / "git-forge"
    with fixed_scales.fixed_scales() as patch:
        patch.setattr(clone_setup, "program", lambda: shlex.quote(str(program)))
        yield program


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory, server: Path, contributions: Files) -> Path:
    """main without contributions, and one branch for each of three; not to be changed: copy it."""
    with fixed_scales.fixed_scales() as patch:
        patch.setattr(clone_setup, "program", lambda: shlex.quote(str(server / "git-forge")))
        top = start_model(tmp_path_factory.mktemp("hospitals") / "model")
        for name in NAMES:
            contribute(top, name, contributions[name])
    return top


@pytest.fixture
def model(hospitals: Path, quick: Path, tmp_path: Path) -> Path:
    """A copy of `hospitals` for one test, on main."""
    return copy_repository(hospitals, tmp_path / "model")


@pytest.fixture(scope="session")
def merged(tmp_path_factory: pytest.TempPathFactory, hospitals: Path) -> Merged:
    return merged_in_order(tmp_path_factory, hospitals)


@pytest.fixture
def pair(merged: Merged, quick: Path, tmp_path: Path) -> Path:
    """A copy of main with breast and colon in it; the branch lung is not merged yet."""
    return copy_repository(merged("breast", "colon"), tmp_path / "model")
