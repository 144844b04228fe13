"""What no tree of a model repository may hold, wherever in it: links, twins that differ in case, foreign files.

Pure checks of a listing. A link or a submodule can lead anywhere, and is followed by somebody in the end: git, an
editor, a backup. Two paths that differ in case only are one file on many machines. What lies below contributions/ and
is no file of one is looked at by nobody: a picture of a patient, say.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from forge.git.places import UNMERGED, ListedFile, Place, list_files
from forge.git.running import Repository
from forge.recipe.layout import is_in_model, row_of
from forge.text import printable

MOST_NAMED = 20  # of one kind, in a list of problems

_MODES = {"120000": "a link", "160000": "a submodule"}
_PLAIN = ("100644", "100755", UNMERGED)


def tree_problems(repo: Repository, place: Place) -> list[str]:
    """What of a place has no place in a model repository, one line each and in a fixed order; empty if nothing has."""
    return listing_problems(list_files(repo, place, ""))


def listing_problems(listed: Mapping[str, ListedFile]) -> list[str]:
    """As tree_problems, of all files of a place by path."""
    links = [
        f"{printable(path)} is {_MODES.get(file.mode, 'no plain file')}, which a model repository must not hold"
        for path, file in sorted(listed.items())
        if file.mode not in _PLAIN
    ]
    twins = [
        f"{printable(one)} and {printable(other)} are one file on many machines: they differ in upper and lower case "
        "or in how letters are encoded"
        for one, other in case_twins(listed)
    ]
    foreign = [
        f"{printable(path)} is no file of a contribution: nothing else may lie below {path.partition('/')[0]}/"
        for path in foreign_files(listed)
    ]
    return [*_shortened(links), *_shortened(twins), *_shortened(foreign)]


def case_twins(paths: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of files or folders that are one where case and Unicode's normal form do not count, sorted."""
    seen: dict[str, str] = {}
    twins = set()
    for path in sorted(paths):
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            start = "/".join(parts[:count])
            other = seen.setdefault(_folded(start), start)
            if other != start:
                twins.add((other, start))
                break  # what lies below differs for the same reason
    return sorted(twins)


def foreign_files(paths: Iterable[str]) -> list[str]:
    """The paths below contributions/ and consolidation/ that are no file of a contribution or consolidation, sorted."""
    return sorted(path for path in paths if is_in_model(path) and row_of(path) is None)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_NAMED
    return lines if more <= 0 else [*lines[:MOST_NAMED], f"and {more} more like that"]
