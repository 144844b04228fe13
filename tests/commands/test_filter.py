"""The clean and smudge filter under real git."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy

from forge.formats.safetensors import to_bytes
from forge.git.running import Repository

if TYPE_CHECKING:
    from tests.conftest import RunForge, RunGit

PATH = "contributions/ada/adapter_model.safetensors"


def put(repo: Repository, content: bytes, path: str = PATH) -> Path:
    file = repo.top / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def objects(repo: Repository) -> set[str]:
    return {str(path.relative_to(repo.git_dir)) for path in (repo.git_dir / "objects").rglob("*") if path.is_file()}


def test_the_blob_is_the_canonical_file(
    contribution_repository: Repository, run_git: RunGit, adapter_bytes: bytes
) -> None:
    repo = contribution_repository
    put(repo, adapter_bytes)
    run_git(repo.top, "add", ".")
    stored = run_git(repo.top, "rev-parse", f":{PATH}")
    assert stored == run_git(repo.top, "hash-object", "--no-filters", PATH)


def test_a_permuted_file_is_the_same_blob(
    contribution_repository: Repository,
    run_git: RunGit,
    adapter_tensors: dict[str, np.ndarray[Any, Any]],
    adapter_bytes: bytes,
) -> None:
    repo = contribution_repository
    names = list(reversed(adapter_tensors))
    header, data = '{"__metadata__": { "format":"pt"}', b""
    for name in names:
        array = adapter_tensors[name]
        offsets = [len(data), len(data) + array.nbytes]
        data += array.tobytes()
        header += f', "{name}": {{"data_offsets": {offsets}, "dtype":"F32", "shape":{list(array.shape)}}}'
    header += "}"
    permuted = len(header).to_bytes(8, "little") + header.encode() + data
    assert permuted != adapter_bytes
    put(repo, permuted)
    run_git(repo.top, "add", ".")
    stored = run_git(repo.top, "rev-parse", f":{PATH}")
    assert stored == run_git(repo.top, "hash-object", "--stdin", input=adapter_bytes)
    assert run_git(repo.top, "diff", "--name-only") == ""


BAD = [
    (pickle.dumps({"lora": 1.0}), "this is a pickle"),
    (to_bytes({"w": np.ones(64, "f4")})[:-10], "it is cut off"),
    (to_bytes({"w": np.ones(1, "f4")})[:-4] + np.array([np.nan], "<f4").tobytes(), "tensor w holds NaN"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
]


def test_an_empty_file_passes_as_git_cleans_one_for_an_ancestor_that_is_not_there(
    contribution_repository: Repository, run_git: RunGit
) -> None:
    put(contribution_repository, b"")
    run_git(contribution_repository.top, "add", PATH)
    assert run_git(contribution_repository.top, "cat-file", "-s", f":{PATH}") == "0"


@pytest.mark.parametrize(("content", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_file_is_refused_and_nothing_changes(
    contribution_repository: Repository,
    run_git: RunGit,
    git_process: RunForge,
    content: bytes,
    message: str,
    adapter_bytes: bytes,
) -> None:
    repo = contribution_repository
    put(repo, adapter_bytes)
    run_git(repo.top, "add", ".")
    before = run_git(repo.top, "ls-files", "--stage"), objects(repo)
    file = put(repo, content)
    done = git_process(repo.top, "add", PATH)
    assert done.returncode != 0
    assert message in done.stderr
    assert f"error: {PATH}: " in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert (run_git(repo.top, "ls-files", "--stage"), objects(repo)) == before
    assert file.read_bytes() == content


def test_a_bad_file_among_good_ones_stops_the_whole_add(
    contribution_repository: Repository, git_process: RunForge, run_git: RunGit, adapter_bytes: bytes
) -> None:
    """A required filter that fails is fatal to git: all or nothing."""
    repo = contribution_repository
    for name, content in [("a", adapter_bytes), ("b", b"rubbish!!"), ("c", adapter_bytes)]:
        put(repo, content, f"contributions/{name}/adapter_model.safetensors")
    done = git_process(repo.top, "add", "contributions")
    assert done.returncode != 0
    assert "contributions/b/adapter_model.safetensors: " in done.stderr
    assert run_git(repo.top, "ls-files") == ""


def test_a_file_over_the_limit_of_forge_toml_is_refused(
    contribution_repository: Repository, git_process: RunForge
) -> None:
    repo = contribution_repository
    (repo.top / "forge.toml").write_text(
        f'format = 1\n[base]\nreference = "embedded"\nfingerprint = "sha256:{"0" * 64}"\n[limits]\nfile_mebibytes = 1\n'
    )
    put(repo, to_bytes({"w": np.zeros(1 << 19, "f4")}))
    done = git_process(repo.top, "add", PATH)
    assert done.returncode != 0
    assert "more than the limit of 1,048,576" in done.stderr
    assert "limits.file_mebibytes" in done.stderr


def test_status_after_a_touch_shows_no_difference(
    contribution_repository: Repository, run_git: RunGit, adapter_bytes: bytes
) -> None:
    repo = contribution_repository
    file = put(repo, adapter_bytes)
    run_git(repo.top, "add", ".")
    run_git(repo.top, "commit", "-qm", "one")
    os.utime(file, (1, 1))
    assert run_git(repo.top, "status", "--porcelain") == ""


def test_checkout_restores_the_exact_bytes(
    contribution_repository: Repository, run_git: RunGit, adapter_bytes: bytes
) -> None:
    repo = contribution_repository
    file = put(repo, adapter_bytes)
    run_git(repo.top, "add", ".")
    run_git(repo.top, "commit", "-qm", "one")
    file.unlink()
    run_git(repo.top, "checkout", "--", ".")
    assert file.read_bytes() == adapter_bytes


def test_a_clone_without_git_forge_is_whole(
    contribution_repository: Repository,
    run_git: RunGit,
    tmp_path: Path,
    adapter_bytes: bytes,
    adapter_tensors: dict[str, np.ndarray[Any, Any]],
) -> None:
    repo = contribution_repository
    put(repo, adapter_bytes)
    run_git(repo.top, "add", ".")
    run_git(repo.top, "commit", "-qm", "one")
    run_git(tmp_path, "clone", "-q", str(repo.top), "plain")
    loaded = safetensors.numpy.load_file(tmp_path / "plain" / PATH)
    assert loaded.keys() == adapter_tensors.keys()
    assert run_git(tmp_path / "plain", "status", "--porcelain") == ""
    run_git(tmp_path / "plain", "fsck", "--strict")


def test_many_files_are_one_process(
    contribution_repository: Repository, git_process: RunForge, run_git: RunGit, tmp_path: Path
) -> None:
    repo = contribution_repository
    for index in range(12):
        content = to_bytes({"w": np.full(50_000, index, "f4")})  # several packets each
        put(repo, content, f"contributions/c{index}/distilled.safetensors")
    done = git_process(repo.top, "add", ".", env={"GIT_TRACE": "1"})
    assert done.returncode == 0, done.stderr
    starts = [line for line in done.stderr.splitlines() if "trace: run_command" in line]
    assert len([line for line in starts if "filter-process" in line]) == 1
    assert len(run_git(repo.top, "ls-files", "contributions").splitlines()) == 12


def test_other_paths_with_the_filter_pass_through(contribution_repository: Repository, run_git: RunGit) -> None:
    repo = contribution_repository
    (repo.top / ".gitattributes").write_text("*.dat filter=forge\n")
    content = os.urandom(200_000)
    put(repo, content, "x.dat")
    put(repo, b"", "empty.dat")
    run_git(repo.top, "add", ".")
    assert run_git(repo.top, "rev-parse", ":x.dat") == run_git(
        repo.top, "hash-object", "--stdin", "--no-filters", input=content
    )
    (repo.top / "x.dat").unlink()
    run_git(repo.top, "checkout", "--", "x.dat")
    assert (repo.top / "x.dat").read_bytes() == content
