"""A revision, the index and the work tree are read alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_models import BASE, SampleModel

from forge.errors import ForgeError
from forge.git import places
from forge.git.places import INDEX, WORK_TREE
from forge.recipe import item as recipe
from forge.recipe import settings
from forge.repo import items

ITEM = "forge-item.json"


@pytest.fixture
def model(tmp_path: Path) -> SampleModel:
    return SampleModel(tmp_path / "model")


@pytest.mark.parametrize(("place", "text"), [(WORK_TREE, "a/b"), (INDEX, ":a/b"), ("main~2", "main~2:a/b")])
def test_described(place: str | None, text: str) -> None:
    assert places.described(place, "a/b") == text


@pytest.mark.parametrize("place", [WORK_TREE, INDEX, "HEAD"])
def test_read(model: SampleModel, place: str | None) -> None:
    assert items.read_item(model.repo, place) == recipe.empty(BASE, "mixture")
    assert items.read_settings_of(model.repo, place) == settings.Settings(BASE)
    assert places.read_file(model.repo, place, "no/such/file") is None
    assert places.read_file(model.repo, place, f"{ITEM}/below") is None
    with pytest.raises(ForgeError, match="more than the limit of 10"):
        places.read_file(model.repo, place, ITEM, 10)


def test_each_place_has_its_own(model: SampleModel) -> None:
    for number, place in ((1, "staged"), (2, "written")):
        model.write("file", str(number).encode())
        if place == "staged":
            model.git("add", "file")
    assert places.read_file(model.repo, WORK_TREE, "file") == b"2"
    assert places.read_file(model.repo, INDEX, "file") == b"1"
    assert places.read_file(model.repo, "HEAD", "file") is None


@pytest.mark.parametrize(("place", "where"), [(WORK_TREE, "the work tree"), (INDEX, "the index"), ("HEAD", "HEAD")])
def test_missing_item(model: SampleModel, place: str | None, where: str) -> None:
    model.git("rm", "-q", ITEM, "forge.toml")
    model.git("commit", "-q", "-m", "Remove both")
    assert items.find_item(model.repo, place) is None
    with pytest.raises(ForgeError, match=f"no forge-item.json in {where}: it is no version of a model") as caught:
        items.read_item(model.repo, place)
    assert "git forge init" in str(caught.value.hint)
    with pytest.raises(ForgeError, match=r"no forge\.toml in .*not a model repository"):
        items.read_settings_of(model.repo, place)


def test_work_tree_files_must_be_plain(model: SampleModel, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (model.top / "link").symlink_to(tmp_path / "secret")
    for path in ("link", ".git"):
        with pytest.raises(ForgeError, match=rf"{path} is not a plain file"):
            places.read_file(model.repo, WORK_TREE, path)


def test_what_the_message_names(model: SampleModel) -> None:
    (model.top / ITEM).write_text("{}")
    model.commit("Damage")
    for place, name in ((WORK_TREE, ITEM), (INDEX, f":{ITEM}"), ("main", f"main:{ITEM}")):
        with pytest.raises(ForgeError, match=f"^{name}: "):
            items.read_item(model.repo, place)


def test_no_commit_yet(tmp_path: Path, model: SampleModel) -> None:
    model.git("checkout", "-q", "--orphan", "fresh")
    with pytest.raises(ForgeError, match="there is no commit yet"):
        places.resolve(model.repo, "HEAD")
    assert places.resolve(model.repo, "main") == model.git("rev-parse", "main")


def test_tag_of_a_commit_and_of_a_blob(model: SampleModel) -> None:
    model.git("tag", "-a", "-m", "v1", "v1")
    model.git("tag", "blob", f"HEAD:{ITEM}")
    assert places.resolve(model.repo, "v1") == model.git("rev-parse", "HEAD")
    with pytest.raises(ForgeError, match="unknown revision: blob"):
        places.resolve(model.repo, "blob")


def test_listing(model: SampleModel) -> None:
    model.write("a/plain", b"1")
    model.write("a/deep/er/file", b"2")
    model.write("ab", b"not below a")
    (model.top / "a/link").symlink_to("plain")
    model.commit("Files")
    listings = [places.list_files(model.repo, place, "a") for place in (WORK_TREE, INDEX, "HEAD")]
    assert listings[0] == listings[1] == listings[2]
    modes = {path: file.mode for path, file in listings[0].items()}
    assert modes == {"a/plain": "100644", "a/deep/er/file": "100644", "a/link": "120000"}
    model.write("a/plain", b"changed")
    model.write("a/new", b"untracked")
    listed = places.list_files(model.repo, WORK_TREE, "a")
    assert listed["a/plain"].blob is None and listed["a/new"].blob is None and listed["a/link"].blob is not None
    assert places.list_files(model.repo, WORK_TREE, "nothing") == {}


def test_what_a_sparse_checkout_keeps_out_of_the_work_tree_is_as_in_the_index(model: SampleModel) -> None:
    for path in ("a/file", "b/file"):
        model.write(path, path.encode())
    model.commit("Files")
    whole = places.list_files(model.repo, WORK_TREE, "b")
    model.git("sparse-checkout", "set", "--cone", "a")
    assert not (model.top / "b").exists()
    listed = places.list_files(model.repo, WORK_TREE, "b")
    assert [(path, file.mode, file.blob) for path, file in listed.items()] == [
        (path, file.mode, file.blob) for path, file in whole.items()
    ]
    assert places.read_file(model.repo, WORK_TREE, "b/file") == b"b/file"
    model.git("config", "sparse.expectFilesOutsideOfPatterns", "true")  # git then looks at none of them
    model.write("b/file", b"changed")
    assert places.list_files(model.repo, WORK_TREE, "b")["b/file"].blob is None
    assert places.read_file(model.repo, WORK_TREE, "b/file") == b"changed"
