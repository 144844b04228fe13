"""Contributions that are bad by themselves: swapped labels, and one vote cast several times."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load
from story.conftest import Files
from story.hospitals import contribute, forge, forge_ok, git, git_ok, write_contribution
from story.snapshots import assert_refused, snapshot
from threats.attacker import commit, forge_by_hand, hospital_files, named_by_hand, read

from forge.formats.safetensors import canonicalise
from forge.git.running import find_repository
from forge.model.base import BaseModel
from forge.repo.contributions import find_files


@pytest.fixture(scope="module")
def swapped(base: BaseModel) -> dict[str, bytes]:
    """breast's task with its labels the wrong way round, by the book in every other way."""
    return hospital_files(base, "mallory", 3, swapped=True)


CONTRADICTS = "mallory: its labels contradict those of the contributions with the same labels: "


def test_swapped_labels_stop_the_merge(site: Path, swapped: dict[str, bytes]) -> None:
    contribute(site, "mallory", swapped, start="start")
    git_ok(site, "switch", "--quiet", "main")
    git_ok(site, "commit", "--quiet", "--allow-empty", "-m", "main moves on")
    before = snapshot(site, objects=False)
    done = git(site, "merge", "--no-edit", "mallory")
    assert done.returncode == 1 and CONTRADICTS in done.stderr, done.stderr
    assert "its 'malignant breast tumors' is what the others call 'benign breast tissues'" in done.stderr
    assert "git forge resolve --accept" in done.stderr
    git_ok(site, "merge", "--abort")
    assert snapshot(site, objects=False) == before


def hospital_files_of(site: Path) -> dict[str, bytes]:
    """breast's own files as they are committed."""
    folder = site / "contributions" / "breast"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_swapped_labels_stop_the_commit_and_are_shown_by_review(site: Path, swapped: dict[str, bytes]) -> None:
    git_ok(site, "switch", "--quiet", "-c", "mallory")
    write_contribution(site, "mallory", swapped)
    assert_refused(forge(site, "commit"), CONTRADICTS, "--accept", code=1)
    forge_ok(site, "commit", "--accept")
    said = forge(site, "review", "main", "mallory", "--json")
    found = json.loads(said.out)
    assert said.code == 1 and any(problem.startswith(CONTRADICTS) for problem in found["problems"]), found["problems"]
    assert "mallory" in found["accepted"]  # by the branch: it counts for nothing
    own = {score["name"]: score for score in found["own_scores"]}
    # What main says of mallory's images, and mallory of breast's: both are right about their own only.
    assert own["mallory"]["accuracy_before"] < 0.2 and own["breast"]["accuracy_before"] > 0.8
    assert found["alone"]["mallory"]["breast"] < 0.2 and found["alone"]["mallory"]["mallory"] > 0.8
    table = forge(site, "review", "main", "mallory").out
    assert "Whose images  Images  Target  Merged  mallory alone\n" in table
    assert "\ngit merge " not in table


def test_an_honest_hospital_with_the_same_labels_is_merged(site: Path, site_files: Files) -> None:
    contribute(site, "other", site_files["other"], start="start")
    git_ok(site, "switch", "--quiet", "main")
    found = json.loads(forge_ok(site, "review", "main", "other", "--json").out)
    assert found["ok"] and found["alone"]["other"]["breast"] > 0.8
    git_ok(site, "commit", "--quiet", "--allow-empty", "-m", "main moves on")
    git_ok(site, "merge", "--quiet", "--no-edit", "other")
    forge_ok(site, "verify")


def test_the_maintainer_s_own_images_tell(site: Path, swapped: dict[str, bytes], tmp_path: Path) -> None:
    """`--data` measures both models on images that no branch has seen; against evaluate, each by itself."""
    arrays = load(hospital_files_of(site)["distilled.safetensors"])
    for number, (image, label) in enumerate(zip(arrays["images"], arrays["labels"], strict=True)):
        folder = tmp_path / "private" / ("benign breast tissues", "malignant breast tumors")[int(label)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.moveaxis(image, 0, -1)).save(folder / f"{number}.png")
    git_ok(site, "switch", "--quiet", "-c", "mallory")
    write_contribution(site, "mallory", swapped)
    forge_ok(site, "commit", "--accept")
    data = ("--data", str(tmp_path / "private"))
    found = json.loads(forge(site, "review", "main", "mallory", *data, "--json").out)
    alone = json.loads(forge_ok(site, "evaluate", "main", "mallory", *data, "--json").out)
    assert [row["accuracy"] for row in found["data"]] == [row["accuracy"] for row in alone]
    assert found["data"][1]["accuracy"] < found["data"][0]["accuracy"] - 0.2
    said = forge(site, "review", "main", "mallory", *data)
    assert said.code == 1 and "ACC / AUC on your own images\n" in said.out and str(tmp_path / "private") in said.out


def test_the_same_blobs_under_three_names(site: Path, swapped: dict[str, bytes], site_files: Files) -> None:
    git_ok(site, "switch", "--quiet", "-c", "mallory")
    for name in ("mallory", "mallory2", "mallory3"):
        write_contribution(site, name, swapped)
    assert_refused(forge(site, "commit", "--accept"), "the same adapter under several names: mallory, mallory2", code=1)
    named_by_hand(site, ["mallory", "mallory2", "mallory3"], swapped)
    for verb in (("verify", "--no-scores"), ("review", "--no-scores", "main", "HEAD")):
        said = forge(site, *verb)
        assert said.code == 1 and "the same adapter under several names: mallory, mallory2, mallory3" in said.out
    git_ok(site, "switch", "--quiet", "--force", "main")
    write_contribution(site, "other", site_files["other"])
    forge_ok(site, "commit")
    done = git(site, "merge", "--no-edit", "mallory")
    assert done.returncode == 1 and "the same adapter under several names: mallory, mallory2, mallory3" in done.stderr


def test_one_adapter_kept_in_git_and_in_git_lfs_is_one(site: Path, site_files: Files) -> None:
    """Two ids for one content."""
    if shutil.which("git-lfs") is None:
        pytest.skip("needs git-lfs (apt-get install git-lfs)")
    files = dict(site_files["other"])
    adapter = files["adapter_model.safetensors"]
    canonical = b"".join(canonicalise(adapter))
    oid = hashlib.sha256(canonical).hexdigest()
    kept = site / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    kept.parent.mkdir(parents=True)
    kept.write_bytes(canonical)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(canonical)}\n".encode()
    named_by_hand_twice(site, files, canonical, pointer)
    said = forge(site, "verify", "--no-scores")
    assert said.code == 1 and "the same adapter under several names: one, two" in said.out, said


def named_by_hand_twice(site: Path, files: dict[str, bytes], content: bytes, pointer: bytes) -> None:
    for name, adapter, method in (("one", content, b"by hand"), ("two", pointer, b"by  hand")):
        images = files["distilled.safetensors"].replace(b"by hand", method[:7])
        other = {**files, "adapter_model.safetensors": adapter, "distilled.safetensors": images}
        if name == "two":  # images of its own, so that it is the adapter alone that comes twice
            other["distilled.safetensors"] = bytes(images[:-1]) + bytes([images[-1] ^ 1])
        write_contribution(site, name, other)
    commit(site)
    repo = find_repository(site)
    entries = [find_files(repo, name, "HEAD").entry(1.0) for name in ("one", "two")]
    item = read(site)
    forge_by_hand(site, replace(item, contributions=(*item.contributions, *entries), own_scores=()))
