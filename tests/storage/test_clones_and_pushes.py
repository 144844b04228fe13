"""Clones with and without git-lfs, and pushes that leave nothing behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from storage.conftest import CloneOf
from storage.lfs_models import PAYLOADS, LfsServer, lose, oid_of
from story.hospitals import forge, forge_ok, git, git_ok

from forge.clone import setup as clone_setup
from forge.errors import ForgeError
from forge.git import lfs
from forge.git.running import Repository, find_repository, read_blob
from forge.recipe.layout import FOLDERS

NONE = "0" * 40


def objects(top: Path) -> list[str]:
    return sorted({oid_of(top, path) for path in PAYLOADS})


def push_line(top: Path, old: str = NONE) -> list[str]:
    return [f"refs/heads/main {git_ok(top, 'rev-parse', 'main')} refs/heads/main {old}\n"]


def test_a_push_by_the_hook_brings_the_files_and_a_clone_has_them(
    lfs_model: Path, server: LfsServer, clone: CloneOf
) -> None:
    clone_setup.install(find_repository(lfs_model))  # before git-lfs's own hook could be there
    assert "git lfs" not in (lfs_model / ".git/hooks/pre-push").read_text()
    git_ok(lfs_model, "push", "--quiet", "origin", "main")
    assert all(server.has(oid) for oid in objects(lfs_model))

    with_lfs = clone("with")  # no git forge there
    for path in PAYLOADS:
        assert (with_lfs / path).read_bytes() == (lfs_model / path).read_bytes()
    assert git_ok(with_lfs, "status", "--porcelain") == ""


def test_git_lfs_hook_is_kept_and_both_agree(lfs_model: Path, server: LfsServer) -> None:
    git_ok(lfs_model, "lfs", "install", "--local")
    assert clone_setup.install(find_repository(lfs_model)) == ["pre-push"]
    assert "git lfs pre-push" in (lfs_model / ".git/hooks/pre-push.before-forge").read_text()
    git_ok(lfs_model, "push", "--quiet", "origin", "main")
    assert all(server.has(oid) for oid in objects(lfs_model))


def test_a_clone_without_git_lfs_names_its_pointers(lfs_model: Path, server: LfsServer, clone: CloneOf) -> None:
    lfs.push_objects(find_repository(lfs_model), "origin", "origin", push_line(lfs_model), FOLDERS)
    git_ok(lfs_model, "push", "--quiet", "origin", "main")
    without = clone("without", lfs=False)
    said = forge_ok(without, "status", "--porcelain")
    assert "git-lfs was not set up in this clone yet; it is now. Get the files with: git lfs pull" in said.err
    assert [line for line in said.out.splitlines() if line.startswith("! ")] == [
        f"! pointer {path}" for path in PAYLOADS
    ]
    assert git_ok(without, "status", "--porcelain") == ""
    # The model is whole all the same: git-lfs gets what is needed.
    assert forge_ok(without, "verify", "--no-scores").out.startswith("ok: ")
    git_ok(without, "lfs", "pull")
    assert forge_ok(without, "status", "--json").err == ""
    assert json.loads(forge_ok(without, "status", "--json").out)["pointers"] == []


def test_git_lfs_is_not_on_this_machine(lfs_model: Path, clone: CloneOf, monkeypatch: pytest.MonkeyPatch) -> None:
    git_ok(lfs_model, "push", "--quiet", "--no-verify", "origin", "main")
    top = clone("without", lfs=False)
    monkeypatch.setattr(lfs, "is_available", lambda repo: False)
    said = forge_ok(top, "status", "--porcelain")
    assert said.err.startswith("warning: this model keeps its payloads in git-lfs, which is not on this machine: ")
    assert "hint: install git-lfs" in forge(top, "commit").err
    assert "hint: install git-lfs" in forge(top, "storage", "lfs").err
    with pytest.raises(ForgeError, match="git-lfs is not on this machine, and what is pushed keeps files in it"):
        lfs.push_objects(find_repository(top), "origin", "origin", push_line(top), FOLDERS)


def test_a_push_is_refused_while_an_object_is_nowhere(lfs_model: Path, server: LfsServer) -> None:
    repo = find_repository(lfs_model)
    lost = oid_of(lfs_model, PAYLOADS[3])
    lose(lfs_model, lost)
    clone_setup.install(repo)
    git_ok(lfs_model, "config", "lfs.allowincompletepush", "true")  # git-lfs itself would let it pass
    done = git(lfs_model, "push", "origin", "main")
    assert done.returncode == 1
    assert "error: the push was refused: git-lfs could not bring all files to its server" in done.stderr
    assert git_ok(lfs_model, "ls-remote", "origin") == ""


def test_what_a_push_without_hooks_left_behind_comes_with_the_next(lfs_model: Path, server: LfsServer) -> None:
    git_ok(lfs_model, "push", "--quiet", "--no-verify", "origin", "main")
    assert not server.has(objects(lfs_model)[0])
    git_ok(lfs_model, "commit", "--quiet", "--allow-empty", "-m", "Another")
    lfs.push_objects(
        find_repository(lfs_model),
        "origin",
        "origin",
        push_line(lfs_model, git_ok(lfs_model, "rev-parse", "main~1")),
        FOLDERS,
    )
    assert all(server.has(oid) for oid in objects(lfs_model))


def test_pushes_that_have_nothing_in_git_lfs_start_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lfs, "_push", lambda *args: pytest.fail("git-lfs was started"))
    repo = find_repository(model)
    lfs.push_objects(repo, "origin", "origin", push_line(model), FOLDERS)
    lfs.push_objects(
        repo, "origin", "origin", [f"(delete) {NONE} refs/heads/main {git_ok(model, 'rev-parse', 'main')}\n"], FOLDERS
    )
    git_ok(model, "tag", "-m", "A tree", "tree", "HEAD^{tree}")
    lfs.push_objects(
        repo,
        "origin",
        "origin",
        [f"refs/tags/tree {git_ok(model, 'rev-parse', 'tree')} refs/tags/tree {NONE}\n"],
        FOLDERS,
    )


def test_a_pointer_is_followed_and_checked(lfs_model: Path) -> None:
    repo = find_repository(lfs_model)
    blob = git_ok(lfs_model, "rev-parse", f"HEAD:{PAYLOADS[0]}")
    pointer, content = read_blob(repo, blob), (lfs_model / PAYLOADS[0]).read_bytes()
    assert lfs.read_payloads(repo, [blob]) == {blob: content}
    assert lfs.follow(repo, content, "a file") == content
    with pytest.raises(
        ForgeError, match=f"{PAYLOADS[0]}: the file in git-lfs has {len(content)} bytes, more than"
    ) as caught:
        lfs.read_payloads(repo, [blob], len(content) - 1)
    assert "limits.file_mebibytes" in str(caught.value.hint)

    git_ok(lfs_model, "config", "lfs.fetchexclude", "*")  # what checkouts leave out, a model still needs
    oid = oid_of(lfs_model, PAYLOADS[0])
    stored = lfs_model / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid
    stored.chmod(0o644)
    stored.write_bytes(content[:-1] + b"!")
    with pytest.raises(ForgeError, match=r"a file: .* another file"):
        lfs.follow(repo, pointer, "a file")
    stored.write_bytes(content[:-1])  # cut short: git-lfs tries to get it again
    with pytest.raises(ForgeError, match=f"a file: the content is in git-lfs, and object {oid[:10]} cannot be had"):
        lfs.follow(repo, pointer, "a file")


def test_an_object_that_is_elsewhere_is_fetched_when_it_is_read(lfs_model: Path, server: LfsServer) -> None:
    repo = find_repository(lfs_model)
    lfs.push_objects(repo, "origin", "origin", push_line(lfs_model), FOLDERS)
    content, oid = (lfs_model / PAYLOADS[0]).read_bytes(), oid_of(lfs_model, PAYLOADS[0])
    lose(lfs_model, oid)
    blob = git_ok(lfs_model, "rev-parse", f"HEAD:{PAYLOADS[0]}")
    assert lfs.read_payloads(repo, [blob]) == {blob: content}


def test_what_is_elsewhere_is_fetched_in_one_conversation(
    lfs_model: Path, server: LfsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = find_repository(lfs_model)
    lfs.push_objects(repo, "origin", "origin", push_line(lfs_model), FOLDERS)
    contents = {git_ok(lfs_model, "rev-parse", f"HEAD:{path}"): (lfs_model / path).read_bytes() for path in PAYLOADS}
    large = max(len(content) for content in contents.values())
    oids = {oid_of(lfs_model, path): len(content) for path, content in zip(PAYLOADS, contents.values(), strict=True)}
    before = git_ok(lfs_model, "count-objects", "-v")
    for oid in oids:
        lose(lfs_model, oid)

    fetches: list[tuple[str, ...]] = []
    run_git = lfs.run_git

    def counted(repo: Repository, *args: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        fetches.extend([args] if "fetch" in args else [])
        return run_git(repo, *args, **options)

    monkeypatch.setattr(lfs, "run_git", counted)
    lfs.fetch_missing(repo, contents, large - 1)  # what is over the limit is not asked for
    here = {oid for oid in oids if (lfs_model / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid).is_file()}
    assert here == {oid for oid, size in oids.items() if size < large}
    for oid in here:
        lose(lfs_model, oid)
    assert lfs.read_payloads(repo, contents) == contents
    assert len(fetches) == 2
    assert all(f"lfs.url={server.url}" in args for args in fetches)
    assert lfs.read_payloads(repo, contents) == contents  # all is here now
    assert len(fetches) == 2
    assert git_ok(lfs_model, "count-objects", "-v") == before  # nothing was left in the repository itself


def test_a_version_is_checked_after_one_fetch(
    lfs_model: Path, server: LfsServer, clone: CloneOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    lfs.push_objects(find_repository(lfs_model), "origin", "origin", push_line(lfs_model), FOLDERS)
    git_ok(lfs_model, "push", "--quiet", "--no-verify", "origin", "main")
    top = clone("another", lfs=False)
    git_ok(top, "lfs", "install", "--local", "--skip-repo")
    assert not (top / ".git/lfs/objects").exists()
    smudged: list[bool] = []
    smudge = lfs._smudge

    def watched(repo: Repository, *args: Any) -> tuple[bytes, str]:
        smudged.append(len([*(top / ".git/lfs/objects").rglob("*/*/*")]) >= len(PAYLOADS))
        return smudge(repo, *args)

    monkeypatch.setattr(lfs, "_smudge", watched)
    forge_ok(top, "verify", "--no-scores")
    assert smudged == [True] * len(PAYLOADS)


def test_a_clone_that_does_not_use_git_lfs_asks_nobody(lfs_model: Path, clone: CloneOf) -> None:
    git_ok(lfs_model, "push", "--quiet", "--no-verify", "origin", "main")
    top = clone("another", lfs=False)
    lfs.fetch_missing(find_repository(top), [git_ok(top, "rev-parse", f"HEAD:{path}") for path in PAYLOADS])
    assert not (top / ".git/lfs/objects").exists()


VERSION = b"version https://git-lfs.github.com/spec/v1\n"
OID = b"oid sha256:" + b"a" * 64 + b"\n"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (VERSION + OID + b"size 12\n", 12),
        (VERSION + b"ext-0-x sha256:" + b"b" * 64 + b"\n" + OID + b"size 12\n", 12),
        (VERSION + OID.upper() + b"size 12\n", None),
        (VERSION + OID + b"size -1\n", None),
        (VERSION + OID + b"size 12\n" + b" " * 2000, None),
        (b"", None),
    ],
)
def test_pointers(text: bytes, size: int | None) -> None:
    found = lfs.parse_pointer(text)
    assert (found and (found.oid, found.size)) == (None if size is None else ("a" * 64, size))
