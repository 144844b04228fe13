"""One story under each setting that other people's machines have: the same is said as without it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

import pytest
from histories.conftest import Files, start_model
from hostile.story import Environment, Teller, tell
from story.hospitals import NAMES, contribute, git, git_ok

ALL = bool(os.environ.get("FORGE_TEST_HOSTILE"))


def _nothing(place: Path) -> Path:
    return place / "here"


def _configured(**settings: str) -> Callable[[Path], Path]:
    def prepare(place: Path) -> Path:
        for key, value in settings.items():
            git_ok(place / "here", "config", key.replace("__", "."), value)
        return place / "here"

    return prepare


def _all(place: Path, *prepare: Callable[[Path], Path]) -> Path:
    return [each(place) for each in prepare][-1]


def _sparse(place: Path) -> Path:
    git_ok(place / "here", "sparse-checkout", "set")
    return place / "here"


def _partial(place: Path) -> Path:
    origin = place / "origin.git"
    git_ok(origin, "config", "uploadpack.allowFilter", "true")
    git_ok(origin, "config", "uploadpack.allowAnySHA1InWant", "true")
    git_ok(place, "clone", "--quiet", "--filter=blob:none", f"file://{origin}", "partial")
    for name in NAMES:
        git_ok(place / "partial", "branch", "--quiet", name, f"origin/{name}")
    return place / "partial"


def _work_tree(place: Path) -> Path:
    git_ok(place / "here", "switch", "--quiet", "--detach")
    git_ok(place / "here", "worktree", "add", "--quiet", "../linked tree", "main")
    return place / "linked tree"


def _signing(place: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / "key")], check=True)
    (place / "signers").write_text("ada@example.org " + (place / "key.pub").read_text())
    settings = {
        "gpg.format": "ssh", "user.signingKey": str(place / "key"), "commit.gpgSign": "true", "tag.gpgSign": "true",
        "gpg.ssh.allowedSignersFile": str(place / "signers"), "log.showSignature": "true",
    }  # fmt: skip
    for key, value in settings.items():
        git_ok(place / "here", "config", key, value)
    return place / "here"


def _shared(place: Path) -> Path:
    """As `git init --shared` makes it."""
    for path in (place / "here/.git", *(place / "here/.git").rglob("*")):
        path.chmod(path.stat().st_mode | (0o2070 if path.is_dir() else 0o060))
    return _configured(core__sharedRepository="group")(place)


def _watched(place: Path) -> Path:
    """A monitor of files that says each time that everything may have changed."""
    monitor = place / "monitor"
    monitor.write_text("#!/bin/sh\nprintf 'now\\0/\\0'\n")
    monitor.chmod(0o755)
    return _configured(core__fsmonitor=str(monitor), core__untrackedCache="true")(place)


def _hooks_elsewhere(place: Path) -> Path:
    hooks = shutil.move(place / "here/.git/hooks", place / "my hooks")
    (Path(hooks) / "pre-commit").write_text("#!/bin/sh\nexit 0\n")
    return _configured(core__hooksPath=str(hooks))(place)


def _half_dead(place: Path) -> Path:
    """The git forge that was recorded is a file that may be executed, and its interpreter is gone."""
    here, old = place / "here", place / "old" / "git-forge"
    old.parent.mkdir()
    old.write_text(f"#!{old.parent}/python\nimport forge\n")
    old.chmod(0o755)
    program = shlex.split(git_ok(here, "config", "merge.forge.driver"))[0]
    for key in ("merge.forge.driver", "merge.forge-union.driver", "diff.forge.textconv", "filter.forge.process"):
        git_ok(here, "config", key, git_ok(here, "config", key).replace(program, str(old)))
    for hook in (here / ".git/hooks").iterdir():
        hook.write_text(hook.read_text().replace(program, str(old)))
    return here


@dataclass(frozen=True)
class Setting:
    """prepare: makes it so, in a folder with "here" and "origin.git", and says where the story is told.

    made: variables under which the model itself is made, where git cannot be told later. quick: in every test run.
    """

    prepare: Callable[[Path], Path] = _nothing
    variables: Environment = field(default_factory=dict)
    umask: int = 0o022
    made: Mapping[str, str] = field(default_factory=dict)
    quick: bool = False


_ADA = {"NAME": "Ada Example", "EMAIL": "ada@example.org"}
CONFIGURED = {
    "core__autocrlf": "true",
    "core__safecrlf": "true",
    "merge__renormalize": "true",
    "merge__conflictStyle": "zdiff3",
    "rerere__enabled": "true",
    "rerere__autoUpdate": "true",
    "i18n__logOutputEncoding": "ISO-8859-1",
    "color__ui": "always",
    "diff__renames": "copies",
    "trailer__ifexists": "doNothing",
    "branch__sort": "-committerdate",
    "column__ui": "always",
    "commit__verbose": "true",
    "core__abbrev": "40",
    "core__ignoreCase": "true",
    "core__fileMode": "false",
    "core__splitIndex": "true",
    "diff__mnemonicPrefix": "true",
    "diff__noprefix": "true",
    "diff__orderFile": "/dev/null",
    "format__pretty": "fuller",
    "index__version": "4",
    "log__abbrevCommit": "true",
    "log__date": "relative",
    "status__showUntrackedFiles": "no",
    "status__short": "true",
    "submodule__recurse": "true",
}
WHO = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _ADA.items()}
SETTINGS = {
    "sha256": Setting(made={"GIT_DEFAULT_HASH": "sha256"}, quick=True),
    "reftable": Setting(made={"GIT_DEFAULT_REF_FORMAT": "reftable"}),
    "shared": Setting(_shared, umask=0o077),
    "sparse": Setting(_sparse),
    "partial": Setting(_partial),
    "work tree": Setting(_work_tree),
    "crlf": Setting(_configured(core__autocrlf="true", core__safecrlf="true")),
    "renormalize": Setting(_configured(merge__renormalize="true")),
    "zdiff3 and rerere": Setting(
        _configured(merge__conflictStyle="zdiff3", rerere__enabled="true", rerere__autoUpdate="true")),
    "signing": Setting(_signing),
    "watched": Setting(_watched),
    "German": Setting(variables={"LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"}),
    "latin-1": Setting(
        _configured(i18n__logOutputEncoding="ISO-8859-1"), {"PYTHONIOENCODING": "latin-1", "LC_ALL": "C"}),
    "no home": Setting(variables={"HOME": None, "XDG_CONFIG_HOME": None, "GIT_CONFIG_GLOBAL": None, **WHO}),
    "umask": Setting(umask=0o077),
    "hooks elsewhere": Setting(_hooks_elsewhere),
    "pathspecs": Setting(variables={"GIT_LITERAL_PATHSPECS": "1"}),
    "no PATH": Setting(variables={"PATH": "/usr/bin:/bin"}),
    "half-dead": Setting(_half_dead),
    "all at once": Setting(
        lambda place: _all(place, _hooks_elsewhere, _watched, _signing, _sparse, _configured(**CONFIGURED)),
        {"LANGUAGE": "de", "PATH": "/usr/bin:/bin", "GIT_LITERAL_PATHSPECS": "1", "PYTHONIOENCODING": "latin-1",
         "HOME": None},
        umask=0o077, quick=True),
    "colours and renames": Setting(_configured(
        color__ui="always", diff__renames="copies", diff__noprefix="true", log__follow="true", diff__external="false",
        trailer__ifexists="doNothing", trailer__separators="=", commit__verbose="true", core__quotePath="false",
        status__short="true", log__decorate="full", push__default="nothing", merge__ff="true")),
}  # fmt: skip


def _make(place: Path, contributions: Files) -> Path:
    """A model on main with a branch for each hospital, and a bare origin beside it."""
    here = start_model(place / "here")
    for name in NAMES:
        contribute(here, name, contributions[name])
    git_ok(place, "clone", "--quiet", "--bare", "here", "origin.git")
    git_ok(here, "remote", "add", "origin", "../origin.git")
    git_ok(here, "fetch", "--quiet")
    git_ok(here, "branch", "--quiet", "--set-upstream-to=origin/main", "main")
    return place


@pytest.fixture(scope="module")
def start(
    tmp_path_factory: pytest.TempPathFactory, contributions: Files, quick_for_all: Path, isolated_home: Path
) -> Path:
    return _make(tmp_path_factory.mktemp("start"), contributions)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, start: Path, contributions: Files, quick_for_all: Path) -> str:
    place = Path(shutil.copytree(start, tmp_path_factory.mktemp("plain") / "all", symlinks=True))
    return tell(Teller(place / "here", quick_for_all), contributions)


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.quick or ALL])
def test_the_same_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: Path,
    plain: str,
    contributions: Files,
    quick_for_all: Path,
    name: str,
) -> None:
    setting = SETTINGS[name]
    if name == "reftable" and git(tmp_path, "init", "--quiet", "--ref-format=reftable", "probe").returncode:
        pytest.skip("this git knows no reftable")
    if setting.made:
        with monkeypatch.context() as patch:
            for key, value in setting.made.items():
                patch.setenv(key, value)
            place = _make(tmp_path / "all", contributions)
    else:
        place = Path(shutil.copytree(start, tmp_path / "all", symlinks=True))
    top = setting.prepare(place)
    teller = Teller(top, quick_for_all, setting.variables, setting.umask)
    told = tell(teller, contributions)
    assert not (lines := [*unified_diff(plain.split("\n"), told.split("\n"), "plain", name, lineterm="")]), "\n".join(
        lines
    )
    if name == "shared":
        _assert_all_of_a_group_may_write(top)


def _assert_all_of_a_group_may_write(top: Path) -> None:
    """What git forge keeps in such a repository, whatever the umask of who wrote last; as git does with its own."""
    kept = [top / ".git/forge", *(top / ".git/forge").rglob("*")]
    assert kept
    assert [path for path in kept if path.stat().st_mode & 0o060 != 0o060] == []
