"""The three-way rule for whole files, over small histories that are written down: no git."""

from __future__ import annotations

import pytest

from forge.git.path_merge import MAX_BASES, UNSETTLED, File, Unsettled, settled

# A commit's file, as one letter; "-" is no file. Bases by the commit that comes in.
Files = dict[str, str]
Bases = dict[str, tuple[str, ...]]


def merged(files: Files, bases: Bases, sides: tuple[str, ...] = ("ours", "theirs")) -> str | Unsettled:
    def file_of(commit: str, path: str) -> File | None:
        assert path == "a/file"
        return None if files[commit] == "-" else ("100644", files[commit])

    found = settled("a/file", sides, file_of, lambda side, others: bases[side])
    return "-" if found is None else found if isinstance(found, Unsettled) else found[1]


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ("1", "1", "1", "1"),
        ("1", "2", "1", "2"),
        ("1", "1", "2", "2"),
        ("1", "2", "2", "2"),
        ("1", "2", "3", UNSETTLED),
        ("1", "-", "1", "-"),
        ("1", "1", "-", "-"),
        ("1", "-", "-", "-"),
        ("1", "-", "2", UNSETTLED),
        ("-", "-", "2", "2"),
        ("-", "2", "-", "2"),
        ("-", "2", "2", "2"),
        ("-", "2", "3", UNSETTLED),
        ("-", "-", "-", "-"),
    ],
)
def test_one_base(base: str, ours: str, theirs: str, expected: str | Unsettled) -> None:
    assert merged({"base": base, "ours": ours, "theirs": theirs}, {"theirs": ("base",)}) == expected


def test_nothing_in_common() -> None:
    assert merged({"ours": "1", "theirs": "-"}, {"theirs": ()}) == "1"
    assert merged({"ours": "1", "theirs": "2"}, {"theirs": ()}) == UNSETTLED


@pytest.mark.parametrize(
    ("oldest", "one", "other", "ours", "theirs", "expected"),
    [
        ("1", "1", "2", "2", "3", "3"),  # changed on one branch, known on both since, and once more
        ("1", "1", "2", "2", "1", "1"),  # taken back on one side: as if nobody had forgotten it
        ("1", "2", "1", "2", "1", "1"),
        ("1", "2", "3", "2", "3", UNSETTLED),  # the bases themselves do not go together
        ("1", "2", "3", "4", "4", "4"),
        ("1", "1", "1", "2", "1", "2"),
    ],
)
def test_two_bases_are_merged_first(
    oldest: str, one: str, other: str, ours: str, theirs: str, expected: str | Unsettled
) -> None:
    files = {"oldest": oldest, "one": one, "other": other, "ours": ours, "theirs": theirs}
    assert merged(files, {"theirs": ("one", "other"), "other": ("oldest",)}) == expected


def test_many_sides_come_one_after_the_other() -> None:
    sides = ("ours", "b", "c")
    bases = {"b": ("base",), "c": ("base",)}
    assert merged({"base": "1", "ours": "1", "b": "2", "c": "1"}, bases, sides) == "2"
    assert merged({"base": "1", "ours": "2", "b": "1", "c": "2"}, bases, sides) == "2"
    assert merged({"base": "1", "ours": "1", "b": "2", "c": "3"}, bases, sides) == UNSETTLED
    assert merged({"base": "1", "ours": "-", "b": "1", "c": "1"}, bases, sides) == "-"


def test_a_history_that_was_made_to_take_for_ever_does_not() -> None:
    asked = 0

    def bases_of(side: str, others: tuple[str, ...]) -> tuple[str, ...]:
        nonlocal asked
        asked += 1
        return (f"{side}1", f"{side}2")

    found = settled("x", ("a", "b"), lambda commit, path: ("100644", commit), bases_of)
    assert found is UNSETTLED
    assert asked < 20
    many = tuple(str(number) for number in range(MAX_BASES + 1))
    assert settled("x", ("a", "b"), lambda commit, path: ("100644", commit), lambda *_: many) is UNSETTLED
