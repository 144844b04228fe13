"""The table of a model repository's files, and that no module names one of them by itself."""

from __future__ import annotations

from dataclasses import fields

import pytest
from source_literals import modules_that_spell

from forge.formats.adapter import MAX_CONFIG
from forge.git import places
from forge.operations import filter_process
from forge.recipe import layout
from forge.recipe.item import Consolidation, Entry
from forge.recipe.item_text import MAX_BYTES as MAX_ITEM
from forge.recipe.toml_text import MAX_BYTES as MAX_TOML
from forge.repo.storage import MAX_ATTRIBUTES, attribute_lines, with_missing_rows, with_storage

# As every model repository of 0.1.0 has them: an older clone must find its own lines again.
LINES = """\
forge-item.json merge=forge diff=forge text eol=lf
forge.toml text eol=lf
contributions/*/adapter_model.safetensors filter=forge diff=forge merge=binary -text
contributions/*/distilled.safetensors filter=forge diff=forge merge=binary -text
contributions/*/adapter_config.json text eol=lf merge=binary
contributions/*/card.toml text eol=lf merge=binary
consolidation/adapter_model.safetensors filter=forge diff=forge merge=binary -text
consolidation/adapter_config.json text eol=lf
"""


def test_no_other_module_names_a_file_of_the_model() -> None:
    names = (row.name for row in layout.ROWS)
    found = modules_that_spell(*names, *(f"{folder}/" for folder in layout.FOLDERS))
    assert found.pop("git/places.py") == {places.ATTRIBUTES_FILE}  # git's own, and its room knows no model
    # Whose start takes as long as importing the table of files would.
    assert found.pop("operations/filter_process.py") == {filter_process._SETTINGS_FILE} == {layout.SETTINGS_FILE}
    assert set(found) == {"recipe/layout.py"}
    assert places.ATTRIBUTES_FILE == layout.ATTRIBUTES_FILE


def test_the_lines_of_the_first_version() -> None:
    assert "".join(f"{line}\n" for line in attribute_lines()) == LINES
    assert attribute_lines("lfs") == tuple(LINES.replace("filter=forge", "filter=lfs").splitlines())
    assert with_missing_rows(LINES, "git") == with_storage(LINES, "git") == LINES


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("forge.toml", "forge.toml"),
        ("contributions/lung/card.toml", "card.toml"),
        ("consolidation/adapter_config.json", "adapter_config.json"),
        ("consolidation/card.toml", None),
        ("contributions/card.toml", None),
        ("contributions//card.toml", None),
        ("contributions/lung/more/card.toml", None),
        ("contributions/lung/scan.png", None),
        ("docs/forge.toml", None),
        ("README.md", None),
    ],
)
def test_which_row_a_path_has(path: str, name: str | None) -> None:
    row = layout.row_of(path)
    assert (row.name if row else None) == name


@pytest.mark.parametrize(
    ("path", "expected"),
    [("contributions/lung/scan.png", True), ("forge.toml", True), ("forge.toml.orig", False), ("README.md", False)],
)
def test_what_a_model_consists_of(path: str, expected: bool) -> None:
    assert layout.is_in_model(path) == expected


def test_every_id_of_a_blob_is_a_field_of_the_recipe() -> None:
    assert layout.entry_parts().keys() < {each.name for each in fields(Entry)}
    assert layout.consolidation_paths().keys() < {each.name for each in fields(Consolidation)}


def test_a_limit_is_said_once() -> None:
    assert (MAX_ITEM, MAX_ATTRIBUTES) == (16 * 2**20, 100 * 2**20)
    assert MAX_CONFIG == 2**20 == layout.limit_of("contributions/*/card.toml") == MAX_TOML


ROW = layout.ModelFile("contributions/*/consent.txt", 20, "text eol=lf", word="consent", is_optional=True)


def test_an_older_file_gets_the_line_of_a_new_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "ROWS", (*layout.ROWS, ROW))
    line = "contributions/*/consent.txt text eol=lf\n"
    assert with_missing_rows(f"*.png binary\n{LINES}", "git") == f"*.png binary\n{LINES}{line}"
    assert with_missing_rows(LINES.rstrip("\n"), "git") == LINES + line


def test_a_line_that_somebody_has_written_for_a_file_stays_alone() -> None:
    own = LINES.replace("contributions/*/card.toml text eol=lf merge=binary", "contributions/*/card.toml -text")
    assert with_missing_rows(own, "git") == own
