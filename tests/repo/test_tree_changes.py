"""What one commit has otherwise than another beside the model: settings key by key, files by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_models import SampleModel

from forge.repo import tree_changes
from forge.repo.tree_changes import find_changes


@pytest.fixture
def model(tmp_path: Path) -> SampleModel:
    model = SampleModel(tmp_path / "model")
    model.add_contribution("ada", {"ada": 1.0})
    return model


def test_parts_of_contributions_and_everything_else(model: SampleModel) -> None:
    path = model.top / "forge.toml"
    path.write_text(path.read_text().replace("gate = 0.2", "gate = 0.9") + '\n[extra]\n"a\\u001bb" = "c\\nd"\n')
    model.write_contribution("ada", 2)
    model.write_contribution("bob")
    model.write("contributions/ada/scan.png", b"x")
    model.write(".github/workflows/a.yml", b"on: push\n")
    model.write("forge-item.json", b"{}")
    (model.top / "link").symlink_to("forge.toml")
    model.commit("Everything")
    found = find_changes(model.repo, "HEAD~1", "HEAD")
    assert found.parts["ada"] == ("adapter", "images")
    assert found.parts["bob"] == ("adapter", "card", "config", "images")
    assert found.others == (
        ".github/workflows/a.yml: added",
        "contributions/ada/scan.png: added",
        "forge.toml: [extra] a\\x1bb: - -> c\\nd",
        "forge.toml: [merge] gate: 0.2 -> 0.9",
        "link: added",
    )
    back = find_changes(model.repo, "HEAD", "HEAD~1")
    assert "forge.toml: [merge] gate: 0.9 -> 0.2" in back.others and "link: removed" in back.others


def test_a_rename_is_two_changes_and_a_link_another_kind(model: SampleModel) -> None:
    model.write("README.md", b"Words\n" * 100)
    model.commit("Words")
    model.git("mv", "README.md", "LIESMICH.md")
    (model.top / "forge.toml").unlink()
    (model.top / "forge.toml").symlink_to("/dev/zero")
    model.commit("Moved")
    assert find_changes(model.repo, "HEAD~1", "HEAD").others == (
        "LIESMICH.md: added",
        "README.md: removed",
        "forge.toml: another kind of file",
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [("# a comment\n", "its text, but no setting"), ("not toml\n", " -> not to be read")],
)
def test_text_that_sets_nothing_or_cannot_be_read(model: SampleModel, text: str, line: str) -> None:
    path = model.top / "forge.toml"
    path.write_text(text + path.read_text())
    model.commit("Settings")
    assert any(other.endswith(line) for other in find_changes(model.repo, "HEAD~1", "HEAD").others)


def test_a_long_list_is_cut(model: SampleModel) -> None:
    for number in range(tree_changes.MOST_SHOWN + 5):
        model.write(f"files/{number:03}", b"x")
    model.commit("Many")
    found = find_changes(model.repo, "HEAD~1", "HEAD").others
    assert len(found) == tree_changes.MOST_SHOWN + 1 and found[-1] == "and 5 more files"
