"""What the documents say of files, links and settings is so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.recipe.item import Base
from forge.recipe.settings import Settings, to_toml

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")) if path.name != "CHANGELOG.md")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)|\]\(#([^)\s]+)\)")
# In backquotes: a path below one of the project's own folders, or below one of the package's rooms.
ROOMS = "|".join(sorted(path.name for path in (ROOT / "forge").iterdir() if (path / "__init__.py").is_file()))
PATH = re.compile(rf"`((?:forge|tests|hooks|examples|docs|{ROOMS})/[\w./-]+)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target, fragment, own_fragment in LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file = (document.parent / target) if target else document
        assert file.exists(), f"{document.name}: {target}"
        if anchor := fragment or own_fragment:
            assert anchor in set(_anchors(file)), f"{document.name}: {target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_are_there(document: Path) -> None:
    for path in PATH.findall(document.read_text(encoding="utf-8")):
        if not re.search(r"\b(NAME|VERB)\b", path):
            assert any((folder / path).exists() for folder in (ROOT, ROOT / "forge")), f"{document.name}: {path}"


def test_the_table_of_settings() -> None:
    """Every key of forge.toml has a row with its default, and every row is a key."""
    written = tomllib.loads(to_toml(Settings(Base("embedded", "0" * 16), license="MIT", base_license="MIT")))
    defaults = dict(_keys(written))
    text = (ROOT / "docs" / "model-repository.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.0-9]+)` \| (.+?) \|", text, re.MULTILINE))
    assert set(rows) == set(defaults)
    for key, default in defaults.items():
        if not key.endswith(("license", "reference", "fingerprint")):
            assert tomllib.loads(f"value = {rows[key].strip('`')}")["value"] == default, key


def _keys(table: dict[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{before}{key}.")
        else:
            yield before + key, value


def _anchors(file: Path) -> Iterator[str]:
    for heading in re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
