"""git forge push: which options are git's own, and what is said of what stays behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from sample_models import SampleModel

from forge.cli import run
from forge.commands.push_options import is_dry_run, taken_out
from forge.errors import ForgeError


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    model = SampleModel(tmp_path_factory.mktemp("original"))
    model.add_contribution("lung", {"lung": 0.5})
    return model


@pytest.fixture
def model(original: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleModel:
    """A model with a bare origin that has its main branch."""
    model = original.copy(tmp_path / "model")
    model.git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "origin.git"))
    model.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    model.git("push", "--quiet", "--set-upstream", "origin", "main")
    monkeypatch.chdir(model.top)
    return model


@pytest.mark.parametrize(
    ("args", "passed", "others"),
    [
        ("--force-with-lease origin main", "--force-with-lease", "origin main"),
        ("origin --force-with-lease=main:abc main", "--force-with-lease=main:abc", "origin main"),
        ("--force-with-lease --force-if-includes", "--force-with-lease --force-if-includes", ""),
        ("-fu origin", "-fu", "origin"),
        ("-o ci.skip --no-scores", "-o ci.skip", "--no-scores"),
        ("-oci.skip --push-option=a --push-option b", "-oci.skip --push-option=a --push-option b", ""),
        ("--signed=if-asked --follow-tags -q", "--signed=if-asked --follow-tags -q", ""),
        ("-n -- -f", "-n", "-- -f"),
        ("-h --nonsense", "", "-h --nonsense"),
    ],
)
def test_gits_options_are_told_from_ours(args: str, passed: str, others: str) -> None:
    assert taken_out(args.split()) == (passed.split(), others.split())


@pytest.mark.parametrize("option", ["--all", "--mirror", "--delete", "-d", "--no-verify"])
def test_what_git_forge_cannot_vouch_for_is_gits_own(option: str) -> None:
    with pytest.raises(ForgeError, match=option) as error:
        taken_out(["origin", option])
    assert error.value.hint == f"git's own is: git push origin {option}" and error.value.exit_code == 129


@pytest.mark.parametrize(
    ("passed", "dry"), [("-n", True), ("-fn", True), ("--dry-run", True), ("-n --no-dry-run", False), ("-o n", False)]
)
def test_a_dry_run_is_known(passed: str, dry: bool) -> None:
    assert is_dry_run(passed.split()) is dry


def test_the_lease_holds_and_breaks_as_with_git(model: SampleModel, tmp_path: Path) -> None:
    model.git("commit", "--quiet", "--amend", "--no-edit", "--allow-empty", "--date=2026-02-02T00:00:00Z")
    assert run(["push", "--no-scores"]) == 128  # not a fast-forward
    assert run(["push", "--no-scores", "--dry-run", "--force-with-lease"]) == 0
    assert model.git("ls-remote", "origin", "main").split()[0] != model.git("rev-parse", "main")
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "--quiet", tmp_path / "origin.git", other], check=True)
    subprocess.run(["git", "commit", "--quiet", "--allow-empty", "-m", "Meanwhile"], cwd=other, check=True)
    subprocess.run(["git", "push", "--quiet"], cwd=other, check=True, capture_output=True)
    assert run(["push", "--no-scores", "--force-with-lease"]) == 128
    model.git("fetch", "--quiet")
    assert run(["push", "--no-scores", "--force-with-lease"]) == 0
    assert model.git("ls-remote", "origin", "main").split()[0] == model.git("rev-parse", "main")


def test_what_is_not_committed_is_named(model: SampleModel, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["push", "--no-scores"]) == 0
    assert "warning" not in capfd.readouterr().err
    model.write_contribution("breast")
    (model.top / "contributions/breast/distilled.safetensors").unlink()
    model.write_contribution("lung", version=3)
    assert run(["push", "--no-scores"]) == 0
    said = capfd.readouterr().err
    for name in ("breast", "lung"):
        assert f"warning: contributions/{name} is not pushed as it is here: it is not committed" in said
    model.git("branch", "other", "main~1")  # the work tree says nothing of another branch
    assert run(["push", "--no-scores", "origin", "other"]) == 0
    assert "not committed" not in capfd.readouterr().err
