"""A server that takes no push that does not verify: real pushes over git's own transport to a bare repository."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sample_models
from sample_models import SampleModel

from forge import cli
from forge.clone.hooks import is_ours
from forge.git import lfs
from forge.git.running import find_repository

if TYPE_CHECKING:
    from tests.conftest import RunGit

Push = Callable[..., str]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path) -> Path:
    """A model with one contribution, `model`, and a bare `server.git` that has it and checks pushes; to be copied."""
    folder = tmp_path_factory.mktemp("served")
    model = SampleModel(folder / "model")
    model.add_contribution("ada", {"ada": 1.0})
    model.git("init", "--quiet", "--bare", "--initial-branch=main", str(folder / "server.git"))
    model.git("remote", "add", "origin", "../server.git")
    model.git("push", "--quiet", "origin", "main")
    with contextlib.chdir(folder / "server.git"):
        assert cli.run(["install", "--server"]) == 0
    return folder


@pytest.fixture
def server(served: Path, tmp_path: Path) -> Path:
    return SampleModel.copy(_as_model(served / "server.git"), tmp_path / "server.git").top


@pytest.fixture
def model(served: Path, tmp_path: Path, server: Path) -> SampleModel:
    return _as_model(served / "model").copy(tmp_path / "model")


@pytest.fixture
def push(model: SampleModel, server: Path) -> Push:
    """push(*refs, refused=""): what the server said; it must take the push, or refuse it with these words."""

    def run(*refs: str, refused: str = "") -> str:
        before = model.git("ls-remote", "origin")
        done = subprocess.run(
            ["git", "push", "--quiet", "origin", *(refs or ("HEAD:main",))],
            cwd=model.top, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = "\n".join(line.removeprefix("remote:").strip() for line in done.stderr.splitlines())
        assert "Traceback" not in said and "bug in git forge" not in said
        assert (done.returncode != 0) == bool(refused), said
        if refused:
            assert "error: the push was refused:" in said and refused in said, said
            assert model.git("ls-remote", "origin") == before
            assert not list((server / "objects").glob("*incoming*"))  # the quarantine is gone, and what was in it
        return said

    return run


def _as_model(top: Path) -> SampleModel:
    model = SampleModel.__new__(SampleModel)
    model.top, model.hour = top, 2
    return model


def settings(repository: Path, *args: str) -> str:
    """`git config ARGS` there; nothing where it fails."""
    command = ["git", "-C", str(repository), "config", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def path_in(name: str, file: str) -> str:
    return f"contributions/{name}/{file}"


def test_a_good_push_is_taken_and_every_kind_of_damage_refused(model: SampleModel, push: Push, server: Path) -> None:
    good = model.add_contribution("bob", {"ada": 0.5, "bob": 0.5})
    assert push() == ""
    assert model.git("rev-parse", "origin/main") == good

    item = model.top / "forge-item.json"
    item.write_text(item.read_text().replace("0.5,", "0.7,", 1))
    model.commit("Edit by hand")
    push(refused="refs/heads/main: ")
    push("HEAD:refs/heads/new", refused="edited by hand")
    push("HEAD:refs/heads/new", "main~1:refs/heads/old", refused="edited by hand")  # all or nothing

    model.git("reset", "--quiet", "--hard", good)
    model.write(path_in("bob", "adapter_model.safetensors"), sample_models.adapter(version=3))
    model.commit("Another adapter than the forge item names")
    push(refused="contributions/bob/adapter_model.safetensors is ")

    model.write_item(model.item({"ada": 0.5, "bob": 0.5}))
    assert model.commit("Name it")
    assert push() == ""  # the commit before it is not whole; the tip is

    model.write(path_in("bob", "adapter_model.safetensors"), b"\x80\x04\x95 a pickle")
    model.write_item(model.item({"ada": 0.5, "bob": 0.5}))
    model.commit("A payload that is none")
    push(refused="contributions/bob/adapter_model.safetensors")


def test_every_commit_is_checked_where_the_server_says_so(model: SampleModel, push: Push, server: Path) -> None:
    model.write(path_in("ada", "adapter_model.safetensors"), sample_models.adapter(version=3))
    half = model.commit("Not folded")
    model.write_item(model.item({"ada": 1.0}))
    model.commit("Folded")
    git = ("git", "-C", str(server), "config")
    subprocess.run([*git, "forge.checkCommits", "all"], check=True)
    push(refused=f"refs/heads/main ({half[:10]}): contributions/ada/adapter_model.safetensors is ")
    subprocess.run([*git, "forge.checkCommits", "some"], check=True)
    assert subprocess.run(["git", "push", "-q", "origin", "main"], cwd=model.top, check=False).returncode != 0
    subprocess.run([*git, "forge.checkCommits", "tips"], check=True)
    push()


def test_what_came_in_behind_a_good_tip_is_checked_when_a_ref_is_set_to_it(
    model: SampleModel, push: Push, server: Path
) -> None:
    model.write(path_in("ada", "adapter_model.safetensors"), sample_models.adapter(version=3))
    bad = model.commit("Not folded")
    model.write_item(model.item({"ada": 1.0}))
    good = model.commit("Folded")
    push("HEAD:refs/heads/branch")  # so the server has both
    wrong = "contributions/ada/adapter_model.safetensors is "
    push(f"{bad}:main", refused=f"refs/heads/main: {wrong}")
    push(f"{bad}:refs/heads/new", refused=f"refs/heads/new: {wrong}")
    push(f"{bad}:refs/tags/v1", refused=f"refs/tags/v1: {wrong}")
    model.git("tag", "-a", "-m", "two", "v2", bad)
    push("v2", refused=f"refs/tags/v2: {wrong}")
    settings(server, "receive.denyNonFastForwards", "false")
    push(f"+{bad}:refs/heads/branch", refused=f"refs/heads/branch: {wrong}")  # back to what was there before
    settings(server, "forge.checkCommits", "all")
    push(f"{bad}:main", refused=f"refs/heads/main: {wrong}")
    push(f"{good}:main")  # nothing of it is new, and the commit that main is set to is whole


def test_what_is_deleted_tagged_forced_or_no_model(model: SampleModel, push: Push, server: Path) -> None:
    for key in ("receive.denyDeletes", "receive.denyNonFastForwards"):
        settings(server, key, "false")
    first = model.git("rev-parse", "HEAD~1")
    model.git("tag", "-a", "-m", "one", "v1")
    blob = model.git("hash-object", "-w", "forge.toml")
    model.git("tag", "-a", "-m", "a blob", "blob", blob)
    model.git("checkout", "--quiet", "--orphan", "pages")
    model.git("rm", "-rfq", ".")
    model.write("index.html", b"hello")
    model.commit("No model")
    push("v1", "blob", "pages")
    push(":pages", ":refs/tags/blob")
    push(f"+{first}:main")

    model.git("checkout", "--quiet", "main")
    (model.top / "forge-item.json").unlink()
    model.commit("Take the model away")
    push(refused="there is no forge-item.json")
    model.git("tag", "-a", "-m", "two", "v2")
    push("v2", refused="refs/tags/v2: ")
    (model.top / "forge.toml").unlink()
    model.commit("Take its settings away as well")
    push(refused="refs/heads/main: there was a model")


def test_limits_of_the_server_hold_whatever_forge_toml_says(model: SampleModel, push: Push, server: Path) -> None:
    def limit(key: str, value: str = "") -> None:
        change = [key, value] if value else ["--unset", key]
        subprocess.run(["git", "-C", str(server), "config", *change], check=True)

    toml = model.top / "forge.toml"
    toml.write_text(toml.read_text().replace("distilled_images = 500", "distilled_images = 999999"))
    assert "999999" in toml.read_text()
    model.add_contribution("bob", {"ada": 0.5, "bob": 0.5})
    for key, value, words in (
        ("forge.maxContributions", "1", "2 contributions, more than 1"),
        ("forge.maxFiles", "7", "8 files below contributions/, more than 7"),
        ("forge.maxImages", "3", "4 images, but 1 to 3 are allowed"),
        ("forge.maxFileSize", "400", "contributions/bob/distilled.safetensors has 648 bytes"),
        ("forge.maxFileSize", "0k", "more than the 0 that this server takes"),
    ):
        limit(key, value)
        push(refused=words)
        limit(key)
    limit("forge.maxFileSize", "many")
    done = subprocess.run(["git", "push", "origin", "main"], cwd=model.top, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "the server's setting forge.maxFileSize is wrong" in done.stderr
    limit("forge.maxFileSize", "1m")
    push()


def test_files_in_git_lfs_are_checked_where_they_are_here(model: SampleModel, push: Push, server: Path) -> None:
    content = sample_models.adapter(version=9)

    def pointer(payload: bytes) -> bytes:
        oid = hashlib.sha256(payload).hexdigest()
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(payload)}\n".encode()

    def keep(payload: bytes, stored: bytes) -> None:
        oid = hashlib.sha256(payload).hexdigest()
        file = server / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(stored)

    def point_to(payload: bytes) -> None:
        assert lfs.parse_pointer(pointer(payload))
        model.write(path_in("ada", "adapter_model.safetensors"), pointer(payload))
        model.write_item(model.item({"ada": 1.0}))
        model.commit("In git-lfs")

    point_to(content)
    assert "files in git-lfs that are not on this machine: 1" in push("HEAD:elsewhere")
    keep(content, content)
    assert push("HEAD:here") == "", "the object is beside the repository, so it is checked and nothing is said"
    keep(content, content[:-1] + b"x")
    push(refused="is another file")  # taken already, and looked at again where another ref is set to it
    point_to(b"\x80 no safetensors")
    keep(b"\x80 no safetensors", b"\x80 no safetensors")
    push(refused="contributions/ada/adapter_model.safetensors")
    subprocess.run(["git", "-C", str(server), "config", "forge.maxFileSize", "800"], check=True)
    point_to(b"x" * 801)
    push(refused="contributions/ada/adapter_model.safetensors has 801 bytes")


def test_a_hook_that_is_there_is_asked_first_and_no_program_means_no_push(
    model: SampleModel, server: Path, tmp_path: Path, run_git: RunGit
) -> None:
    hook = server / "hooks" / "pre-receive"
    own = f"#!/bin/sh\ncat >'{tmp_path}/seen'\n[ ! -e '{tmp_path}/refuse' ]\n"
    with contextlib.chdir(server):
        assert cli.run(["uninstall"]) == 0
        assert not hook.exists()
        hook.write_text(own)
        hook.chmod(0o755)
        for _ in range(2):
            assert cli.run(["install", "--server"]) == 0
    assert is_ours(hook)

    tip = model.commit("Nothing new")
    (tmp_path / "refuse").touch()
    with pytest.raises(AssertionError):
        run_git(model.top, "push", "-q", "origin", "main")
    (tmp_path / "refuse").unlink()
    run_git(model.top, "push", "-q", "origin", "main")
    assert (tmp_path / "seen").read_text().endswith(f" {tip} refs/heads/main\n")

    lines = hook.read_text().splitlines(keepends=True)
    hook.write_text("".join("program=/gone/git-forge\n" if line.startswith("program=") else line for line in lines))
    model.commit("Nothing new either")
    with pytest.raises(AssertionError, match="git forge is gone from /gone/git-forge on the server"):
        run_git(model.top, "push", "-q", "origin", "main")

    with contextlib.chdir(server):
        assert cli.run(["uninstall"]) == 0
    assert hook.read_text() == own
    assert not (server / "hooks" / "pre-receive.before-forge").exists()
    assert not os.path.lexists(find_repository(server).common_dir / "forge")


def test_replacement_refs_and_a_work_tree_do_not_fool_it(model: SampleModel, push: Push, server: Path) -> None:
    """The server shows a good version in place of a bad one; what is stored is what counts."""
    good = model.git("rev-parse", "HEAD")
    (model.top / "forge-item.json").write_text("{}\n")
    bad = model.commit("Bad")
    for object_id in (good, bad):
        assert model.git("cat-file", "-t", object_id) == "commit"
    push(f"{good}:refs/replace/{bad}")
    push(refused="refs/heads/main: ")
    # A repository with a work tree: git starts the hook in its .git folder.
    subprocess.run(["git", "-C", str(server), "config", "core.bare", "false"], check=True)
    server.rename(server.parent / "moved")
    (server.parent / "server.git").mkdir()
    (server.parent / "moved").rename(server / ".git")
    subprocess.run(["git", "-C", str(server), "config", "receive.denyCurrentBranch", "ignore"], check=True)
    done = subprocess.run(["git", "push", "origin", "main"], cwd=model.top, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "the push was refused:" in done.stderr
    model.git("reset", "--quiet", "--hard", good)
    model.add_contribution("bob", {"ada": 0.5, "bob": 0.5})
    done = subprocess.run(["git", "push", "origin", "main"], cwd=model.top, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


RULES = ("receive.fsckObjects", "receive.denyNonFastForwards", "receive.denyDeletes")


def test_what_git_itself_takes_is_set_and_said_and_taken_out_again(
    tmp_path: Path, run_git: RunGit, capsys: pytest.CaptureFixture[str], user_settings: Path
) -> None:
    run_git(tmp_path, "init", "--quiet", "--bare", "bare.git")
    bare = tmp_path / "bare.git"
    head = (bare / "HEAD").read_text().strip().removeprefix("ref: refs/heads/")
    settings(bare, RULES[1], "false")
    before = (bare / "config").read_bytes()
    with contextlib.chdir(bare):
        for _ in range(2):
            assert cli.run(["install", "--server"]) == 0
            assert capsys.readouterr().out.splitlines()[1:] == [
                "receive.fsckObjects is true: damaged objects are refused.",
                "receive.denyNonFastForwards was set before and stays: false",
                "receive.denyDeletes is true: no branch or tag is deleted.",
                "receive.unpackLimit is 1: a push is kept as it came, not unpacked and packed again for every clone.",
                f"Protected, where the model asks for rights: {head} (git config forge.protected).",
            ]
        assert [settings(bare, "--local", key) for key in RULES] == ["true", "false", "true"]
        settings(bare, RULES[2], "false")  # changed since, by a person
        assert cli.run(["install", "--server"]) == 0
        assert "receive.denyDeletes was set before and stays: false" in capsys.readouterr().out
        assert cli.run(["uninstall"]) == 0
        assert [settings(bare, "--local", key) for key in RULES] == ["", "false", "false"]
        settings(bare, "--unset", RULES[2])
        assert (bare / "config").read_bytes() == before

        settings(bare, "--global", RULES[2], "true")  # on already: nothing to set, nothing to take out
        assert cli.run(["install", "--server"]) == 0
        assert "receive.denyDeletes was set before and stays: true" in capsys.readouterr().out
        assert settings(bare, "--local", RULES[2]) == ""
        assert cli.run(["uninstall"]) == 0
        assert (bare / "config").read_bytes() == before


def test_a_push_is_kept_as_it_came_unless_somebody_says_otherwise(
    model: SampleModel, server: Path, run_git: RunGit, user_settings: Path
) -> None:
    packs = {*(server / "objects" / "pack").glob("*.pack")}
    model.commit("One more")
    model.git("push", "--quiet", "origin", "main")
    assert len({*(server / "objects" / "pack").glob("*.pack")} - packs) == 1
    with contextlib.chdir(server):
        assert cli.run(["uninstall"]) == 0
        settings(server, "--global", "transfer.unpackLimit", "50")
        assert cli.run(["install", "--server"]) == 0
    assert settings(server, "--local", "receive.unpackLimit") == ""


def test_nothing_is_set_back_or_deleted_or_damaged(model: SampleModel, server: Path) -> None:
    model.commit("One more")
    model.git("push", "--quiet", "origin", "main", "main:other")
    tip = model.git("rev-parse", "main")
    for refs, said in ((["+main~1:main"], "denying non-fast-forward"), ([":other"], "denying ref deletion")):
        done = subprocess.run(
            ["git", "push", "origin", *refs], cwd=model.top, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0 and said in done.stderr, done.stderr
    text = f"tree {model.git('rev-parse', 'main^{tree}')}\nparent {tip}\nauthor Ada 0 +0000\n\nNo committer\n"
    (model.top / "odd").write_text(text)
    odd = model.git("hash-object", "-t", "commit", "-w", "--literally", "odd")
    done = subprocess.run(
        ["git", "push", "origin", f"{odd}:refs/heads/odd"], cwd=model.top, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "fsck" in done.stderr, done.stderr
    assert model.git("ls-remote", "origin").count(tip) >= 2
