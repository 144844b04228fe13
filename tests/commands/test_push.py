"""`git forge push` goes where `git push` goes: the same refs in the same repositories, or refused as git refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from histories.conftest import start_model
from story.hospitals import forge, git, git_ok

from forge.git.pushing import find_push
from forge.git.running import find_repository

REMOTES = ("origin", "fork", "hospitals/north")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, isolated_home: Path) -> Path:
    """A clone "here" on the branch mine, one commit before its upstream's main, and three bare remotes beside it."""
    folder = tmp_path_factory.mktemp("pushes")
    here = start_model(folder / "here")
    git_ok(here, "config", "core.hooksPath", "/dev/null")  # what hooks do is not the matter here
    for name in REMOTES:
        git_ok(folder, "clone", "--quiet", "--bare", "here", f"{name}.git")
        git_ok(here, "remote", "add", name, f"../{name}.git")
    git_ok(here, "fetch", "--quiet", "--all")
    git_ok(here, "branch", "--set-upstream-to=origin/main", "main")
    git_ok(here, "commit", "--quiet", "--allow-empty", "-m", "new")
    git_ok(here, "branch", "--no-track", "mine")
    return folder


Act = Callable[[Path], object]


def _config(**settings: str) -> Act:
    def act(here: Path) -> None:
        for key, value in settings.items():
            git_ok(here, "config", key.replace("__", "."), value)

    return act


def _all(*acts: Act) -> Act:
    return lambda here: [act(here) for act in acts]


def _git(*args: str) -> Act:
    return lambda here: git_ok(here, *args)


def _included(here: Path) -> None:
    (here.parent / "included").write_text("[user]\n\tname = Somebody\n[remote]\n\tpushDefault = fork\n")
    git_ok(here, "config", "includeIf.hasconfig:remote.*.url:**/*.git.path", str(here.parent / "included"))


MINE = _git("switch", "--quiet", "mine")
FOLLOWS = _all(MINE, _git("branch", "--quiet", "--set-upstream-to=origin/main"))
# What was set, and the arguments of both pushes.
SAME: Mapping[str, tuple[Act, tuple[str, ...]]] = {
    "an upstream of its name": (_config(), ()),
    "pushDefault": (_config(remote__pushDefault="fork"), ()),
    "pushRemote": (_config(branch__main__pushRemote="hospitals/north"), ()),
    "pushRemote before pushDefault": (
        _config(remote__pushDefault="fork", branch__main__pushRemote="hospitals/north"), ()),
    "a fork, of a branch without an upstream": (_all(MINE, _config(remote__pushDefault="fork")), ()),
    "a remote with a slash": (_git("branch", "--quiet", "--set-upstream-to=hospitals/north/main"), ()),
    "an upstream of another name": (FOLLOWS, ()),
    "push.default upstream": (_all(FOLLOWS, _config(push__default="upstream")), ()),
    "push.default upstream, named": (_all(FOLLOWS, _config(push__default="upstream")), ("origin", "mine")),
    "push.default current": (_all(FOLLOWS, _config(push__default="current")), ()),
    "push.default nothing": (_config(push__default="nothing"), ()),
    "push.default nothing, named": (_config(push__default="nothing"), ("fork", "main")),
    "push.default matching": (_config(push__default="matching"), ()),
    "a refspec": (_all(MINE, _config(remote__origin__push="refs/heads/*:refs/heads/from/*")), ()),
    "a refspec, named": (_config(remote__origin__push="refs/heads/*:refs/heads/from/*"), ("origin", "main")),
    "a remote named": (_config(), ("fork",)),
    "remote and branch named": (_config(), ("fork", "mine")),
    "a place named": (_config(), ("../fork.git", "mine")),
    "a tag of the branch's name": (_git("tag", "main", "HEAD~1"), ()),
    "a tag, and all named": (_git("tag", "mine", "HEAD~1"), ("fork", "refs/heads/mine")),
    "a local upstream": (
        _all(_config(branch__autoSetupMerge="always"), _git("switch", "--quiet", "-c", "new")), ()),
    "autoSetupRemote": (_all(MINE, _config(push__autoSetupRemote="true")), ()),
    "included": (_included, ()),
    "another url for pushes": (_config(remote__origin__pushurl="../fork.git"), ()),
    "a remote that is not there": (_config(remote__pushDefault="nobody"), ()),
    "HEAD on no branch": (_git("switch", "--quiet", "--detach"), ()),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_it_goes_where_git_goes(place: Path, tmp_path: Path, case: str) -> None:
    prepare, words = SAME[case]
    outcomes = []
    for name in ("git", "forge"):
        here = shutil.copytree(place, tmp_path / name, symlinks=True) / "here"
        prepare(here)
        if name == "git":
            went = git(here, "push", *words).returncode == 0
        else:
            named = [word.removeprefix("refs/heads/") for word in words]
            went = forge(here, "push", "--no-scores", *named).code == 0
        refs = [git_ok(tmp_path / name / f"{remote}.git", "for-each-ref") for remote in REMOTES]
        outcomes.append((went, refs, git_ok(here, "for-each-ref", "refs/remotes")))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("branch", ["new", "-x", "+new", "x/y"])
def test_a_branch_that_git_knows_no_place_for_gets_an_upstream(place: Path, tmp_path: Path, branch: str) -> None:
    here = shutil.copytree(place, tmp_path / "all", symlinks=True) / "here"
    git_ok(here, "update-ref", f"refs/heads/{branch}", "HEAD")
    git_ok(here, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    said = forge(here, "push", "--no-scores")
    assert said.code == 0, said
    assert git_ok(tmp_path / "all" / "origin.git", "rev-parse", f"refs/heads/{branch}") == git_ok(
        here, "rev-parse", "HEAD"
    )
    assert find_push(find_repository(here), None, None).words == ("--",)  # now git knows


def test_the_git_folder_may_lie_elsewhere(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = shutil.copytree(place, tmp_path / "all", symlinks=True) / "here"
    (here / ".git").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(here))
    said = forge(here, "push", "--no-scores")
    assert said.code == 0, said
    main = git_ok(here, "rev-parse", "main")
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_WORK_TREE")
    assert git_ok(tmp_path / "all" / "origin.git", "rev-parse", "main") == main


def test_a_clone_with_references_in_tables(tmp_path: Path, place: Path) -> None:
    if git(tmp_path, "init", "--quiet", "--ref-format=reftable", "probe").returncode:
        pytest.skip("this git knows no reftable")
    here = shutil.copytree(place, tmp_path / "all", symlinks=True) / "here"
    git_ok(here, "refs", "migrate", "--ref-format=reftable")
    assert forge(here, "push", "--no-scores").code == 0
    assert git_ok(tmp_path / "all" / "origin.git", "rev-parse", "main") == git_ok(here, "rev-parse", "main")
