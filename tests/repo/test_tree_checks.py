"""What no tree of a model repository may hold, as tables; and that verify, commit and status say so of real trees."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_models import SampleModel

from forge.git.places import INDEX, ListedFile
from forge.repo.tree_checks import case_twins, foreign_files, listing_problems, tree_problems


@pytest.mark.parametrize(
    ("paths", "twins"),
    [
        (["forge.toml", "forge-item.json"], []),
        (["forge.toml", "FORGE.TOML"], [("FORGE.TOML", "forge.toml")]),
        (["contributions/a/card.toml", "Contributions/b/card.toml"], [("Contributions", "contributions")]),
        (["a/x", "a/X", "A"], [("A", "a")]),  # a folder and a file
        (["caf\u00e9", "cafe\u0301"], [("cafe\u0301", "caf\u00e9")]),
        (["stra\u00dfe", "STRASSE"], [("STRASSE", "stra\u00dfe")]),
        (["a/b", "ab"], []),
    ],
)
def test_twins(paths: list[str], twins: list[tuple[str, str]]) -> None:
    assert case_twins(paths) == twins


@pytest.mark.parametrize(
    ("path", "foreign"),
    [
        ("contributions/a/card.toml", False),
        ("contributions/a/adapter_model.safetensors", False),
        ("contributions/a/patient.png", True),
        ("contributions/a/deep/card.toml", True),
        ("contributions/card.toml", True),
        ("contributions/.gitkeep", True),
        ("consolidation/adapter_config.json", False),
        ("consolidation/notes", True),
        ("notes/contributions/x", False),
        ("contributions", False),  # a file of that name: others say so
    ],
)
def test_foreign_files(path: str, foreign: bool) -> None:
    assert foreign_files([path]) == ([path] if foreign else [])


parts = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=3)


@given(st.lists(st.lists(parts, min_size=1, max_size=3).map("/".join), max_size=8, unique=True))
def test_twins_are_found_where_two_files_or_folders_are_one(paths: list[str]) -> None:
    """Against every pair of files and folders there is, one by one."""
    there = {"/".join(path.split("/")[:count]) for path in paths for count in range(1, path.count("/") + 2)}

    def alike(one: str, other: str) -> bool:
        return all(
            normalize("NFC", normalize("NFC", a).casefold()) == normalize("NFC", normalize("NFC", b).casefold())
            for a, b in zip_longest(one.split("/"), other.split("/"), fillvalue="\0")
        )

    pairs = {(one, other) for one in there for other in there if one < other and alike(one, other)}
    found = case_twins(paths)
    assert set(found) <= {*pairs, *((other, one) for one, other in pairs)}
    assert bool(found) == bool(pairs)


def test_a_long_list_is_cut_and_harmless() -> None:
    listed = {f"links/\x1b{number:02}": ListedFile("120000", "0" * 40) for number in range(30)}
    problems = listing_problems(listed)
    assert len(problems) == 21 and problems[-1] == "and 10 more like that"
    assert problems[0] == "links/\\x1b00 is a link, which a model repository must not hold"


def test_of_a_commit_and_the_index(tmp_path: Path) -> None:
    model = SampleModel(tmp_path / "model")
    model.add_contribution("ada", {"ada": 1.0})
    assert tree_problems(model.repo, "HEAD") == tree_problems(model.repo, INDEX) == []
    (model.top / "docs").symlink_to("/etc")
    model.write("FORGE.toml", b"")
    model.write("contributions/ada/scan.png", b"a picture of a patient")
    model.git("update-index", "--add", "--cacheinfo", f"160000,{model.git('rev-parse', 'HEAD')},sub")
    model.git("add", "docs", "FORGE.toml", "contributions")
    expected = [
        "docs is a link, which a model repository must not hold",
        "sub is a submodule, which a model repository must not hold",
        "FORGE.toml and forge.toml are one file on many machines: they differ in upper and lower case or in how "
        "letters are encoded",
        "contributions/ada/scan.png is no file of a contribution: nothing else may lie below contributions/",
    ]
    assert tree_problems(model.repo, INDEX) == expected
    model.git("commit", "--quiet", "-m", "Hide things")
    assert tree_problems(model.repo, "HEAD") == expected
