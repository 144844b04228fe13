"""What was erased is told from what was only removed, and from what is only not here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sample_models import SampleModel

from forge.cli import run
from forge.errors import ForgeError
from forge.git.running import find_repository
from forge.operations.loading import blob_reader
from forge.recipe.settings import LimitSettings
from forge.repo.contributions import disagreements
from forge.repo.erased import erased_blobs, erased_contributions, explained_disagreements
from forge.repo.items import read_item


@pytest.fixture
def model(tmp_path: Path) -> SampleModel:
    """v1 has lung, v2 breast as well; main has withdrawn breast."""
    model = SampleModel(tmp_path / "model")
    model.add_contribution("lung", {"lung": 0.5})
    model.git("tag", "v1")
    model.add_contribution("breast", {"lung": 0.25, "breast": 0.6}, version=2)
    model.git("tag", "v2")
    shutil.rmtree(model.top / "contributions/breast")
    model.write_item(model.item({"lung": 0.5}))
    model.commit("Withdraw breast")
    return model


def without_breast(model: SampleModel) -> None:
    erase = ("-m", "git_filter_repo", "--force", "--invert-paths", "--path", "contributions/breast/")
    subprocess.run([sys.executable, *erase], cwd=model.top, check=True, capture_output=True)


ERASED = "contributions/breast was erased: no commit of this repository has its files any more"


def test_erased_and_withdrawn(
    model: SampleModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = read_item(model.repo, "v2").entry("breast")
    assert entry is not None
    assert erased_contributions(model.repo, "v2") == [] == erased_blobs(model.repo, [entry.adapter])
    without_breast(model)
    assert erased_contributions(model.repo, "v2") == ["breast"]
    assert explained_disagreements(model.repo, "v2") == [ERASED]
    assert [explained_disagreements(model.repo, rev) for rev in ("v1", "main")] == [[], []]
    lung = read_item(model.repo, "v2").entry("lung")
    assert lung is not None and erased_blobs(model.repo, [lung.adapter, entry.distilled]) == [entry.distilled]
    with pytest.raises(ForgeError, match="were erased: no commit of this repository has"):
        blob_reader(model.repo, LimitSettings())([lung.adapter, entry.adapter])
    monkeypatch.chdir(model.top)
    for args in (["verify", "v2"], ["verify", "--no-scores", "v2"], ["show", "v2"]):
        run(args)
        said = capsys.readouterr()
        assert ERASED in said.out and "git fetch" not in said.out + said.err
    model.git("switch", "--quiet", "--detach", "v2")
    assert run(["status"]) == 0
    assert capsys.readouterr().out.count("erased") == 1


def test_removed_by_hand_is_not_erased(model: SampleModel) -> None:
    model.git("switch", "--quiet", "--detach", "v2")
    model.git("rm", "-r", "--quiet", "contributions/breast")
    model.git("commit", "--quiet", "-m", "By hand")
    assert explained_disagreements(model.repo, "HEAD") == disagreements(model.repo, "HEAD")
    assert "there is no contributions/breast" in disagreements(model.repo, "HEAD")[0]


@pytest.mark.parametrize("option", ["--depth=1", "--filter=blob:none"])
def test_what_a_clone_has_not_fetched_is_not_erased(model: SampleModel, tmp_path: Path, option: str) -> None:
    """In a shallow clone nobody can tell; in a partial one what its commits list is there to be fetched."""
    entry = read_item(model.repo, "v2").entry("breast")
    assert entry is not None
    model.git("config", "uploadpack.allowFilter", "true")
    source = model.top.as_uri()
    subprocess.run(["git", "clone", "--quiet", option, source, tmp_path / "clone"], check=True, capture_output=True)
    clone = find_repository(tmp_path / "clone")
    shutil.move(model.top, tmp_path / "elsewhere")  # it cannot be asked
    assert erased_blobs(clone, [entry.adapter]) == []
    with pytest.raises(ForgeError) as error:
        blob_reader(clone, LimitSettings())([entry.adapter])
    assert "erased" not in error.value.message
