"""A merge that searches, across storages: the same model as without, and what is not here is fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from storage.lfs_models import LfsServer, lose, oid_of, remotes
from story.hospitals import (
    contribution_files,
    forge_ok,
    git,
    git_ok,
    item,
    load_tiny_base,
    make_base,
    quick_program,
    random_adapter,
    set_up_with,
    start_model,
)
from story.hospitals import write_contribution as write

from forge.clone import setup as clone_setup
from forge.git import lfs
from forge.git.running import find_repository
from forge.recipe.layout import FOLDERS

BREAST = tuple(f"contributions/breast/{file}.safetensors" for file in ("adapter_model", "distilled"))


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(autouse=True)
def quick_set_up(base_folder: Path) -> Iterator[None]:
    with set_up_with(quick_program(base_folder)):
        yield


@pytest.fixture
def branches(tmp_path: Path, base_folder: Path) -> Path:
    """main with breast, a branch colon from before that; all in git."""
    top, base = start_model(tmp_path / "plain", base_folder), load_tiny_base(base_folder)
    clone_setup.install(find_repository(top))
    for name in ("breast", "colon"):
        git_ok(top, "switch", "--quiet", "-c", name, "main")
        write(top, name, contribution_files(base, name, adapter=random_adapter(len(name))))
        forge_ok(top, "commit")
    git_ok(top, "switch", "--quiet", "main")
    git_ok(top, "merge", "--quiet", "--ff-only", "breast")
    return top


def test_a_merge_across_storages_is_the_merge(branches: Path, tmp_path: Path, server: LfsServer) -> None:
    top = Path(shutil.copytree(branches, tmp_path / "model", symlinks=True))
    git_ok(branches, "merge", "--quiet", "--no-edit", "colon")
    wanted = item(branches)

    remotes(top, server)
    forge_ok(top, "storage", "lfs")
    tip = git_ok(top, "rev-parse", "main")
    lfs.push_objects(
        find_repository(top), "origin", "origin", [f"refs/heads/main {tip} refs/heads/main {'0' * 40}"], FOLDERS
    )
    for path in BREAST:  # the driver finds pointers only, and gets the files
        lose(top, oid_of(top, path))
    git_ok(top, "merge", "--quiet", "--no-edit", "colon")
    found = item(top)
    for name, entry in found["contributions"].items():
        assert entry["coefficient"] == wanted["contributions"][name]["coefficient"]
    assert (found["scores"], found["search"]) == (wanted["scores"], wanted["search"])
    assert forge_ok(top, "storage", "lfs").err == "2 files moved\n"
    assert forge_ok(top, "verify").out.startswith("ok: ")
    assert item(top)["scores"] == wanted["scores"]


def test_the_driver_refuses_pointers_where_the_clone_does_not_use_git_lfs(
    branches: Path, tmp_path: Path, server: LfsServer
) -> None:
    other = Path(shutil.copytree(branches, tmp_path / "other", symlinks=True))
    remotes(other, server)
    git_ok(other, "switch", "--quiet", "colon")
    forge_ok(other, "storage", "lfs")
    tip = git_ok(other, "rev-parse", "colon")
    lfs.push_objects(
        find_repository(other), "origin", "origin", [f"refs/heads/x {tip} refs/heads/x {'0' * 40}"], FOLDERS
    )

    git_ok(branches, "fetch", "--quiet", str(other), "colon:theirs")
    before = item(branches)
    done = git(branches, "merge", "--no-edit", "theirs")
    assert done.returncode == 1
    assert "error: contributions/colon/" in done.stderr and "this is a pointer of git-lfs" in done.stderr
    assert "hint: let who made the branch run git forge storage git" in done.stderr
    git_ok(branches, "merge", "--abort")
    assert item(branches) == before

    git_ok(branches, "lfs", "install", "--local", "--skip-repo")
    git_ok(branches, "config", "lfs.url", server.url)
    git_ok(branches, "merge", "--quiet", "--no-edit", "theirs")
    assert set(item(branches)["contributions"]) == {"breast", "colon"}
