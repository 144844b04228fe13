from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forge.errors import ForgeError
from forge.git.running import (
    LOCAL_VARIABLES,
    Repository,
    find_repository,
    git,
    git_text,
    hash_object,
    read_blob,
    read_blobs,
    read_path,
    state_dir,
    stream_blobs,
)

if TYPE_CHECKING:
    from tests.conftest import RunGit


@pytest.fixture
def committed(repository: Repository, run_git: RunGit) -> Repository:
    folder = repository.top / "sub folder"
    folder.mkdir()
    (folder / "one").write_bytes(b"one\n")
    run_git(repository.top, "add", ".")
    run_git(repository.top, "commit", "-qm", "one")
    return repository


def test_the_variables_are_those_of_git(repository: Repository, run_git: RunGit) -> None:
    assert set(run_git(repository.top, "rev-parse", "--local-env-vars").split()) <= set(LOCAL_VARIABLES)


def test_found_from_a_sub_folder(committed: Repository) -> None:
    assert find_repository(committed.top / "sub folder") == committed
    assert committed.git_dir == committed.common_dir == committed.top / ".git"


def test_found_from_the_current_folder(committed: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(committed.top / "sub folder")
    repo = find_repository()
    assert repo == committed
    assert repo.inherits


def test_inside_the_git_folder_the_work_tree_is_found(committed: Repository) -> None:
    assert find_repository(committed.git_dir) == committed


def test_a_linked_work_tree_shares_the_common_folder(committed: Repository, tmp_path: Path, run_git: RunGit) -> None:
    run_git(committed.top, "worktree", "add", "-q", str(tmp_path / "linked"))
    linked = find_repository(tmp_path / "linked")
    assert linked.top == tmp_path / "linked"
    assert linked.common_dir == committed.common_dir
    assert linked.git_dir == committed.common_dir / "worktrees" / "linked"
    assert state_dir(linked) == state_dir(committed) == committed.common_dir / "forge"
    assert read_path(linked, "HEAD", "sub folder/one") == b"one\n"


def test_a_bare_repository_is_its_own_top(tmp_path: Path, run_git: RunGit) -> None:
    run_git(tmp_path, "init", "-q", "--bare", "bare.git")
    repo = find_repository(tmp_path / "bare.git")
    assert repo.top == repo.git_dir == tmp_path / "bare.git"
    blob = hash_object(repo, b"abc", write=True)
    assert read_blob(repo, blob) == b"abc"


def test_outside_a_repository_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(ForgeError, match="is not in a git repository") as raised:
        find_repository(tmp_path)
    assert "git forge init" in str(raised.value.hint)
    with pytest.raises(ForgeError, match="no such folder"):
        find_repository(tmp_path / "nowhere")


def test_another_repository_is_not_touched_by_a_hooks_variables(
    committed: Repository, tmp_path: Path, run_git: RunGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(committed.git_dir))
    monkeypatch.setenv("GIT_INDEX_FILE", str(committed.git_dir / "index"))
    other = find_repository(tmp_path / "other")
    assert other.top == tmp_path / "other"
    assert git_text(other, "ls-files") == ""


def test_in_a_hook_the_index_of_the_commit_in_progress_is_seen(
    committed: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`git commit FILE` gives its hooks another index, and a GIT_DIR relative to the top folder."""
    partial = committed.git_dir / "next-index"
    monkeypatch.chdir(committed.top)
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/next-index")
    repo = find_repository()
    assert repo == committed
    git(repo, "read-tree", "--empty")
    assert partial.exists()
    assert read_path(repo, "", "sub folder/one") is None
    monkeypatch.chdir(committed.top / "sub folder")
    assert git_text(repo, "ls-files") == ""
    assert read_path(committed, "", "sub folder/one") == b"one\n"


def test_a_failing_git_is_reported_in_its_own_words(committed: Repository) -> None:
    with pytest.raises(ForgeError, match=r"^pathspec 'nothing' did not match"):
        git(committed, "checkout", "nothing")
    assert git(committed, "rev-parse", "--verify", "-q", "nothing", check=False) == b""


def test_git_gets_an_empty_input_when_none_is_given(committed: Repository) -> None:
    empty = hash_object(committed, b"", write=False)
    assert git_text(committed, "hash-object", "--stdin") == empty
    assert git_text(committed, "hash-object", "--stdin", input=b"x\n") != empty


def test_blobs_are_read_by_id(committed: Repository) -> None:
    contents = [b"", b"a", os.urandom(200_000), b"\n", b"a"]
    blobs = [hash_object(committed, content, write=True) for content in contents]
    assert read_blobs(committed, blobs) == dict(zip(blobs, contents, strict=True))
    assert read_blobs(committed, []) == {}


def test_many_blobs_do_not_block_a_pipe(committed: Repository) -> None:
    names = [f"{index}" for index in range(300)]
    listing = "".join(f"{name}\n" for name in names).encode()
    for name in names:
        (committed.top / name).write_text(name * 500)
    blobs = git_text(committed, "hash-object", "-w", "--stdin-paths", input=listing).split()
    assert len(read_blobs(committed, blobs)) == 300


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0" * 40, "0 is named by the forge item but is not in"),
        ("HEAD", "HEAD is a commit"),
        ("a\nb", "not a"),
    ],
)
def test_what_is_no_blob_is_refused(committed: Repository, name: str, message: str) -> None:
    with pytest.raises(ForgeError, match=message):
        read_blob(committed, name)


def test_a_missing_blob_names_git_fetch(committed: Repository) -> None:
    with pytest.raises(ForgeError) as raised:
        read_blob(committed, "1" * 40)
    assert "git fetch" in str(raised.value.hint)


def test_a_corrupt_blob_is_no_traceback(committed: Repository) -> None:
    blob = hash_object(committed, b"soon broken", write=True)
    path = committed.git_dir / "objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    path.write_bytes(b"rubbish")
    with pytest.raises(ForgeError):
        read_blob(committed, blob)


def test_a_blob_over_the_limit_is_refused_and_the_next_can_be_read(committed: Repository) -> None:
    large, small = (hash_object(committed, b"x" * size, write=True) for size in (1_000_000, 10))
    with pytest.raises(ForgeError, match="1,000,000 bytes, more than the limit of 100"):
        read_blobs(committed, [large, small], limit=100)
    assert read_blob(committed, small, limit=100) == b"x" * 10


def test_paths_are_read_from_commits_and_the_index(committed: Repository, run_git: RunGit) -> None:
    (committed.top / "sub folder" / "one").write_bytes(b"two\n")
    run_git(committed.top, "add", ".")
    assert read_path(committed, "HEAD", "sub folder/one") == b"one\n"
    assert read_path(committed, "", "sub folder/one") == b"two\n"
    assert read_path(committed, ":", "sub folder/one") == b"two\n"
    for rev in ("HEAD", "", "HEAD^{tree}", ":2"):
        assert read_path(committed, rev, "nothing") is None
    with pytest.raises(ForgeError, match="unknown revision: nothing"):
        read_path(committed, "nothing", "sub folder/one")


@pytest.mark.parametrize("rev", ["HEAD", ""])
def test_a_listed_file_whose_content_is_gone_is_an_error(committed: Repository, rev: str) -> None:
    blob = git_text(committed, "rev-parse", "HEAD:sub folder/one")
    (committed.git_dir / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(ForgeError, match="content is missing") as raised:
        read_path(committed, rev, "sub folder/one")
    assert "git fetch" in str(raised.value.hint)


def test_hash_object_runs_filters_only_for_a_path(committed: Repository, run_git: RunGit) -> None:
    run_git(committed.top, "config", "filter.upper.clean", "tr a-z A-Z")
    (committed.top / ".gitattributes").write_text("*.up filter=upper\n")
    file = committed.top / "x.up"
    file.write_bytes(b"abc")
    plain, upper = (hash_object(committed, content, write=True) for content in (b"abc", b"ABC"))
    assert hash_object(committed, file, write=False) == plain
    assert hash_object(committed, file, write=False, path="x.up") == upper
    assert hash_object(committed, b"abc", write=False, path="x.up") == upper


def test_a_partial_clone_fetches_all_blobs_at_once(
    committed: Repository, tmp_path: Path, run_git: RunGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_git(committed.top, "config", "uploadpack.allowFilter", "true")
    run_git(committed.top, "config", "uploadpack.allowAnySHA1InWant", "true")
    for number in range(4):
        (committed.top / "file").write_text(f"{number}\n")
        run_git(committed.top, "add", "file")
        run_git(committed.top, "commit", "-qm", str(number))
    run_git(tmp_path, "clone", "-q", "--filter=blob:none", committed.top.as_uri(), "partial")
    partial = find_repository(tmp_path / "partial")
    ids = [git_text(partial, "rev-parse", f"HEAD~{back}:file") for back in range(4)]
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))
    assert list(read_blobs(partial, ids).values()) == [b"3\n", b"2\n", b"1\n", b"0\n"]
    assert trace.read_text().count("built-in: git fetch") == 1
    assert read_blobs(partial, ids) and trace.read_text().count("built-in: git fetch") == 1  # now they are here


def test_a_partial_clone_out_of_reach_of_its_origin(committed: Repository, tmp_path: Path, run_git: RunGit) -> None:
    run_git(committed.top, "config", "uploadpack.allowFilter", "true")
    run_git(tmp_path, "clone", "-q", "--filter=blob:none", "--no-checkout", committed.top.as_uri(), "partial")
    partial = find_repository(tmp_path / "partial")
    run_git(partial.top, "config", "remote.origin.url", str(tmp_path / "gone"))
    blob = git_text(committed, "rev-parse", "HEAD:sub folder/one")
    with pytest.raises(ForgeError, match=f"{blob} is not in this partial clone yet, and cannot be fetched: ") as caught:
        read_blobs(partial, [blob])
    assert "git fetch" in str(caught.value.hint)


def test_a_stream_goes_on_after_what_cannot_be_read(committed: Repository) -> None:
    good = [hash_object(committed, f"content {number}".encode(), write=True) for number in range(4)]
    large = hash_object(committed, b"x" * 100, write=True)
    wanted = [good[0], large, good[1], "0" * 40, good[2], good[0], "HEAD", good[3]]
    found = list(stream_blobs(committed, wanted, limit=50))
    assert [name for name, _ in found] == wanted
    contents = [content if isinstance(content, bytes) else None for _, content in found]
    assert contents == [b"content 0", None, b"content 1", None, b"content 2", b"content 0", None, b"content 3"]
    errors = [str(content) for _, content in found if isinstance(content, ForgeError)]
    assert "more than the limit of 50" in errors[0] and "not in this repository" in errors[1]
    assert "is a commit" in errors[2]
    assert list(stream_blobs(committed, [])) == []
