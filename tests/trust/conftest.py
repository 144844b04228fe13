"""People with real keys, and a repository of theirs that is made once and copied."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
from sample_models import SampleModel
from story.hospitals import forge_ok
from trust.consortium import ADA, BREAST, PEOPLE, SITES, Consortium, Keyring


@pytest.fixture(scope="session", autouse=True)
def openssh() -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen (apt-get install openssh-client)")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory, openssh: None) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path, keys: Keyring) -> Consortium:
    """Not to be changed: copied by `consortium`."""
    return Consortium(tmp_path_factory.mktemp("founded") / "model", keys)


@pytest.fixture
def consortium(founded: Consortium, tmp_path: Path) -> Consortium:
    """breast and lung, each with a site; ada and max maintain."""
    twin = copy.copy(founded)
    twin.top = tmp_path / "a model"
    shutil.copytree(founded.top, twin.top, symlinks=True)
    twin.git("update-index", "-q", "--refresh", check=False)
    return twin


@pytest.fixture
def model(founded: Consortium, tmp_path: Path) -> Consortium:
    """A model that verifies, with rights; breast has come in on the branch `branch`, signed."""
    sample = SampleModel(tmp_path / "model")
    consortium = copy.copy(founded)
    consortium.top = sample.top
    allowed = f'{consortium.keys.allowed(*PEOPLE)}*@h3 cert-authority,valid-before="20270101" '
    keys = {".forge/sites.toml": SITES, ".forge/allowed_signers": allowed + consortium.keys.public("authority") + "\n"}
    consortium.commit(ADA, keys)
    forge_ok(sample.top, "install")
    consortium.branch("branch")
    sample.write_contribution("breast")
    sample.write_item(sample.item({"breast": 1.0}))
    consortium.git("add", "--all")
    consortium.commit(BREAST, {})
    return consortium
