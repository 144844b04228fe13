"""Repositories, data and arguments that are not what they should be: one message, and nothing changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from story.conftest import Files
from story.hospitals import (
    ITEM,
    Merged,
    change_settings,
    contribution_files,
    copy_repository,
    forge,
    forge_ok,
    git,
    git_ok,
    write_contribution,
)
from story.snapshots import assert_refused, snapshot

from forge.model.base import BaseModel

LIGHT_TRAINING = ("--epochs", "1", "--rank", "2")


def pictures(folder: Path, classes: Mapping[str, int], seed: int = 0) -> Path:
    """An image folder with so many noise images a class."""
    random = np.random.default_rng(seed)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(random.integers(0, 255, size=(40, 36, 3)).astype(np.uint8))
            image.save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def good_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("data") / "good", {"benign": 4, "malignant": 4})


@pytest.fixture
def alone(merged: Merged, tmp_path: Path) -> Path:
    """A copy of main with breast in it, for one test."""
    return copy_repository(merged("breast"), tmp_path / "model")


# -- data -------------------------------------------------------------------------------------------------


def broken_data(folder: Path, what: str) -> tuple[Path, str]:
    """A data set that cannot be used, and what the message has to say besides its name."""
    data = folder / "data"
    if what == "missing":
        return data, "no such data"
    if what == "a file":
        data.write_text("no images")
        return data, "neither a folder nor an .npz"
    if what == "empty":
        data.mkdir()
        return data, "no sub-folders"
    if what == "an empty class":
        return pictures(data, {"benign": 3, "malignant": 0}) / "malignant", "holds no images"
    if what == "one class":
        pictures(data, {"benign": 3})
        return data, ""
    if what == "too few":
        pictures(data, {"benign": 1, "malignant": 3})
        return data, "'benign' has 1 image(s)"
    if what == "a broken image":
        pictures(data, {"benign": 3, "malignant": 3})
        broken = data / "malignant" / "1.png"
        broken.write_bytes(broken.read_bytes()[:200])
        return broken, "cannot be read as an image"
    if what == "text called .png":
        pictures(data, {"benign": 3, "malignant": 3})
        (data / "benign" / "notes.png").write_text("no image")
        return data / "benign" / "notes.png", "cannot be read as an image"
    archive = folder / "data.npz"
    images = np.zeros((6, 32, 32, 3), np.uint8)
    if what == "an .npz of objects":
        np.savez(archive, train_images=np.array([{}, {}], dtype=object), train_labels=np.zeros(2, np.int64))
    elif what == "an .npz cut short":
        np.savez(archive, train_images=images, train_labels=np.arange(6) % 2)
        archive.write_bytes(archive.read_bytes()[:-300])
    elif what == "an .npz without labels":
        np.savez(archive, train_images=images)
    elif what == "an .npz with NaN labels":
        np.savez(archive, train_images=images, train_labels=np.full(6, np.nan))
    return archive, ""


@pytest.mark.parametrize("verb", ["train", "distill"])
@pytest.mark.parametrize(
    "what",
    ["missing", "a file", "empty", "an empty class", "one class", "too few", "a broken image", "text called .png",
     "an .npz of objects", "an .npz cut short", "an .npz without labels", "an .npz with NaN labels"],
)  # fmt: skip
def test_bad_data(model: Path, tmp_path: Path, what: str, verb: str) -> None:
    named, word = broken_data(tmp_path, what)
    data = next(path for path in (tmp_path / "data", tmp_path / "data.npz") if path.exists() or what == "missing")
    before = snapshot(model)
    method = ("--method", "dm-dsa") if verb == "distill" else ()  # the default method asks for an adapter first
    said = forge(model, verb, "mine", "--data", data, *method)
    assert_refused(said, str(named) if what != "one class" else "", word)
    assert snapshot(model) == before


@pytest.mark.skipif("__import__('os').geteuid() == 0", reason="root may read everything")
def test_data_that_may_not_be_read(model: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", {"benign": 3, "malignant": 3})
    (data / "benign").chmod(0)
    before = snapshot(model)
    assert_refused(forge(model, "train", "mine", "--data", data), str(data / "benign"))
    assert snapshot(model) == before


def test_wrong_labels_for_the_data(model: Path, good_data: Path) -> None:
    before = snapshot(model)
    one = forge(model, "train", "mine", "--data", good_data, "--labels", "only")
    assert_refused(one, str(good_data), "2 classes (benign, malignant)", "1 labels")
    twice = forge(model, "train", "mine", "--data", good_data, "--labels", "same", "--labels", " Same")
    assert_refused(twice, "twice")
    assert snapshot(model) == before


def test_evaluate_with_wrong_labels_or_data(alone: Path, good_data: Path, tmp_path: Path) -> None:
    before = snapshot(alone)
    three = ("--labels", "a", "--labels", "b", "--labels", "c")
    assert_refused(forge(alone, "evaluate", "--data", good_data, *three), str(good_data), "2 classes", "3 labels")
    assert_refused(forge(alone, "evaluate", "--data", good_data), "--label CLASS=TEXT", "benign breast tissues")
    assert_refused(forge(alone, "evaluate", "--data", tmp_path / "none"), "no such data")
    assert_refused(forge(alone, "evaluate", "no-such", "--data", good_data), "unknown revision: no-such")
    assert_refused(forge(alone, "evaluate", "--contribution", "lung", "--data", good_data), "'lung'", "breast")
    assert snapshot(alone) == before


# -- images and revisions ---------------------------------------------------------------------------------


def test_predict_of_something_else(alone: Path, tmp_path: Path, hospitals: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("no image")
    before = snapshot(alone)
    assert_refused(forge(alone, "predict", text), str(text), "cannot be read as an image")
    assert_refused(forge(alone, "predict", tmp_path / "none.png"), str(tmp_path / "none.png"))
    assert_refused(forge(alone, "predict", tmp_path), str(tmp_path))
    assert_refused(forge(alone, "predict", "--contribution", "lung", text), "'lung'", "breast")
    assert snapshot(alone) == before
    assert_refused(forge(hospitals, "predict", text), "which labels?", "--labels")


@pytest.mark.parametrize(
    "arguments",
    [("show", "no-such"), ("log", "no-such"), ("diff", "no-such", "HEAD"), ("verify", "no-such"),
     ("export", "no-such", "new-folder", "--format", "peft"), ("predict", "--rev", "no-such", "x.png")],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_unknown_revisions(alone: Path, arguments: tuple[str, ...]) -> None:
    before = snapshot(alone)
    assert_refused(forge(alone, *arguments), "unknown revision: no-such")
    assert snapshot(alone) == before


def test_export_into_an_existing_folder(alone: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "precious").write_text("mine")
    before = snapshot(alone)
    for form in ("peft", "open_clip"):
        assert_refused(forge(alone, "export", tmp_path / "there", "--format", form), f"{tmp_path / 'there'} exists")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["precious"]
    assert snapshot(alone) == before


def test_export_of_a_model_without_contributions(hospitals: Path, tmp_path: Path) -> None:
    said = forge(hospitals, "export", tmp_path / "new", "--format", "peft")
    assert_refused(said, "no contributions", "open_clip")
    assert not (tmp_path / "new").exists()


# -- repositories -----------------------------------------------------------------------------------------


def test_init_twice(model: Path, base_folder: Path) -> None:
    before = snapshot(model)
    assert_refused(forge(model, "init", "--base", base_folder), "there already", "git forge status")
    assert snapshot(model) == before


@pytest.mark.parametrize("reference", ["no-such", "/no/such/folder", "./no-such", "ViT-B-16=/no/such.safetensors",
                                       "NoSuchViT/openai", "ViT-B-16/no-such-tag", ""])  # fmt: skip
def test_init_on_an_unknown_base(tmp_path: Path, reference: str) -> None:
    git_ok(tmp_path, "init", "--quiet")
    before = sorted(tmp_path.rglob("*"))
    assert_refused(forge(tmp_path, "init", "--base", reference), reference.rpartition("=")[2].partition("/")[0])
    assert sorted(tmp_path.rglob("*")) == before


def test_init_where_the_commit_is_refused(tmp_path: Path, base_folder: Path) -> None:
    git_ok(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / ".gitattributes").write_text("*.md text\n")
    git_ok(tmp_path, "add", ".")
    git_ok(tmp_path, "commit", "--quiet", "-m", "Code")
    hook = tmp_path / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\necho 'no commits on Fridays' >&2\nexit 1\n")
    hook.chmod(0o755)
    before, settings = snapshot(tmp_path, objects=False), git_ok(tmp_path, "config", "--local", "--list")
    assert_refused(forge(tmp_path, "init", "--base", base_folder), "no commits on Fridays", hint=False)
    assert snapshot(tmp_path, objects=False) == before
    assert git_ok(tmp_path, "config", "--local", "--list") == settings
    hook.unlink()
    forge_ok(tmp_path, "init", "--base", base_folder)


@pytest.mark.parametrize("weights", ["pickle", "missing", "short"])
def test_init_on_a_base_that_is_broken(tmp_path: Path, base_folder: Path, weights: str) -> None:
    import pickle

    top, folder = tmp_path / "model", tmp_path / "base"
    top.mkdir()
    git_ok(top, "init", "--quiet")
    shutil.copytree(base_folder, folder)
    file = folder / "open_clip_model.safetensors"
    if weights == "pickle":
        file.write_bytes(pickle.dumps({"a": 1}))
    elif weights == "short":
        file.write_bytes(file.read_bytes()[:-1000])
    else:
        file.unlink()
    before = sorted(top.rglob("*"))
    assert_refused(forge(top, "init", "--base", folder), str(file))
    assert sorted(top.rglob("*")) == before


def test_init_in_a_bare_repository_and_outside_of_any(tmp_path: Path, base_folder: Path) -> None:
    bare = tmp_path / "bare.git"
    git_ok(tmp_path, "init", "--quiet", "--bare", str(bare))
    before = sorted(bare.rglob("*"))
    assert_refused(forge(bare, "init", "--base", base_folder), "bare repository")
    assert sorted(bare.rglob("*")) == before
    outside = tmp_path / "outside"
    outside.mkdir()
    assert_refused(forge(outside, "init", "--base", base_folder), "is not in a git repository", "git init")
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("log",), ("show",), ("diff",), ("verify",), ("commit",), ("push",), ("predict", "x.png"),
     ("export", "new", "--format", "peft"), ("train", "x", "--data", "."), ("distill", "x", "--data", "."),
     ("evaluate", "--data", "."), ("add", "x", "--adapter", ".", "--distilled", "x.safetensors")],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_a_repository_without_forge_toml(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    git_ok(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / "code.py").write_text("print()\n")
    git_ok(tmp_path, "add", ".")
    git_ok(tmp_path, "commit", "--quiet", "-m", "Code")
    before = snapshot(tmp_path)
    assert_refused(forge(tmp_path, *arguments), "git forge init")
    assert snapshot(tmp_path) == before


def test_a_repository_of_another_base(alone: Path, tmp_path: Path, contributions: Files, user_settings: Path) -> None:
    from story.hospitals import make_base

    other = make_base(tmp_path / "other", seed=9)
    git_ok(alone, "config", "--global", "forge.base", str(other))
    write_contribution(alone, "lung", contributions["lung"])
    before = snapshot(alone)
    assert_refused(forge(alone, "commit"), "is not the one this repository was made with", "git config forge.base")
    assert snapshot(alone) == before


def test_a_base_named_by_a_path_from_where_one_stands(
    tmp_path: Path, base_folder: Path, contributions: Files, user_settings: Path
) -> None:
    top, base = tmp_path / "model", tmp_path / "base"
    (top / "deep").mkdir(parents=True)
    git_ok(top, "init", "--quiet", "--initial-branch=main")
    shutil.copytree(base_folder, top / "base")
    assert_refused(forge(top / "deep", "init", "--base", "../base"), "lies in this repository", "keep the base outside")
    assert not (top / "forge.toml").exists() and git(top, "config", "forge.base").returncode == 1
    shutil.move(top / "base", base)
    said = forge_ok(top / "deep", "init", "--base", "../../base")
    assert f"This clone finds the base at {base}; " in said.out
    assert git_ok(top, "config", "--local", "forge.base") == str(base)
    write_contribution(top, "breast", contributions["breast"])
    forge_ok(top / "deep", "commit")
    forge_ok(top, "verify")
    # What others see names no path of this machine.
    assert 'reference = "local:base"' in (top / "forge.toml").read_text()
    assert str(tmp_path) not in git_ok(top, "log", "--format=%B") + (top / "forge-item.json").read_text()
    assert (
        git(top, "grep", "--quiet", "--fixed-strings", str(tmp_path), "--", "forge*", ".gitattributes").returncode == 1
    )


@pytest.mark.parametrize("named", ["base", "the folder in full", "../base", "ViT-B-16/openai", "hf-hub:someone/clip"])
def test_a_base_that_a_branch_names_is_not_used(
    alone: Path, tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, named: str, user_settings: Path
) -> None:
    """Neither a folder of the branch, nor any other on this machine, nor one that would be downloaded."""
    import open_clip

    monkeypatch.setattr(open_clip, "download_pretrained", lambda *args: pytest.fail("a download"))
    place = str(base_folder) if named == "the folder in full" else named
    shutil.copytree(base_folder, alone / "base")
    shutil.copytree(base_folder, tmp_path / "base", dirs_exist_ok=True)
    reference = next(line for line in (alone / "forge.toml").read_text().splitlines() if line.startswith("reference"))
    change_settings(alone, reference, f'reference = "{place}"')
    git_ok(alone, "add", ".")
    git_ok(alone, "commit", "--quiet", "-m", "Our own base")
    pictures(tmp_path / "data", {"calm": 3, "sick": 3})
    for verb in (("train", "x", "--data", str(tmp_path / "data"), *LIGHT_TRAINING),):
        assert_refused(forge(alone, *verb), "which this clone has not allowed", "git config forge.base")
    item = json.loads((alone / ITEM).read_text())
    assert item["base"]["reference"] == "local:tiny"
    said = forge(alone, "verify")
    assert said.code == 1 and "which this clone has not allowed" in said.out, said
    git_ok(alone, "config", "forge.base", str(base_folder))
    forge_ok(alone, "verify")
    git_ok(alone, "config", "forge.base", "base")
    said = forge(alone, "verify")
    assert said.code == 1 and "lies in the work tree" in said.out, said


def test_a_base_that_is_not_on_this_machine(
    alone: Path, tmp_path: Path, base_folder: Path, user_settings: Path
) -> None:
    """A clone elsewhere: the folder in forge.toml does not exist there, and the hint says how to name another."""
    git_ok(alone, "config", "forge.base", str(tmp_path / "gone"))
    picture = pictures(tmp_path / "data", {"benign": 1}) / "benign" / "0.png"
    before = snapshot(alone)
    assert_refused(forge(alone, "predict", picture), str(tmp_path / "gone"), "git config forge.base")
    assert snapshot(alone) == before
    git_ok(alone, "config", "forge.base", str(base_folder))
    forge_ok(alone, "verify")


# -- commits ----------------------------------------------------------------------------------------------


def test_a_forge_item_edited_by_hand(alone: Path, contributions: Files) -> None:
    text = (alone / ITEM).read_text()
    assert '"coefficient": 1.0' in text
    (alone / ITEM).write_text(text.replace('"coefficient": 1.0', '"coefficient": 0.9'))
    git_ok(alone, "commit", "--quiet", "-am", "A better coefficient")
    assert_refused(forge(alone, "show"), ITEM, "edited by hand")
    write_contribution(alone, "lung", contributions["lung"])
    before = snapshot(alone)
    assert_refused(forge(alone, "commit"), ITEM, "edited by hand")
    said = forge(alone, "verify")
    assert said.code == 1 and "edited by hand" in said.out and "git forge refold" in said.err
    git_ok(alone, "remote", "add", "origin", str(alone.parent / "origin"))
    shutil.rmtree(alone / "contributions" / "lung")
    assert_refused(forge(alone, "push"), "does not verify", "edited by hand")
    write_contribution(alone, "lung", contributions["lung"])
    assert snapshot(alone) == before


def test_nothing_to_commit(alone: Path) -> None:
    before = snapshot(alone)
    assert_refused(forge(alone, "commit"), "no contribution changed since HEAD")
    assert snapshot(alone) == before


@pytest.mark.parametrize("verb", ["merge", "cherry-pick", "revert"])
def test_a_commit_while_something_is_unfinished(model: Path, base: BaseModel, verb: str) -> None:
    git_ok(model, "switch", "--quiet", "-c", "other")
    write_contribution(model, "lung", contribution_files(base, "lung", rank=8, seed=77))
    forge_ok(model, "commit")
    if verb == "revert":
        git_ok(model, "switch", "--quiet", "main")
        git_ok(model, "merge", "--quiet", "other")
        write_contribution(model, "lung", contribution_files(base, "lung", rank=8, seed=78))
        forge_ok(model, "commit")
        assert git(model, "revert", "HEAD~1").returncode != 0
    else:
        assert git(model, verb, "lung").returncode != 0
    before = snapshot(model)
    assert_refused(forge(model, "commit"), f"a {verb} is in progress", f"git {verb} --abort")
    assert snapshot(model) == before
    git_ok(model, verb, "--abort")
    assert git_ok(model, "status", "--porcelain") == ""


@pytest.mark.parametrize("hook", ["pre-commit", "commit-msg"])
def test_a_hook_that_refuses_the_commit(alone: Path, contributions: Files, hook: str) -> None:
    script = alone / ".git" / "hooks" / hook
    script.write_text("#!/bin/sh\necho 'no commits on Fridays' >&2\nexit 1\n")
    script.chmod(0o755)
    write_contribution(alone, "lung", contributions["lung"])
    (alone / "staged.txt").write_text("staged\n")
    git_ok(alone, "add", "staged.txt")
    before = snapshot(alone, objects=False)
    assert_refused(forge(alone, "commit"), "git did not commit: no commits on Fridays", "as it was")
    assert snapshot(alone, objects=False) == before
    script.unlink()
    forge_ok(alone, "commit")
    assert git_ok(alone, "status", "--porcelain") == "A  staged.txt"  # what is staged stays staged


def test_a_dirty_tree_where_it_matters(model: Path) -> None:
    """git itself refuses to merge over a forge item with changes; nothing is lost."""
    (model / ITEM).write_text((model / ITEM).read_text() + "\n")
    before = snapshot(model, objects=False)
    for how in ("--no-ff", "--ff"):
        done = git(model, "merge", "--no-edit", how, "lung")
        assert done.returncode != 0 and ITEM in done.stderr
        assert snapshot(model, objects=False) == before  # git has made trees of its own


def test_a_broken_forge_toml(alone: Path) -> None:
    change_settings(alone, "evaluations = 4", "evaluations = 'many'")
    before = snapshot(alone)
    assert_refused(forge(alone, "status"), "forge.toml", "search.evaluations")
    assert_refused(forge(alone, "commit"), "forge.toml", "search.evaluations")
    assert snapshot(alone) == before
