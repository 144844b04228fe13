"""git forge storage: there and back, and everything as it was where it cannot be done."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sample_models import SampleModel, adapter
from storage.conftest import CloneOf
from storage.lfs_models import ITEM, PAYLOADS, lose, oid_of, state_of
from story.hospitals import forge, forge_ok, git, git_ok

from forge.clone import setup as clone_setup
from forge.git.running import find_repository
from forge.recipe.item_text import from_json, to_json


def without_ids(top: Path, rev: str = "HEAD") -> str:
    """A forge item without what says where its files are: coefficients, search, scores and everything else."""
    text = json.loads(git_ok(top, "show", f"{rev}:{ITEM}"))
    del text["digest"]
    for entry in text["contributions"].values():
        for part in ("adapter", "distilled"):
            del entry[part]
    return json.dumps(text)


def test_there_and_back(model: Path) -> None:
    clone_setup.install(find_repository(model))
    assert forge_ok(model, "storage").out == "git\n"
    tree = git_ok(model, "rev-parse", "HEAD^{tree}")
    contents = {path: (model / path).read_bytes() for path in PAYLOADS}

    said = forge_ok(model, "storage", "lfs")
    assert (said.out, said.err) == ("lfs\n", "4 files moved\n")
    assert git_ok(model, "status", "--porcelain") == ""
    for path, content in contents.items():
        assert (model / path).read_bytes() == content
        assert git_ok(model, "show", f"HEAD:{path}").splitlines() == [
            "version https://git-lfs.github.com/spec/v1",
            f"oid sha256:{hashlib.sha256(content).hexdigest()}",
            f"size {len(content)}",
        ]
    assert without_ids(model) == without_ids(model, "HEAD~1")
    assert json.loads((model / ITEM).read_text())["contributions"]["breast"]["adapter"] == git_ok(
        model, "rev-parse", f"HEAD:{PAYLOADS[0]}"
    )
    assert git_ok(model, "diff", "--name-only", "HEAD~1", "HEAD").splitlines() == [".gitattributes", *PAYLOADS, ITEM]
    assert git_ok(model, "log", "-1", "--format=%s%n%b").startswith(
        "Keep payloads in git-lfs\nThe model stays what it is.\n\nForge-Strategy: mixture\n"
    )
    assert forge_ok(model, "verify", "--no-scores").out.startswith("ok: ")
    assert forge_ok(model, "verify", "--no-scores", "HEAD~1").out.startswith("ok: ")  # history is as it was
    assert [line for line in forge_ok(model, "status", "--porcelain").out.splitlines() if line[0] != "#"] == []

    assert forge_ok(model, "storage", "lfs").err == "nothing to move\n"
    assert git_ok(model, "rev-list", "--count", "HEAD") == "5"
    assert forge_ok(model, "storage", "git").err == "4 files moved\n"
    assert git_ok(model, "rev-parse", "HEAD^{tree}") == tree
    assert git_ok(model, "status", "--porcelain") == ""
    assert git_ok(model, "log", "-1", "--format=%s") == "Keep payloads in git itself"
    assert git(model, "fsck", "--full", "--strict").returncode == 0
    assert git(model, "lfs", "fsck").returncode == 0


def test_a_mixed_history_can_be_checked_out_and_read(lfs_model: Path) -> None:
    content = (lfs_model / PAYLOADS[0]).read_bytes()
    for rev in ("HEAD~1", "main", "HEAD~2", "main"):
        git_ok(lfs_model, "checkout", "--quiet", rev)
        assert (lfs_model / PAYLOADS[0]).read_bytes() == content
        assert git_ok(lfs_model, "status", "--porcelain") == ""
        assert forge_ok(lfs_model, "verify", "--no-scores").out.startswith("ok: ")
    clone_setup.install(find_repository(lfs_model))
    shown = git_ok(lfs_model, "diff", "HEAD~2", "HEAD", "--", PAYLOADS[2])
    assert "+trunk.layer.0.q_proj" in shown  # what git-lfs holds is shown as readable as what git holds
    assert git_ok(lfs_model, "diff", "HEAD~1", "HEAD", "--", PAYLOADS[2]).count("\n") <= 4  # moved, and the same text


def test_an_empty_model(tmp_path: Path) -> None:
    sample = SampleModel(tmp_path / "empty")
    said = forge_ok(sample.top, "storage", "lfs")
    assert (said.out, said.err.splitlines()[-1]) == ("lfs\n", "nothing to move")
    assert git_ok(sample.top, "status", "--porcelain") == ""
    sample.write_contribution("breast")
    git_ok(sample.top, "add", ".")
    assert git_ok(sample.top, "show", f":{PAYLOADS[0]}").startswith("version https://git-lfs")


def test_other_lines_of_gitattributes_stay(model: Path) -> None:
    attributes = model / ".gitattributes"
    lines = attributes.read_bytes().splitlines(keepends=True)
    text = (
        b"# ours\r\n*.png  binary\n" + lines[2].replace(b" ", b"  ", 1) + b"".join(lines[:2] + lines[3:]) + b"*.x text"
    )
    attributes.write_bytes(text)
    git_ok(model, "commit", "--quiet", "-am", "Lines of a person")
    forge_ok(model, "storage", "lfs")
    assert attributes.read_bytes() == text.replace(lines[2].replace(b" ", b"  ", 1), lines[2]).replace(
        b"filter=forge", b"filter=lfs"
    )
    forge_ok(model, "storage", "git")
    assert attributes.read_bytes() == text.replace(lines[2].replace(b" ", b"  ", 1), lines[2])


def test_a_file_that_is_not_in_the_canonical_form(model: Path) -> None:
    """What a person saves by other means is stored in one form by git, and moves in that form."""
    clone_setup.install(find_repository(model))
    path, tensors = model / PAYLOADS[1], load_file(model / PAYLOADS[1])
    tensors["images"] += 1
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata)
    saved = path.read_bytes()  # in an order of keys that differs from time to time
    start = 8 + int.from_bytes(saved[:8], "little")
    header = json.dumps(json.loads(saved[8:start]), indent=1).encode()
    raw = len(header).to_bytes(8, "little") + header + saved[start:]
    path.write_bytes(raw)
    sample = SampleModel.__new__(SampleModel)
    sample.top = model
    git_ok(model, "add", PAYLOADS[1])
    item = from_json((model / ITEM).read_bytes())
    (model / ITEM).write_text(to_json(sample.item({entry.name: entry.coefficient for entry in item.contributions})))  # type: ignore[dict-item]
    git_ok(model, "commit", "--quiet", "-am", "Saved by hand")
    tree = git_ok(model, "rev-parse", "HEAD^{tree}")
    stored = git_ok(model, "rev-parse", f"HEAD:{PAYLOADS[1]}")
    assert path.read_bytes() == raw
    assert stored != git_ok(model, "hash-object", "--no-filters", PAYLOADS[1])
    forge_ok(model, "storage", "lfs")
    assert git_ok(model, "status", "--porcelain") == ""
    assert all(np.array_equal(value, tensors[name]) for name, value in load_file(path).items())
    forge_ok(model, "storage", "git")
    assert git_ok(model, "rev-parse", "HEAD^{tree}") == tree


def test_unstaged_changes_of_other_files_stay(model: Path) -> None:
    (model / "notes.txt").write_text("one")
    git_ok(model, "add", "notes.txt")
    git_ok(model, "commit", "--quiet", "-m", "Notes")
    (model / "notes.txt").write_text("two")
    (model / "new.txt").write_text("new")
    forge_ok(model, "storage", "lfs")
    assert git_ok(model, "status", "--porcelain") == "M notes.txt\n?? new.txt"


def damage(top: Path, what: str) -> None:
    if what == "staged":
        (top / "notes.txt").write_text("one")
        git_ok(top, "add", "notes.txt")
    elif what == "payload":
        (top / PAYLOADS[0]).write_bytes(adapter(7))
    elif what == "removed":
        (top / PAYLOADS[0]).unlink()
    elif what == "item":
        (top / ITEM).write_text("{}")
    elif what == "attributes":
        (top / ".gitattributes").write_text("")
    elif what == "overruled":
        (top / ".git/info/attributes").write_text("*.safetensors filter=other\n")
    elif what == "hook":
        hook = top / ".git/hooks/pre-commit"
        hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
        hook.chmod(0o755)
    elif what == "merging":
        git_ok(top, "switch", "--quiet", "-c", "side", "HEAD~1")
        git_ok(top, "commit", "--quiet", "--allow-empty", "-m", "Side")
        git_ok(top, "merge", "--quiet", "--no-commit", "--no-ff", "main")
    else:
        assert what == "disagreeing"
        git_ok(top, "rm", "-r", "--quiet", "contributions/lung")
        git_ok(top, "commit", "--quiet", "-m", "Forget the forge item")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("staged", "there are staged changes"),
        ("payload", f"{PAYLOADS[0]} has changes that are not committed"),
        ("removed", f"{PAYLOADS[0]} has changes that are not committed"),
        ("item", f"{ITEM} has changes that are not committed"),
        ("attributes", ".gitattributes has changes that are not committed"),
        ("overruled", "the filter that git finds for it is other"),
        ("hook", "git did not commit: not today"),
        ("merging", "a merge is in progress"),
        ("disagreeing", "HEAD does not verify: the forge item names lung"),
    ],
)
@pytest.mark.parametrize("storage", ["lfs", "git"])
def test_nothing_changes_where_it_cannot_be_done(
    in_git: Path, in_lfs: Path, tmp_path: Path, what: str, said: str, storage: str
) -> None:
    top = Path(shutil.copytree(in_git if storage == "lfs" else in_lfs, tmp_path / "model", symlinks=True))
    damage(top, what)
    (top / ".git/lfs").mkdir(exist_ok=True)  # git-lfs makes it when it is first asked
    before = state_of(top)
    found = forge(top, "storage", storage)
    assert found.code == 128
    assert said in found.err
    assert state_of(top) == before


def test_an_object_that_is_nowhere(lfs_model: Path) -> None:
    oid = oid_of(lfs_model, PAYLOADS[3])
    lose(lfs_model, oid)
    assert forge_ok(lfs_model, "storage").out == f"lfs\n  {PAYLOADS[3]}: not here (run: git lfs pull)\n"
    before = state_of(lfs_model)
    found = forge(lfs_model, "storage", "git")
    assert found.code == 128
    assert f"{PAYLOADS[3]}: the content is in git-lfs, and object {oid[:10]} cannot be had" in found.err
    assert "hint: get it with: git lfs pull" in found.err
    assert state_of(lfs_model) == before
    said = forge(lfs_model, "verify", "--no-scores")
    assert (said.code, said.out.count(f"{PAYLOADS[3]}: the content is in git-lfs")) == (1, 1)


def test_pointers_in_the_work_tree_become_files(lfs_model: Path, clone: CloneOf) -> None:
    git_ok(lfs_model, "push", "--quiet", "origin", "main")
    twin = clone("twin", lfs=False)
    assert (twin / PAYLOADS[0]).read_text().startswith("version https://git-lfs")
    forge_ok(twin, "storage", "git")
    assert git_ok(twin, "status", "--porcelain") == ""
    assert git_ok(twin, "rev-parse", "HEAD^{tree}") == git_ok(lfs_model, "rev-parse", "HEAD~1^{tree}")
    assert (twin / PAYLOADS[0]).read_bytes() == (lfs_model / PAYLOADS[0]).read_bytes()
