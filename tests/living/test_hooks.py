"""Our hooks in one clone with husky, pre-commit and git-lfs, the real ones, in any order."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forge import cli
from forge.clone import setup as clone_setup
from forge.clone.hooks import (
    hooks_by_hand,
    hooks_folder_of_all,
    hooks_in_place,
    install_hooks,
    is_ours,
    uninstall_hooks,
)
from forge.git.running import Repository, find_repository

if TYPE_CHECKING:
    from living.conftest import Folder

    from tests.conftest import RunForge, RunGit

Log = Callable[[], list[str]]
ContentOf = Callable[[Path], "Folder"]

needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")

# What husky 9.1.7 writes: one such file for every hook, and `h`.
HUSKY_9 = '#!/usr/bin/env sh\n. "$(dirname "$0")/h"'
HUSKY_9_H = """\
#!/usr/bin/env sh
[ "$HUSKY" = "2" ] && set -x
n=$(basename "$0")
s=$(dirname "$(dirname "$0")")/$n

[ ! -f "$s" ] && exit 0
sh -e "$s" "$@"
c=$?
[ $c != 0 ] && echo "husky - $n script failed (code $c)"
exit $c
"""
# What matters of husky 8: the hook starts itself again by "$0".
HUSKY_8 = '#!/usr/bin/env sh\n. "$(dirname -- "$0")/_/husky.sh"\necho "husky $(basename "$0")" >>"%s"\n'
HUSKY_8_SH = """\
#!/usr/bin/env sh
if [ -z "$husky_skip_init" ]; then
  readonly husky_skip_init=1
  export husky_skip_init
  sh -e "$0" "$@"
  exit $?
fi
"""


def write_hook(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def commit(repo: Repository, git_process: RunForge) -> subprocess.CompletedProcess[str]:
    """A commit, in a model with another forge item, so that each of our hooks has something to do."""
    item = repo.top / "forge-item.json"
    if item.exists():
        item.write_text(item.read_text() + "\n")
        git_process(repo.top, "add", item.name)
    done = git_process(repo.top, "commit", "--allow-empty", "-qm", "x")
    assert done.returncode == 0, done.stderr + done.stdout
    return done


def push(repo: Repository, git_process: RunForge) -> None:
    done = git_process(repo.top, "push", "-q", "origin", "main")
    assert done.returncode == 0, done.stderr + done.stdout


def npx_husky(repo: Repository, run_git: RunGit) -> Path:
    """What `npx husky` does, at every `npm install`; the folder of its hooks."""
    folder = repo.top / ".husky" / "_"
    run_git(repo.top, "config", "core.hooksPath", ".husky/_")
    for name in ("pre-commit", "prepare-commit-msg", "commit-msg", "pre-push"):
        write_hook(folder / name, HUSKY_9)
    (folder / "h").write_text(HUSKY_9_H)
    (folder / ".gitignore").write_text("*")
    return folder


def test_husky_is_chained_survives_npm_install_and_is_restored(
    clone: Repository, program: str, log: Log, tmp_path: Path, run_git: RunGit, git_process: RunForge,
    content_of: ContentOf,
) -> None:  # fmt: skip
    folder = npx_husky(clone, run_git)
    for name in ("prepare-commit-msg", "pre-push"):
        write_hook(clone.top / ".husky" / name, f"echo \"husky {name} $#\" >>'{tmp_path}/log'\n")
    run_git(clone.top, "add", ".")
    before = content_of(clone.top / ".husky")

    for _ in range(2):
        assert install_hooks(clone, program) == ["prepare-commit-msg", "pre-push"]
        commit(clone, git_process)
        assert log() == ["husky prepare-commit-msg 2", "forge prepare-commit-msg"]
        push(clone, git_process)
        assert log() == ["husky pre-push 2", "forge pre-push", "refs/heads/main"]
        assert not run_git(clone.top, "status", "--porcelain", "--untracked-files=all")
        npx_husky(clone, run_git)
        assert not hooks_in_place(clone)

    write_hook(clone.top / ".husky" / "pre-push", "exit 1\n")
    install_hooks(clone, program)
    assert git_process(clone.top, "push", "-q", "origin", "main:other").returncode != 0
    assert log() == []
    write_hook(clone.top / ".husky" / "pre-push", f"echo \"husky pre-push $#\" >>'{tmp_path}/log'\n")
    uninstall_hooks(clone)
    assert content_of(clone.top / ".husky") == before
    assert folder.is_dir()


def test_a_hook_that_starts_itself_again_runs_once(
    clone: Repository, program: str, log: Log, tmp_path: Path, run_git: RunGit, git_process: RunForge
) -> None:
    """husky 8, its folder not under version control."""
    run_git(clone.top, "config", "core.hooksPath", ".husky")
    write_hook(clone.top / ".husky" / "prepare-commit-msg", HUSKY_8 % (tmp_path / "log"))
    write_hook(clone.top / ".husky" / "_" / "husky.sh", HUSKY_8_SH)
    install_hooks(clone, program)
    commit(clone, git_process)
    assert log() == ["husky prepare-commit-msg.before-forge", "forge prepare-commit-msg"]


def test_hooks_under_version_control_are_left_to_a_person(
    clone: Repository, program: str, log: Log, tmp_path: Path, run_git: RunGit, git_process: RunForge,
    content_of: ContentOf,
) -> None:  # fmt: skip
    """A relative core.hooksPath; our other hook is put beside them, where no `git add .` finds it."""
    folder = clone.top / ".git hooks"
    exclude = clone.git_dir / "info" / "exclude"
    exclude.write_text("*.o")  # no newline at the end
    run_git(clone.top, "config", "core.hooksPath", ".git hooks")
    write_hook(folder / "pre-push", f"#!/bin/sh\necho own >>'{tmp_path}/log'\n")
    run_git(clone.top, "add", ".")
    commit(clone, git_process)
    before = content_of(clone.top)

    for _ in range(2):
        assert install_hooks(clone, program) == []
        assert hooks_in_place(clone)
    assert [place.call() for place in hooks_by_hand(clone)] == ['git forge hook pre-push "$@"']
    run_git(clone.top, "add", "--all")
    assert run_git(clone.top, "status", "--porcelain") == ""
    commit(clone, git_process)
    push(clone, git_process)
    assert log() == ["forge prepare-commit-msg", "own"]

    uninstall_hooks(clone)
    after = content_of(clone.top)
    changing = [path for path in after if path.startswith((".git/logs", ".git/objects", ".git/refs"))]
    assert exclude.read_text() == "*.o"
    unchanged = {path for path in before if not path.startswith((".git/", "forge-item"))} | {
        ".git/info/exclude",
        ".git/config",
    }
    assert {path: after[path] for path in unchanged} == {path: before[path] for path in unchanged}
    assert not [path for path in after if "forge" in path and path != "forge-item.json" and path not in changing]

    with (folder / "pre-push").open("a") as script:
        script.write('git forge hook pre-push "$@"\n')
    assert hooks_by_hand(clone) == []


@pytest.mark.parametrize("place", ["~/my hooks", "ABSOLUTE"])
def test_one_folder_of_hooks_for_all_repositories(
    clone: Repository, program: str, log: Log, tmp_path: Path, run_git: RunGit, git_process: RunForge,
    user_settings: Path, monkeypatch: pytest.MonkeyPatch, content_of: ContentOf, place: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / ("home/my hooks" if place[0] == "~" else "everybody")
    run_git(clone.top, "config", "--global", "core.hooksPath", place.replace("ABSOLUTE", str(folder)))
    write_hook(folder / "pre-push", f"#!/bin/bash\necho \"own ${{0##*/}}\" >>'{tmp_path}/log'\n")
    before = content_of(folder)
    assert install_hooks(clone, program) == ["pre-push"]
    assert hooks_folder_of_all(clone) == folder
    commit(clone, git_process)
    push(clone, git_process)
    assert log() == ["forge prepare-commit-msg", "own pre-push", "forge pre-push", "refs/heads/main"]

    run_git(tmp_path, "init", "-q", "no model")
    other = find_repository(tmp_path / "no model")
    assert hooks_in_place(other)
    commit(other, git_process)
    run_git(other.top, "push", "-q", str(tmp_path / "origin.git"), "main:other")
    assert log() == ["own pre-push"]  # theirs runs as ever; no program is started

    uninstall_hooks(clone)
    assert content_of(folder) == before


def test_a_hookspath_that_is_empty_means_no_hooks(clone: Repository, program: str, run_git: RunGit) -> None:
    run_git(clone.top, "config", "core.hooksPath", "")
    assert install_hooks(clone, program) == []
    assert hooks_in_place(clone)
    uninstall_hooks(clone)


# pre-commit ------------------------------------------------------------------------------------------------------

PRE_COMMIT = """\
default_install_hook_types: [prepare-commit-msg, pre-push]
repos:
  - repo: local
    hooks:
      - id: own
        name: own
        language: system
        entry: sh -c 'echo "pre-commit" >>"{log}"'
        always_run: true
        pass_filenames: false
        stages: [prepare-commit-msg, pre-push]
"""


@pytest.fixture
def pre_commit(
    clone: Repository, tmp_path: Path, run_git: RunGit, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """pre_commit("install"): the real one, with one local hook for both of our hooks' types."""
    pytest.importorskip("pre_commit")
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "pre-commit-home"))
    (clone.top / ".pre-commit-config.yaml").write_text(PRE_COMMIT.format(log=tmp_path / "log"))
    run_git(clone.top, "add", ".")
    run_git(clone.top, "commit", "-qm", "pre-commit")

    def run(verb: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "pre_commit", verb], cwd=clone.top, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    "order",
    [("pre-commit", "forge"), ("forge", "pre-commit"), ("pre-commit", "forge", "pre-commit", "forge", "pre-commit")],
    ids=", ".join,
)
def test_pre_commit_and_git_forge_both_run_once_in_any_order(
    clone: Repository, program: str, log: Log, git_process: RunForge, content_of: ContentOf,
    pre_commit: Callable[[str], None], order: tuple[str, ...],
) -> None:  # fmt: skip
    hooks = clone.git_dir / "hooks"
    before = content_of(hooks)
    for tool in order:
        if tool == "forge":
            install_hooks(clone, program)
        else:
            pre_commit("install")
    assert hooks_in_place(clone)
    commit(clone, git_process)
    assert sorted(log()) == ["forge prepare-commit-msg", "pre-commit"]
    push(clone, git_process)
    assert sorted(log()) == ["forge pre-push", "pre-commit", "refs/heads/main"]

    uninstall_hooks(clone)
    assert not [name for name in content_of(hooks) if name.endswith("before-forge") or is_ours(hooks / name)]
    commit(clone, git_process)
    assert log() == ["pre-commit"]
    pre_commit("uninstall")
    assert content_of(hooks) == before


def test_ours_stays_when_pre_commit_goes(
    clone: Repository, program: str, log: Log, git_process: RunForge, pre_commit: Callable[[str], None], tmp_path: Path
) -> None:
    own = clone.git_dir / "hooks" / "prepare-commit-msg"
    write_hook(own, f"#!/bin/sh\necho own >>'{tmp_path}/log'\n")
    before = own.read_bytes()
    install_hooks(clone, program)
    pre_commit("install")
    commit(clone, git_process)
    assert log() == ["own", "forge prepare-commit-msg", "pre-commit"]
    install_hooks(clone, program)  # in pre-commit's care: written where it is
    assert not is_ours(own)
    pre_commit("uninstall")
    assert hooks_in_place(clone)
    commit(clone, git_process)
    assert log() == ["own", "forge prepare-commit-msg"]
    pre_commit("install")
    uninstall_hooks(clone)  # what was kept is where pre-commit would have it
    commit(clone, git_process)
    assert log() == ["own", "pre-commit"]
    pre_commit("uninstall")
    assert own.read_bytes() == before


# git-lfs ---------------------------------------------------------------------------------------------------------


@needs_lfs
@pytest.mark.parametrize("order", [("lfs", "forge"), ("forge", "lfs", "forge")], ids=", ".join)
def test_git_lfs_uploads_with_our_hook_in_its_place(
    clone: Repository, program: str, log: Log, run_git: RunGit, git_process: RunForge, tmp_path: Path,
    content_of: ContentOf, order: tuple[str, ...],
) -> None:  # fmt: skip
    hooks = clone.git_dir / "hooks"
    for tool in order:
        if tool == "forge":
            install_hooks(clone, program)
        elif is_ours(hooks / "pre-push"):
            done = git_process(clone.top, "lfs", "install", "--local")
            assert "Hook already exists: pre-push" in done.stdout + done.stderr  # it never overwrites
            run_git(clone.top, "lfs", "update", "--force")
        else:
            run_git(clone.top, "lfs", "install", "--local")
    assert hooks_in_place(clone)
    run_git(clone.top, "lfs", "track", "*.bin")
    (clone.top / "large.bin").write_bytes(b"large")
    run_git(clone.top, "add", ".")
    commit(clone, git_process)
    push(clone, git_process)
    assert log() == ["forge prepare-commit-msg", "forge pre-push", "refs/heads/main"]
    uploaded = [
        file.read_bytes() for file in (tmp_path / "origin.git" / "lfs" / "objects").rglob("*") if file.is_file()
    ]
    assert uploaded == [b"large"]

    uninstall_hooks(clone)
    alone = content_of(hooks)
    shutil.rmtree(hooks)
    run_git(clone.top, "lfs", "install", "--local")
    assert {name: text for name, text in alone.items() if not name.endswith(".sample")} == content_of(hooks)


@needs_lfs
def test_pre_commit_git_lfs_and_git_forge_together(
    clone: Repository, program: str, log: Log, run_git: RunGit, git_process: RunForge, content_of: ContentOf,
    pre_commit: Callable[[str], None], tmp_path: Path,
) -> None:  # fmt: skip
    run_git(clone.top, "lfs", "install", "--local")
    install_hooks(clone, program)
    pre_commit("install")
    run_git(clone.top, "lfs", "track", "*.bin")
    (clone.top / "large.bin").write_bytes(b"large")
    run_git(clone.top, "add", ".")
    commit(clone, git_process)
    push(clone, git_process)
    assert log() == ["forge prepare-commit-msg", "pre-commit", "forge pre-push", "refs/heads/main", "pre-commit"]
    assert any((tmp_path / "origin.git" / "lfs" / "objects").rglob("*"))


# What install says -----------------------------------------------------------------------------------------------


def said(folder: Path, *args: str) -> str:
    """Standard output of `git forge ARGS`, run in this process."""
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.run(list(args)) == 0
    return out.getvalue()


def test_install_says_where_the_hooks_are_not_its_own(
    clone: Repository, tmp_path: Path, run_git: RunGit, user_settings: Path
) -> None:
    run_git(clone.top, "config", "--global", "core.hooksPath", str(tmp_path / "everybody"))
    assert f"The hooks are in {tmp_path}/everybody, which core.hooksPath names" in said(clone.top, "install")
    assert f"The hooks were in {tmp_path}/everybody" in said(clone.top, "uninstall")
    assert list((tmp_path / "everybody").iterdir()) == []

    write_hook(clone.top / "scripts" / "pre-push", "#!/bin/sh\n")
    run_git(clone.top, "add", ".")
    run_git(clone.top, "config", "core.hooksPath", "scripts")
    words = said(clone.top, "install").splitlines()
    assert words[1:] == [
        f"{clone.top}/scripts/pre-push is under version control and was left as it is; add this line to it:",
        '    git forge hook pre-push "$@"',
    ]
    assert clone_setup.is_installed(clone)

    run_git(clone.top, "config", "core.hooksPath", "/dev/null")
    assert "core.hooksPath turns hooks off here" in said(clone.top, "install")
