"""Objects that are cut short, changed or gone: every command says which, none makes something else of the model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from faults.files import write_contribution
from story.hospitals import ITEM, forge, forge_ok, git, git_ok

ADAPTER = "contributions/breast/adapter_model.safetensors"
DISTILLED = "contributions/breast/distilled.safetensors"
CARD = "contributions/breast/card.toml"
# Commands that need the content of the object, and so must fail: all others may do without it.
NEED = {
    ADAPTER: {"verify", "merge"},
    DISTILLED: {"verify", "merge"},
    CARD: {"verify"},
    ITEM: {"verify", "show", "merge", "commit"},
}


def loose(top: Path, path: str) -> Path:
    blob = git_ok(top, "rev-parse", f"HEAD:{path}")
    return top / ".git" / "objects" / blob[:2] / blob[2:]


def damage(file: Path, how: str) -> None:
    if how == "gone":
        file.unlink()
        return
    content = file.read_bytes()
    file.chmod(0o644)
    if how == "cut short":
        file.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        file.write_bytes(b"")
    else:
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :])


@pytest.mark.parametrize(
    ("path", "how"),
    [(ADAPTER, "cut short"), (ADAPTER, "gone"), (DISTILLED, "changed"), (CARD, "empty"), (ITEM, "cut short"),
     (ITEM, "gone")],
)  # fmt: skip
def test_a_damaged_object(model: Path, path: str, how: str) -> None:
    object_file = loose(model, path)
    whole = object_file.read_bytes()
    tip = git_ok(model, "rev-parse", "HEAD")
    damage(object_file, how)
    assert git(model, "fsck").returncode != 0
    named = (object_file.parent.name + object_file.name, path)
    for command in (("verify", "--no-scores"), ("show",), ("log",), ("status",), ("commit",)):
        said = forge(model, *command)
        assert "Traceback" not in said.err and "this is a bug" not in said.err, (command, said.err)
        if command[0] in NEED[path]:
            assert said.code in (1, 128), (command, said)
            assert any(name in said.err + said.out for name in named), (command, said)
    done = git(model, "merge", "--no-edit", "colon")
    assert "Traceback" not in done.stderr and "this is a bug" not in done.stderr
    if "merge" in NEED[path]:
        assert done.returncode != 0, done.stdout
        assert git_ok(model, "rev-parse", "HEAD") == tip
    # With the object back, from a colleague or a backup, all is well.
    object_file.unlink(missing_ok=True)
    object_file.write_bytes(whole)
    git_ok(model, "reset", "--quiet", "--hard", tip)
    forge_ok(model, "verify", "--no-scores")


def test_a_pack_that_is_cut_short(model: Path) -> None:
    git_ok(model, "gc", "--quiet", "--prune=now")
    [pack] = (model / ".git" / "objects" / "pack").glob("*.pack")
    pack.chmod(0o644)
    os.truncate(pack, pack.stat().st_size // 2)
    write_contribution(model, "lung")
    for command in (
        ("verify", "--no-scores"),
        ("show",),
        ("log",),
        ("status",),
        ("diff", "HEAD", "colon"),
        ("commit",),
        ("push",),
    ):
        said = forge(model, *command)
        assert said.code != 0 or command == ("status",), command
        assert "Traceback" not in said.err and "this is a bug" not in said.err, (command, said.err)
        assert not said.err or "error: " in said.err, (command, said.err)


def test_a_push_from_a_damaged_clone_changes_nothing(model: Path, tmp_path: Path) -> None:
    origin = tmp_path / "origin.git"
    git_ok(tmp_path, "clone", "--quiet", "--bare", str(model), str(origin))
    git_ok(origin, "update-ref", "-d", "refs/heads/colon")
    git_ok(origin, "gc", "--quiet", "--prune=now")
    git_ok(model, "remote", "add", "origin", str(origin))
    blob = git_ok(model, "rev-parse", "colon:contributions/colon/adapter_model.safetensors")
    damage(model / ".git" / "objects" / blob[:2] / blob[2:], "cut short")
    refs = git_ok(origin, "for-each-ref")
    said = forge(model, "push", "origin", "colon")
    assert said.code != 0 and "Traceback" not in said.err
    assert subprocess.run(["git", "push", "origin", "colon"], cwd=model, capture_output=True).returncode != 0
    assert git_ok(origin, "for-each-ref") == refs
    assert git(origin, "fsck", "--strict").returncode == 0
