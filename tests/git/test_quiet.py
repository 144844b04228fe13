"""Whatever a user has set, git says the same to git forge; and no git whose words are read is started otherwise."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import forge
from forge.git.quiet import quiet
from forge.git.running import Repository, environment, git, git_text, quiet_environment
from tests.conftest import RunGit

SHOWING = (
    "log", "show", "diff", "diff-files", "diff-tree", "diff-index", "whatchanged", "shortlog", "blame", "range-diff",
    "format-patch", "reflog", "stash",
)  # fmt: skip
# Where a program is started: git by git.py; git-lfs and a push, which speak to a person or stream; recorded programs.
# git, git-lfs, what a push goes through, a recorded program, and git forge itself for --processes.
STARTING = ("git/running.py", "git/lfs.py", "operations/push.py", "clone/programs.py", "operations/launching.py")
SOURCE = Path(forge.__file__).parent
# A section of the user's own settings each.
HOSTILE = {
    "signatures shown": "[log]\n\tshowSignature = true\n",
    "no root": "[log]\n\tshowRoot = false\n\tfollow = true\n",
    "colours": "[color]\n\tui = always\n\tdiff = always\n",
    "latin-1": "[i18n]\n\tlogOutputEncoding = ISO-8859-1\n",
    "another diff": "[diff]\n\texternal = false\n\tnoprefix = true\n\trelative = true\n\tignoreSubmodules = all\n",
    "renames": "[diff]\n\trenames = copies\n[status]\n\trenames = copies\n",
    "decorations": "[log]\n\tdecorate = full\n\tmailmap = true\n\tdate = relative\n\tdiffMerges = on\n",
    "paths": "[core]\n\tquotePath = false\n\tsafecrlf = true\n[status]\n\trelativePaths = true\n",
    "a pager": "[core]\n\tpager = false\n[pager]\n\tlog = true\n\tdiff = true\n\tshow = true\n",
    "columns": "[column]\n\tui = always\n[format]\n\tpretty = fuller\n[status]\n\tshort = true\n\tbranch = true\n",
}


def _words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, verb) of every text that could be the verb of a git: all but those of `quiet` and of click."""
    if isinstance(tree, ast.Call):
        name = tree.func.attr if isinstance(tree.func, ast.Attribute) else getattr(tree.func, "id", "")
        if name in ("quiet", "command"):
            return
    if isinstance(tree, ast.Dict):
        for value in tree.values:
            yield from _words(value)
        return
    if isinstance(tree, ast.Constant) and tree.value in SHOWING:
        yield tree.lineno, str(tree.value)
    for child in ast.iter_child_nodes(tree):
        yield from _words(child)


def _sources() -> list[Path]:
    found = [file for file in sorted(SOURCE.rglob("*.py")) if "bench" not in file.parts]
    return [file for file in found if file.name != "quiet.py"]


def test_the_walk_sees_a_git_that_is_not_quiet() -> None:
    seen = [verb for _, verb in _words(ast.parse('git(repo, "log", "-1")\nHOW = ("diff", *quiet("show"))'))]
    assert seen == ["log", "diff"]


@pytest.mark.parametrize("file", _sources(), ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_no_other_git_shows_commits_or_differences(file: Path) -> None:
    assert [f"{file.name}:{line}: {verb}" for line, verb in _words(ast.parse(file.read_text(encoding="utf-8")))] == []


def test_programs_are_started_in_few_places() -> None:
    starting = [
        file.relative_to(SOURCE).as_posix()
        for file in _sources()
        if "subprocess." in file.read_text(encoding="utf-8").replace("subprocess.CompletedProcess", "")
    ]
    assert set(starting) <= set(STARTING)


@pytest.fixture
def history(repository: Repository, run_git: RunGit) -> Repository:
    (repository.top / "Größe.txt").write_text("one\n", encoding="utf-8")
    (repository.top / "other").write_text("one\n")
    (repository.top / ".mailmap").write_text("Somebody Else <ada@example.org>\n")
    run_git(repository.top, "add", ".")
    run_git(repository.top, "commit", "-qm", "Größe")
    run_git(repository.top, "mv", "other", "another")
    run_git(repository.top, "commit", "-qm", "two")
    (repository.top / "another").write_text("three\n")
    return repository


def _said(repo: Repository) -> list[bytes]:
    return [
        git(repo, *quiet("log"), "--raw", "--format=%H%x00%an%x00%s"),
        git(repo, *quiet("log"), "--name-only", "--format=%H", "HEAD", "--", ":(top,literal)Größe.txt"),
        git(repo, *quiet("show"), "-s", "--format=%h %s", "HEAD~1"),
        git(repo, *quiet("diff"), "--name-only"),
        git(repo, *quiet("diff"), "--name-status", "HEAD~1", "HEAD"),
        git(repo, *quiet("diff-files"), "--name-only", "-z"),
        git(repo, *quiet("diff-tree"), "-r", "--raw", "HEAD~1", "HEAD"),
        git(repo, "status", "--porcelain"),
        git(repo, "rev-list", "--objects", "HEAD"),
        git(repo, "for-each-ref"),
        git_text(repo, "symbolic-ref", "HEAD").encode(),
    ]


@pytest.mark.parametrize("section", HOSTILE.values(), ids=HOSTILE)
def test_what_a_user_has_set_changes_nothing_that_is_read(
    history: Repository, user_settings: Path, section: str
) -> None:
    plain = _said(history)
    assert "Größe" in plain[0].decode() and b"Ada Example" in plain[0]
    user_settings.write_text(user_settings.read_text() + section)
    assert _said(history) == plain


@pytest.mark.parametrize(
    "variables",
    [
        {"GIT_LITERAL_PATHSPECS": "1"},
        {"GIT_ICASE_PATHSPECS": "1"},
        {"GIT_GLOB_PATHSPECS": "1"},
        {"GIT_NOGLOB_PATHSPECS": "1"},
        {"GIT_EXTERNAL_DIFF": "false", "GIT_DIFF_OPTS": "--unified=9"},
        {"GIT_PAGER_IN_USE": "1", "GIT_PAGER": "false", "PAGER": "false"},
        {"LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"},
        {"LC_ALL": "", "LANG": "de_DE.ISO-8859-1", "LANGUAGE": "de:fr"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_no_variable_does(history: Repository, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    plain = _said(history)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _said(history) == plain


def test_a_person_is_spoken_to_in_his_language(history: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert environment(history)["LC_ALL"] == "de_DE.UTF-8"
    assert quiet_environment(history)["LC_ALL"] == "C.UTF-8"
