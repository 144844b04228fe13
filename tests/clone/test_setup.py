from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forge.clone import compression
from forge.clone import hooks as hook_files
from forge.clone import setup as clone_setup
from forge.clone.setup import (
    SETTINGS,
    add_attributes,
    ensure_installed,
    expected,
    install,
    is_installed,
    program,
    uninstall,
)
from forge.errors import ForgeError
from forge.git.running import Repository, find_repository
from forge.repo.storage import attribute_lines

if TYPE_CHECKING:
    from tests.conftest import RunGit


def config_of(repo: Repository) -> bytes:
    return (repo.common_dir / "config").read_bytes()


def test_the_program_is_there_by_its_absolute_path() -> None:
    words = shlex.split(program())
    assert Path(words[0]).is_absolute()
    assert Path(words[0]).is_file()


def test_without_a_script_the_module_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my python"))
    assert shlex.split(program()) == [str(tmp_path / "my python"), "-P", "-m", "forge"]


def test_the_settings_are_those_that_git_needs(repository: Repository, run_git: RunGit) -> None:
    assert not is_installed(repository)
    install(repository)
    assert is_installed(repository)
    for key, value in expected().items():
        assert run_git(repository.top, "config", "--local", key) == value
    assert run_git(repository.top, "config", "--type=bool", "filter.forge.required") == "true"


def test_again_changes_nothing_and_uninstall_restores(repository: Repository, run_git: RunGit) -> None:
    run_git(repository.top, "config", "alias.lg", "log --graph")
    before = config_of(repository)
    install(repository)
    installed = config_of(repository)
    install(repository)
    assert config_of(repository) == installed != before
    uninstall(repository)
    assert config_of(repository) == before
    uninstall(repository)
    assert config_of(repository) == before


def test_a_persons_own_setting_is_not_replaced(repository: Repository, run_git: RunGit) -> None:
    run_git(repository.top, "config", "filter.forge.process", "my-own-filter --fast")
    before = config_of(repository)
    with pytest.raises(ForgeError, match=r"filter\.forge\.process is already: my-own-filter") as raised:
        install(repository)
    assert "--force" in str(raised.value.hint)
    assert config_of(repository) == before
    uninstall(repository)
    assert config_of(repository) == before
    install(repository, force=True)
    assert is_installed(repository)


def test_an_older_value_is_replaced(repository: Repository, run_git: RunGit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clone_setup.OLDER, "diff.forge.textconv", ("{program} show-file",))
    run_git(repository.top, "config", "diff.forge.textconv", "/old/git-forge show-file")
    install(repository)
    assert run_git(repository.top, "config", "diff.forge.textconv") == expected()["diff.forge.textconv"]


def test_a_fresh_clone_is_set_up_once_and_says_so(repository: Repository) -> None:
    message = ensure_installed(repository)
    assert message is not None and "git forge install" in message
    assert is_installed(repository)
    assert ensure_installed(repository) is None


def test_a_program_that_is_gone_is_set_up_again(repository: Repository, run_git: RunGit) -> None:
    install(repository)
    run_git(repository.top, "config", "merge.forge.driver", "'/gone/git-forge' merge-driver %O %A %B %P")
    assert not is_installed(repository)
    message = ensure_installed(repository)
    assert message is not None and "program that is gone" in message
    assert is_installed(repository)


def record(repo: Repository, run_git: RunGit, place: Path, text: str) -> None:
    """Set the clone up with a program of this text."""
    place.parent.mkdir(exist_ok=True)
    place.write_text(text)
    place.chmod(0o755)
    quoted = shlex.quote(str(place))
    for key, value in SETTINGS.items():
        filled = value.format(program=quoted, driver=quoted.replace("%", "%%"))
        run_git(repo.top, "config", key, filled)
    compression.set_up(repo)
    hook_files.install_hooks(repo, quoted)


def test_a_program_elsewhere_that_starts_is_left_alone(repository: Repository, run_git: RunGit, tmp_path: Path) -> None:
    log = tmp_path / "log"
    record(repository, run_git, tmp_path / "100% mine" / "git-forge", f'#!/bin/sh\necho "$*" >>{log}\n')
    before = config_of(repository)
    assert ensure_installed(repository) is None
    assert config_of(repository) == before
    assert log.read_text() == "--version\n"  # once for all of them


@pytest.mark.parametrize(
    "text",
    [
        "#!/gone/bin/python3.11\nimport forge\n",
        "#!/bin/sh\nexit 1\n",
        "#!/bin/sh\nexec /gone/python -m forge\n",
        "\0ELF",
    ],
    ids=["interpreter", "import", "wrapper", "format"],
)
def test_a_program_that_is_there_and_does_not_start(
    repository: Repository, run_git: RunGit, tmp_path: Path, text: str
) -> None:
    record(repository, run_git, tmp_path / "old" / "git-forge", text)
    assert not is_installed(repository)
    message = ensure_installed(repository)
    assert message is not None and "does not start" in message
    assert is_installed(repository)
    assert b"old/git-forge" not in config_of(repository)
    assert str(tmp_path / "old") not in (repository.git_dir / "hooks" / "pre-push").read_text()


@pytest.mark.parametrize("what", ["settings", "hooks"])
def test_what_looks_for_modules_in_the_work_tree_is_set_up_again(
    repository: Repository, run_git: RunGit, what: str
) -> None:
    """As earlier versions recorded it where git-forge does not lie beside its Python."""
    unsafe = f"{shlex.quote(sys.executable)} -m forge"
    install(repository)
    if what == "settings":
        run_git(repository.top, "config", "merge.forge.driver", f"{unsafe} merge-driver %O %A %B %P")
    else:
        hook_files.install_hooks(repository, unsafe)
    assert not is_installed(repository)
    assert ensure_installed(repository) is not None
    assert is_installed(repository)
    assert unsafe not in run_git(repository.top, "config", "--list")
    assert unsafe not in (repository.git_dir / "hooks" / "pre-push").read_text()


@pytest.mark.parametrize("switches", [("-P",), ()])
def test_no_module_of_the_work_tree_is_imported(repository: Repository, switches: tuple[str, ...]) -> None:
    for name in ("click", "forge_helper", "json", "git"):
        (repository.top / f"{name}.py").write_text("open('ran', 'w').close()\nraise SystemExit(9)\n")
    done = subprocess.run(
        [sys.executable, *switches, "-m", "forge", "--version"], cwd=repository.top, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("git forge "), done.stderr
    assert not (repository.top / "ran").exists()


def test_a_missing_hook_is_put_back(repository: Repository) -> None:
    install(repository)
    (repository.git_dir / "hooks" / "pre-push").unlink()
    assert ensure_installed(repository) is not None
    assert is_installed(repository)


def test_a_clone_that_cannot_be_set_up_is_a_warning(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository.git_dir / "config.lock").touch()  # as if another git were writing, or the folder read-only
    message = ensure_installed(repository)
    assert message is not None and message.startswith("warning: ")


def test_global_settings_count_and_the_clone_gets_its_hooks(
    repository: Repository, user_settings: Path, run_git: RunGit
) -> None:
    before = user_settings.read_bytes()
    install(None, "global")
    assert run_git(repository.top, "config", "--global", "filter.forge.required") == "true"
    assert not hook_files.hooks_in_place(repository)
    hook_files.install_hooks(repository, program())
    assert is_installed(repository)
    uninstall(None, "global")
    assert user_settings.read_bytes() == before


def test_a_linked_work_tree_shares_the_set_up(repository: Repository, run_git: RunGit, tmp_path: Path) -> None:
    run_git(repository.top, "commit", "--allow-empty", "-qm", "one")
    run_git(repository.top, "worktree", "add", "-q", "../linked")
    install(find_repository(tmp_path / "linked"))
    assert is_installed(repository)


def test_percent_signs_reach_the_merge_driver_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone_setup, "program", lambda: "'/50%/git-forge'")
    assert expected()["merge.forge.driver"].startswith("'/50%%/git-forge' merge-driver %O")
    assert expected()["filter.forge.process"].startswith("'/50%/git-forge' ")


def test_attributes_are_added_once_to_what_is_there(repository: Repository, run_git: RunGit) -> None:
    path = repository.top / ".gitattributes"
    path.write_text("*.png binary")
    assert add_attributes(repository)
    assert path.read_text().splitlines() == ["*.png binary", *attribute_lines()]
    assert not add_attributes(repository)
    run_git(repository.top, "config", "core.autocrlf", "true")
    names = ("filter", "diff", "merge", "text", "eol")

    def attributes(file: str) -> list[str]:
        listing = run_git(repository.top, "check-attr", *names, "--", file)
        return [line.rpartition(": ")[2] for line in listing.splitlines()]

    assert attributes("forge-item.json") == ["unspecified", "forge", "forge", "set", "lf"]
    assert attributes("contributions/a/adapter_model.safetensors") == [
        "forge",
        "forge",
        "binary",
        "unset",
        "unspecified",
    ]
    assert attributes("contributions/a/distilled.safetensors") == ["forge", "forge", "binary", "unset", "unspecified"]
    assert attributes("forge.toml") == ["unspecified", "unspecified", "unspecified", "set", "lf"]
    for file in ("contributions/a/card.toml", "contributions/a/adapter_config.json"):
        assert attributes(file) == ["unspecified", "unspecified", "binary", "set", "lf"]
    assert attributes("other/adapter_model.safetensors")[0] == "unspecified"


def test_git_calls_the_merge_driver_as_it_was_recorded(
    repository: Repository, run_git: RunGit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path with a blank, a quote and a percent sign goes through git's expansion and the shell unharmed."""
    driver = tmp_path / "it's 100% mine" / "git-forge"
    driver.parent.mkdir()
    driver.write_text(f'#!/bin/sh\necho "$1 $#" >>"{tmp_path}/calls"\n[ "$1" = merge-driver ] && echo merged >"$3"\n')
    driver.chmod(0o755)
    monkeypatch.setattr(clone_setup, "program", lambda: shlex.quote(str(driver)))
    install(repository)
    add_attributes(repository)
    item = repository.top / "forge-item.json"
    for branch, start in (("main", ""), ("ours", "main"), ("theirs", "main")):
        run_git(repository.top, "checkout", "-q", "-B", branch, *([start] if start else []))
        item.write_text(f"{branch}\n")
        run_git(repository.top, "add", ".")
        run_git(repository.top, "commit", "-qm", branch)
    run_git(repository.top, "merge", "-q", "-m", "both", "ours")
    assert item.read_text() == "merged\n"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call for call in calls if call.startswith("merge-driver")] == ["merge-driver 5"]
    assert "hook 4" in calls  # prepare-commit-msg of the merge: "hook NAME FILE merge"
