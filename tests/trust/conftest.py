"""People with real keys, and a repository of theirs that is made once and copied."""

from __future__ import annotations

import copy
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from histories.forge_server import forge_server
from sample_models import SampleModel
from story.hospitals import contribution_files, forge_ok, write_contribution
from trust.consortium import ADA, BREAST, PEOPLE, SITES, Consortium, Keyring
from trust.document import Shell, Step

NAMES = ("breast", "lung", "colon")
START = "2026-03-01T12:00:00+00:00"

# Training and distilling take minutes: what they would make lies there already.
SHIM = """\
#!/bin/sh
case "$1" in
train) mkdir -p "contributions/$2" && cd {prepared}/"$2" && cp adapter_* card.toml "$OLDPWD/contributions/$2" ;;
distill) cp {prepared}/"$2"/distilled.safetensors "contributions/$2" ;;
*) exec {program} "$@" ;;
esac
"""
SET_UP = """\
#!/bin/sh
ssh-keygen -q -t ed25519 -N "" -C "$2" -f ~/.ssh/id_ed25519
git config --global user.name "$1"
git config --global user.email "$2"
git config --global gpg.format ssh
git config --global user.signingKey ~/.ssh/id_ed25519.pub
git config --global commit.gpgSign true
"""


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


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """contributions/NAME of three hospitals for the embedded base."""
    import torch

    from forge.model.base import load_base

    torch.set_num_threads(1)
    base = load_base("embedded")
    folder = tmp_path_factory.mktemp("prepared")
    for name in NAMES:
        write_contribution(folder, name, contribution_files(base, name))
    return folder / "contributions"


@pytest.fixture(scope="session")
def quick_forge() -> Iterator[Path]:
    """The folder of a git forge that has loaded the embedded base already."""
    with forge_server(Path("embedded")) as folder:
        yield folder


@pytest.fixture
def shell(prepared: Path, quick_forge: Path, tmp_path: Path) -> Shell:
    programs = tmp_path / "programs"
    programs.mkdir()
    own = shlex.quote(str(quick_forge / "git-forge"))
    scripts = {
        "git-forge": SHIM.format(prepared=shlex.quote(str(prepared)), program=own),
        "set-up-signing": SET_UP,
        "git-filter-repo": f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m git_filter_repo "$@"\n',
    }
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    server = tmp_path / "server"
    settings = f'[init]\n\tdefaultBranch = main\n[url "file://{server}/"]\n\tinsteadOf = git@git.example:\n'
    found = Shell(tmp_path, f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}", settings, START)
    found.do(Step("as", "server"))
    code, said = found.run("git init --quiet --bare model")
    assert code == 0, said
    return found
