"""Our hooks beside other people's, run by real git."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forge.clone.hooks import (
    HOOKS,
    hook_text,
    hooks_folder,
    hooks_in_place,
    install_hooks,
    is_ours,
    uninstall_hooks,
)
from forge.errors import ForgeError
from forge.git.running import Repository, find_repository

if TYPE_CHECKING:
    from tests.conftest import RunForge, RunGit


@pytest.fixture
def program(tmp_path: Path) -> str:
    """Stands for git-forge: writes down how it was called, and what it was told on standard input."""
    path = tmp_path / "pro$gram with `spaces`"
    path.write_text(
        '#!/bin/sh\n[ "$1" != --version ] || exit 0\n'
        f'{{ echo "$@"; [ "$2" = pre-push ] && cat; }} >>"{tmp_path}/calls"\n[ ! -e "{tmp_path}/refuse" ]\n'
    )
    path.chmod(0o755)
    return f"'{path}'"


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "calls"
    return path.read_text().splitlines() if path.exists() else []


def foreign(folder: Path, name: str, text: str, mode: int = 0o755) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    hook = folder / name
    hook.write_text(f"#!/bin/sh\n{text}\n")
    hook.chmod(mode)
    return hook.read_bytes()


def content_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Everything in a folder of hooks: content and mode by name."""
    return {path.name: (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in sorted(folder.iterdir())}


@pytest.fixture
def model(repository: Repository, run_git: RunGit) -> Repository:
    """A repository with a commit that looks like a model repository to the hooks."""
    (repository.top / "forge-item.json").write_text("{}")
    run_git(repository.top, "add", ".")
    run_git(repository.top, "commit", "-qm", "one")
    return repository


def commit(repo: Repository, git_process: RunForge) -> int:
    """A commit, with another forge item where there is one."""
    item = repo.top / "forge-item.json"
    if item.exists():
        item.write_text(item.read_text() + "\n")
        git_process(repo.top, "add", item.name)
    code = git_process(repo.top, "commit", "--allow-empty", "-m", "x").returncode
    assert isinstance(code, int)
    return code


def test_both_hooks_run_with_their_arguments_and_input(
    model: Repository, program: str, tmp_path: Path, git_process: RunForge, run_git: RunGit
) -> None:
    assert install_hooks(model, program) == []
    assert hooks_in_place(model)
    assert commit(model, git_process) == 0
    assert calls(tmp_path) == ["hook prepare-commit-msg .git/COMMIT_EDITMSG message"]
    run_git(tmp_path, "init", "-q", "--bare", "origin")
    run_git(model.top, "push", "-q", "../origin", "main")
    tip = run_git(model.top, "rev-parse", "main")
    assert calls(tmp_path)[1:] == [
        "hook pre-push ../origin ../origin",
        f"refs/heads/main {tip} refs/heads/main {'0' * 40}",
    ]


@pytest.mark.parametrize(
    ("change", "message", "args", "starts"),
    [
        ("another file", "x", (), False),
        ("the forge item", "x", (), True),
        ("the forge item", "x", ("--", "forge-item.json"), True),
        ("another file", "x\n\nforge-score: by hand", (), True),
        ("another file", None, ("--amend", "--no-edit"), False),
        ("the forge item", None, ("--amend", "--no-edit"), True),
    ],
)
@pytest.mark.parametrize("variables", [{}, {"GIT_LITERAL_PATHSPECS": "1"}, {"GIT_EXTERNAL_DIFF": "false"}])
def test_a_commit_that_is_no_version_starts_nothing(
    model: Repository, program: str, tmp_path: Path, run_git: RunGit, change: str, message: str | None,
    args: tuple[str, ...], starts: bool, variables: dict[str, str],
) -> None:  # fmt: skip
    run_git(model.top, "commit", "--allow-empty", "-qm", "before")
    install_hooks(model, program)
    (model.top / ("forge-item.json" if change == "the forge item" else "README")).write_text("{ }")
    run_git(model.top, "add", ".")
    run_git(model.top, "commit", "-q", *(["-m", message] if message else []), *args, env=variables)
    assert bool(calls(tmp_path)) == starts


def test_the_first_commit_of_all_is_looked_at(
    repository: Repository, program: str, tmp_path: Path, git_process: RunForge
) -> None:
    install_hooks(repository, program)
    (repository.top / "forge-item.json").write_text("{}")
    assert commit(repository, git_process) == 0
    assert calls(tmp_path) == ["hook prepare-commit-msg .git/COMMIT_EDITMSG message"]


def test_a_refusal_stops_a_push_but_no_commit(
    model: Repository, program: str, tmp_path: Path, git_process: RunForge, run_git: RunGit
) -> None:
    install_hooks(model, program)
    (tmp_path / "refuse").touch()
    assert commit(model, git_process) == 0
    run_git(tmp_path, "init", "-q", "--bare", "origin")
    assert git_process(model.top, "push", "../origin", "main").returncode != 0
    assert run_git(tmp_path / "origin", "for-each-ref") == ""


def test_outside_a_model_repository_nothing_is_started(
    repository: Repository, program: str, tmp_path: Path, git_process: RunForge
) -> None:
    install_hooks(repository, program)
    assert commit(repository, git_process) == 0
    assert calls(tmp_path) == []


def test_without_the_program_commits_are_silent_and_pushes_warn(
    model: Repository, tmp_path: Path, git_process: RunForge, run_git: RunGit
) -> None:
    install_hooks(model, "'/no where/git-forge'")
    assert not hooks_in_place(model)
    done = git_process(model.top, "commit", "--allow-empty", "-qm", "x")
    assert (done.returncode, done.stderr) == (0, "")
    run_git(tmp_path, "init", "-q", "--bare", "origin")
    done = git_process(model.top, "push", "-q", "../origin", "main")
    assert done.returncode == 0
    assert "warning: git forge is gone from /no where/git-forge" in done.stderr


def test_foreign_hooks_are_kept_chained_and_restored(
    model: Repository, program: str, tmp_path: Path, run_git: RunGit, git_process: RunForge
) -> None:
    folder = model.git_dir / "hooks"
    foreign(folder, "pre-push", f'echo "foreign $@" >>"{tmp_path}/calls"; cat >>"{tmp_path}/calls"')
    foreign(folder, "prepare-commit-msg", f'echo "foreign $2" >>"{tmp_path}/calls"', mode=0o700)
    foreign(folder, "commit-msg", "exit 0")
    before = content_of(folder)

    assert install_hooks(model, program) == ["prepare-commit-msg", "pre-push"]
    installed = content_of(folder)
    assert install_hooks(model, program) == ["prepare-commit-msg", "pre-push"]
    assert content_of(folder) == installed
    assert installed["commit-msg"] == before["commit-msg"]

    assert commit(model, git_process) == 0
    assert calls(tmp_path) == ["foreign message", "hook prepare-commit-msg .git/COMMIT_EDITMSG message"]
    run_git(tmp_path, "init", "-q", "--bare", "origin")
    run_git(model.top, "push", "-q", "../origin", "main")
    refs = f"refs/heads/main {run_git(model.top, 'rev-parse', 'main')} refs/heads/main {'0' * 40}"
    assert calls(tmp_path)[2:] == [
        "foreign ../origin ../origin",
        refs,
        "hook pre-push ../origin ../origin",
        refs,
    ]

    uninstall_hooks(model)
    assert content_of(folder) == before
    uninstall_hooks(model)
    assert content_of(folder) == before


def test_a_foreign_hook_that_fails_fails(
    model: Repository, program: str, tmp_path: Path, git_process: RunForge
) -> None:
    foreign(model.git_dir / "hooks", "prepare-commit-msg", "exit 3")
    install_hooks(model, program)
    assert commit(model, git_process) != 0
    assert calls(tmp_path) == []


def test_a_foreign_hook_that_git_would_not_run_is_not_run(
    model: Repository, program: str, tmp_path: Path, git_process: RunForge
) -> None:
    foreign(model.git_dir / "hooks", "prepare-commit-msg", "exit 3", mode=0o644)
    before = content_of(model.git_dir / "hooks")
    install_hooks(model, program)
    assert commit(model, git_process) == 0
    uninstall_hooks(model)
    assert content_of(model.git_dir / "hooks") == before


def test_a_link_to_a_foreign_hook_stays_a_link(model: Repository, program: str, tmp_path: Path) -> None:
    foreign(tmp_path / "dotfiles", "mine", "exit 0")
    hook = model.git_dir / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.symlink_to(tmp_path / "dotfiles" / "mine")
    install_hooks(model, program)
    assert (tmp_path / "dotfiles" / "mine").read_text() == "#!/bin/sh\nexit 0\n"
    uninstall_hooks(model)
    assert hook.is_symlink()


@pytest.mark.parametrize("place", [".husky/_", "absolute"])
def test_core_hookspath_is_honoured(
    model: Repository, program: str, tmp_path: Path, run_git: RunGit, git_process: RunForge, place: str
) -> None:
    path = tmp_path / "hooks of mine" if place == "absolute" else model.top / place
    run_git(model.top, "config", "core.hooksPath", str(path) if place == "absolute" else place)
    foreign(path, "pre-push", "exit 0")
    before = content_of(path)
    samples = content_of(model.git_dir / "hooks")
    assert install_hooks(model, program) == ["pre-push"]
    assert hooks_folder(find_repository(model.git_dir)) == path
    assert content_of(model.git_dir / "hooks") == samples
    assert commit(model, git_process) == 0
    assert len(calls(tmp_path)) == 1
    uninstall_hooks(model)
    assert content_of(path) == before


def test_hooks_that_are_turned_off_stay_off(model: Repository, program: str, run_git: RunGit) -> None:
    run_git(model.top, "config", "core.hooksPath", "/dev/null")
    assert install_hooks(model, program) == []
    assert hooks_in_place(model)
    uninstall_hooks(model)


def test_a_linked_work_tree_has_the_hooks_of_the_clone(
    model: Repository, program: str, tmp_path: Path, git_process: RunForge, run_git: RunGit
) -> None:
    run_git(model.top, "worktree", "add", "-q", "../linked")
    linked = find_repository(tmp_path / "linked")
    install_hooks(linked, program)
    assert is_ours(model.git_dir / "hooks" / "pre-push")
    assert commit(linked, git_process) == 0
    assert len(calls(tmp_path)) == 1


def test_a_manager_that_keeps_our_hook_in_its_turn_is_no_endless_loop(
    model: Repository, program: str, tmp_path: Path, git_process: RunForge
) -> None:
    """As pre-commit does: it moves the hook to NAME.legacy and calls it; then git forge is installed again."""
    folder = model.git_dir / "hooks"
    install_hooks(model, program)
    (folder / "prepare-commit-msg").rename(folder / "prepare-commit-msg.legacy")
    foreign(folder, "prepare-commit-msg", 'exec "$0.legacy" "$@"')
    assert not hooks_in_place(model)
    # Called from the kept place, where $0 is NAME.before-forge.
    (folder / "prepare-commit-msg.before-forge.legacy").symlink_to("prepare-commit-msg.legacy")
    install_hooks(model, program)
    assert commit(model, git_process) == 0
    assert len(calls(tmp_path)) == 1


def test_two_foreign_hooks_are_for_a_person_to_join(model: Repository, program: str) -> None:
    folder = model.git_dir / "hooks"
    foreign(folder, "pre-push", "exit 0")
    install_hooks(model, program)
    foreign(folder, "pre-push", "exit 1")
    before = content_of(folder)
    with pytest.raises(ForgeError, match="belongs to another tool") as raised:
        install_hooks(model, program)
    assert "git forge install" in str(raised.value.hint)
    assert content_of(folder) == before
    uninstall_hooks(model)  # neither is lost
    assert content_of(folder)["pre-push"] == before["pre-push"]
    assert content_of(folder)["pre-push.before-forge"] == before["pre-push.before-forge"]


def test_a_folder_that_cannot_be_there_is_an_error_not_a_traceback(
    model: Repository, program: str, run_git: RunGit
) -> None:
    run_git(model.top, "config", "core.hooksPath", "forge-item.json/hooks")
    with pytest.raises(ForgeError, match="Not a directory"):
        install_hooks(model, program)


def test_hooks_are_plain_shell_with_the_program_in_them() -> None:
    for name in HOOKS:
        text = hook_text(name, "'/a b/python' -m forge")
        assert "@" not in text.replace("$@", "")
        assert "program='/a b/python'\n" in text
        assert f"'/a b/python' -m forge hook {name} \"$@\"" in text
