"""A file that is new in the table of the layout: checked, attributed and carried, into an older repository too."""

from __future__ import annotations

from pathlib import Path

import pytest
from operations.settled_models import SettledModel, assert_whole, ok, run

from forge.recipe import layout
from forge.repo.storage import attribute_lines, with_missing_rows
from forge.repo.tree_changes import find_changes

CONSENT = "contributions/lung/consent.txt"
LINE = "contributions/*/consent.txt text eol=lf"


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> layout.ModelFile:
    """One more row, as a later version may have it."""
    row = layout.ModelFile("contributions/*/consent.txt", 20, "text eol=lf", word="consent", is_optional=True)
    monkeypatch.setattr(layout, "ROWS", (*layout.ROWS, row))
    return row


@pytest.fixture
def older(settled: SettledModel) -> SettledModel:
    """A model repository of today, and a contribution that no commit has yet."""
    settled.write(".gitattributes", "".join(f"{line}\n" for line in ("*.png binary", *attribute_lines())).encode())
    settled.commit("The attributes of today")
    settled.write_contribution("lung")
    return settled


def attributes(model: SettledModel, place: str = "HEAD") -> str:
    return model.git("show", f"{place}:.gitattributes") + "\n"


def test_without_the_row_it_is_a_foreign_file(older: SettledModel) -> None:
    older.write(CONSENT, b"yes\n")
    older.git("add", CONSENT)
    assert "consent.txt is no file of a contribution" in run(older, "commit").err


def test_a_commit_carries_the_file_and_its_line(older: SettledModel, row: layout.ModelFile) -> None:
    before, parent = attributes(older), older.git("rev-parse", "HEAD")
    older.write(CONSENT, b"yes\r\n")
    ok(older, "commit")
    assert older.git("show", f"HEAD:{CONSENT}") == "yes"  # line ends as the row says
    assert attributes(older) == f"{before}{LINE}\n" == with_missing_rows(before, "git")
    changed = older.git("diff", "--name-only", parent, "HEAD").split()
    assert changed == sorted(
        [".gitattributes", "forge-item.json", *(f"contributions/lung/{name}" for name in layout.contribution_files())]
    )
    assert find_changes(older.repo, parent, "HEAD").parts["lung"] == ("adapter", "card", "config", "consent", "images")
    assert_whole(older)


def test_the_limit_of_the_row_holds(older: SettledModel, row: layout.ModelFile) -> None:
    older.write(CONSENT, b"y" * 21)
    said = run(older, "commit")
    assert said.code != 0 and f"{CONSENT}: 21 bytes, more than the limit of 20" in said.err
    assert attributes(older, "") == attributes(older) and LINE not in (older.top / ".gitattributes").read_text()


def test_the_server_and_verify_hold_it_against_the_limit(older: SettledModel, row: layout.ModelFile) -> None:
    older.write(CONSENT, b"yes\n")
    ok(older, "commit")
    older.write(CONSENT, b"y" * 21)
    older.commit("Past git forge")
    assert "more than the limit of 20" in run(older, "verify", "--no-scores").out


def test_where_it_is_obligatory_a_contribution_without_it_is_not_whole(
    older: SettledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = layout.ModelFile("contributions/*/consent.txt", 20, "text eol=lf", word="consent")
    monkeypatch.setattr(layout, "ROWS", (*layout.ROWS, row))
    assert "consent.txt is missing" in run(older, "commit").err


def test_a_commit_of_nothing_leaves_the_attributes_alone(older: SettledModel, row: layout.ModelFile) -> None:
    older.git("clean", "--quiet", "-d", "--force")
    before = attributes(older)
    assert "no contribution changed" in run(older, "commit").err
    assert attributes(older) == before == (older.top / ".gitattributes").read_text()


def test_a_person_s_own_edit_is_neither_lost_nor_committed(older: SettledModel, row: layout.ModelFile) -> None:
    before = attributes(older)
    older.write(".gitattributes", f"{before}*.nii binary\n".encode())
    ok(older, "commit")
    assert attributes(older) == before
    assert (older.top / ".gitattributes").read_text() == f"{before}*.nii binary\n{LINE}\n"


def test_where_rights_are_said_a_commit_leaves_it_to_a_maintainer(older: SettledModel, row: layout.ModelFile) -> None:
    older.write(".forge/sites.toml", b'format = 1\nmaintainers = ["ada@example.org"]\n')
    older.git("add", ".forge")
    older.git("commit", "--quiet", "-m", "Rights")
    before = attributes(older)
    ok(older, "commit")
    assert attributes(older) == before == (older.top / ".gitattributes").read_text()


def test_lines_that_an_older_repository_lacks(older: SettledModel) -> None:
    """Without a new row: one made by hand, or before git forge gave configs and cards a line."""
    older.git("clean", "--quiet", "-d", "--force")
    lines = [line for line in attribute_lines() if "card" not in line and "config" not in line]
    older.write(".gitattributes", "".join(f"{line}\n" for line in lines).encode())
    older.commit("An older git forge")
    older.write_contribution("lung")
    ok(older, "commit")
    assert attributes(older) == "".join(
        f"{line}\n" for line in (*lines, *sorted({*attribute_lines()} - {*lines}, key=attribute_lines().index))
    )
    assert_whole(older)


def test_other_clones_get_the_line_with_the_commit(older: SettledModel, row: layout.ModelFile, tmp_path: Path) -> None:
    older.write(CONSENT, b"yes\n")
    ok(older, "commit")
    older.git("clone", "--quiet", "--no-local", str(older.top), str(tmp_path / "clone"))
    said = older.git("-C", str(tmp_path / "clone"), "check-attr", "eol", "--", CONSENT)
    assert said == f"{CONSENT}: eol: lf"
