"""Small pushes that would keep a reader busy for ever, or fill its memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save
from story.conftest import Files
from story.hospitals import forge, git, git_ok, write_contribution
from threats.attacker import canonical, commit, forge_by_hand, hospital_files, named_by_hand, read
from threats.touching import forge_command

from forge.git.running import find_repository
from forge.model.base import BaseModel
from forge.repo.contributions import find_files

SECONDS = 60  # until a command counts as hung
MANY = "contributions/many/distilled.safetensors: 2,000 images, but 1 to 500 are allowed"


@pytest.mark.parametrize("file", ["forge.toml", ".gitattributes", "forge-item.json", "contributions/breast/card.toml"])
@pytest.mark.parametrize("kind", ["zero", "pipe"])
def test_a_link_to_what_never_ends(site: Path, tmp_path: Path, file: str, kind: str) -> None:
    """In the tree of a branch that somebody checks out. Each command ends, and says what is there."""
    os.mkfifo(tmp_path / "pipe")
    path = site / file
    path.unlink()
    path.symlink_to("/dev/zero" if kind == "zero" else tmp_path / "pipe")
    commit(site)
    for verb in ("status", "verify", "show", "commit", "log"):
        done = subprocess.run(
            forge_command(verb), cwd=site, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
        said = done.stdout + done.stderr
        assert "Traceback" not in said and "this is a bug" not in said, said
        if verb in ("verify", "commit"):
            assert done.returncode in (1, 128) and f"{file} is a link" in said, said
    assert git(site, "status", "--porcelain").returncode == 0


def test_thousands_of_images_in_a_small_push(site: Path, base: BaseModel, site_files: Files) -> None:
    """Two thousand black images compress to nothing; a merge would look at each of them in every step."""
    files = hospital_files(base, "many", 4)
    arrays = load(files["distilled.safetensors"])
    arrays["images"] = np.zeros((2_000, *arrays["images"].shape[1:]), np.uint8)
    arrays["labels"] = np.arange(2_000, dtype=arrays["labels"].dtype) % 2
    files["distilled.safetensors"] = save(arrays, described(files["distilled.safetensors"]))
    write_contribution(site, "many", files)
    said = forge(site, "commit")
    assert said.code == 128 and MANY in said.err, said.err
    git_ok(site, "reset", "--quiet", "--hard")
    git_ok(site, "clean", "-fdq")
    git_ok(site, "switch", "--quiet", "-c", "eve")
    named_by_hand(site, ["many"], files)
    size = len(git_pack(site, "main..eve"))
    assert size < 200_000
    git_ok(site, "switch", "--quiet", "--force", "main")
    write_contribution(site, "other", site_files["other"])
    assert forge(site, "commit").code == 0
    for verb in (("verify", "eve"), ("review", "main", "eve")):
        said = forge(site, *verb)
        assert said.code == 1 and MANY in said.out, said
    done = git(site, "merge", "--no-edit", "eve")
    assert done.returncode == 1 and MANY in done.stderr, done.stderr


def described(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    found = json.loads(content[8 : 8 + length])["__metadata__"]
    assert isinstance(found, dict)
    return found


def git_pack(site: Path, commits: str) -> bytes:
    """What a push of these commits sends."""
    return subprocess.run(
        ["git", "-c", "pack.compression=9", "pack-objects", "--revs", "--stdout", "--quiet"],
        cwd=site, input=f"{commits}\n".encode(), check=True, capture_output=True,
    ).stdout  # fmt: skip


def test_many_names_for_one_blob(site: Path, site_files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at with as many processes of git, and as much read, as two are."""
    started: dict[int, int] = {}
    files = canonical(site_files["other"])
    for count in (2, 40):
        git_ok(site, "switch", "--quiet", "-C", f"eve{count}", "main")
        names = [f"name{number:03}" for number in range(count)]
        for name in names:
            write_contribution(site, name, files)
        git_ok(site, "add", "contributions")
        repo = find_repository(site)
        entry = find_files(repo, names[0], ":").entry(1.0)
        before = read(site)
        entries = tuple(replace(entry, name=name) for name in names)
        forge_by_hand(site, replace(before, contributions=(*before.contributions, *entries), own_scores=()))
        trace = site.parent / f"trace{count}"
        for verb in ("show", "verify --no-scores", "review main --no-scores", "status", "log"):
            done = subprocess.run(
                forge_command(*verb.split()), cwd=site, env=os.environ | {"GIT_TRACE": str(trace)},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
            )  # fmt: skip
            assert "refold" not in done.stderr  # which would not help
            if verb.startswith(("verify", "review")):
                assert done.returncode == 1 and "the same adapter under several names: name000, name001" in done.stdout
        started[count] = trace.read_text().count("trace: built-in: git ")
    assert started[40] <= started[2], started


def test_a_number_of_contributions_that_nobody_has(site: Path, site_files: Files) -> None:
    git_ok(site, "switch", "--quiet", "-c", "eve")
    before = read(site)
    entry = replace(before.contributions[0], name="x")
    many = tuple(replace(entry, name=f"x{number}") for number in range(1_001))
    forge_by_hand(site, replace(before, contributions=(*before.contributions, *many), own_scores=()))
    for verb in (("verify", "--no-scores"), ("review", "--no-scores", "main")):
        said = forge(site, *verb)
        assert (
            said.code == 1 and "1,002 contributions, more than the limit of 1,000" in said.out and len(said.out) < 5_000
        )


def test_git_log_of_a_large_payload_takes_little_memory(site: Path, site_files: Files) -> None:
    """A few hundred kilobytes that are hundreds of megabytes once they are read: git log -p shows a summary of them."""
    git_ok(site, "switch", "--quiet", "-c", "eve")
    large = {f"lora.{number}": np.zeros((1_000, 12_500), np.float32) for number in range(4)}
    files = {**site_files["other"], "adapter_model.safetensors": save(large, {"format": "pt"})}
    named_by_hand(site, ["large"], files)
    assert len(git_pack(site, "main..eve")) < 500_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (200 << 20, 200 << 20))

    path = site / "contributions" / "large" / "adapter_model.safetensors"
    done = subprocess.run(
        forge_command("textconv", str(path)), cwd=site, capture_output=True, text=True, preexec_fn=limited,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0 and "lora.3" in done.stdout, done.stderr
    log = subprocess.run(["git", "log", "-p", "-1"], cwd=site, capture_output=True, text=True, timeout=SECONDS)
    assert log.returncode == 0 and "lora.3" in log.stdout and len(log.stdout) < 20_000
