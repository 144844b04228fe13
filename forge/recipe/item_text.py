"""The text of forge-item.json: one canonical text for one recipe, read back strictly.

The same recipe is always the same bytes, and the second line of the file is a digest over all other lines, so that

    sed 2d forge-item.json | sha256sum

prints it, and any two different edits of one file meet in that line: where the merge driver is not
installed, git's text merge stops with a conflict instead of blending two models. The line below it tells who then
opens the file what to do; in the files of earlier versions it is missing.
"""

from __future__ import annotations

import re
from dataclasses import fields

from forge.errors import ForgeError
from forge.recipe.canonical_json import canonical, digest_of, parse_object, take_object
from forge.recipe.item import Base, Consolidation, Entry, ForgeItem, OwnScore, Search, TaskScore, check_strategy
from forge.recipe.layout import ITEM_FILE, entry_parts, limit_of

FORMAT = 1
NOTE_KEY = "# conflict"  # sorts before all other keys, so that it stands right where every conflict begins
NOTE = "Not to be settled by hand: with git forge installed, run `git forge resolve`, and go on as it says."
MAX_BYTES = limit_of(ITEM_FILE)

_MARKER = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)


def digest(item: ForgeItem) -> str:
    """The digest that the second line of to_json(item) holds."""
    return digest_of(_document(item))


def to_json(item: ForgeItem) -> str:
    """The canonical text of `item`: digest first, the other keys sorted, two spaces, a newline at the end."""
    document = _document(item)
    return f'{{\n  "digest": "{digest_of(document)}",\n' + canonical(document).removeprefix("{\n")


def from_json(text: str | bytes, source: str = ITEM_FILE) -> ForgeItem:
    """Read to_json's text; `source` names the file in messages.

    Raises ForgeError for anything but a whole, unedited forge item of a format this version knows.
    """
    try:
        document = _parse(text)
        recorded = document.pop("digest", None)
        version = document.get("format")
        if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
            raise ForgeError(f"format {version} was written by a newer git forge", hint="upgrade git forge")
        if type(version) is not int or version != FORMAT:
            raise ForgeError("this is not a forge item: it names no format that git forge knows")
        if not isinstance(recorded, str):
            raise ForgeError("the digest is missing", hint=_RESTORE)
        if recorded != digest_of(document):
            raise ForgeError(_EDITED, hint=_RESTORE)
        note = document.pop(NOTE_KEY, None)
        if note not in (None, NOTE):
            raise ForgeError(f"{NOTE_KEY!r} says something that no git forge has written", hint=_RESTORE)
        item = _item(document)
        written = _document(item)
        if note is None:
            del written[NOTE_KEY]
        if recorded != digest_of(written):  # a right digest over text that is not canonical, such as 0.50000001
            raise ForgeError(_EDITED, hint=_RESTORE)
        return item
    except ForgeError as error:
        raise ForgeError(f"{source}: {error.message}", hint=error.hint) from None
    except RecursionError:
        raise ForgeError(f"{source}: nested too deeply: this is not a forge item", hint=_RESTORE) from None


_EDITED = "the digest does not match: edited by hand, or merged as text by a git without the merge driver"
_RESTORE = "make it again from the contributions with `git forge refold`, then `git commit`"
_UNMERGED = (
    "while the merge stands still, `git forge resolve` makes the forge item; "
    "if the markers were committed, `git forge refold`, then `git commit`"
)


def _document(item: ForgeItem) -> dict[str, object]:
    search, consolidation = item.search, item.consolidation
    document: dict[str, object] = {
        NOTE_KEY: NOTE,
        "format": FORMAT,
        "base": {"reference": item.base.reference, "fingerprint": item.base.fingerprint},
        "strategy": item.strategy,
        "contributions": {
            entry.name: {part: getattr(entry, part) for part in _ENTRY_KEYS}
            | ({"tasks": entry.tasks} if entry.tasks else {})
            for entry in item.contributions
        },
        "search": None if search is None else {part: getattr(search, part) for part in _SEARCH_KEYS},
        "scores": {
            score.task: {
                "labels": list(score.labels),
                **{part: getattr(score, part) for part in _SCORE_KEYS if part != "labels"},
            }
            for score in item.scores
        },
    }
    if consolidation is not None:
        document["consolidation"] = {part: getattr(consolidation, part) for part in _CONSOLIDATION_KEYS}
    if item.own_scores:
        document["own_scores"] = {
            score.name: {part: getattr(score, part) for part in _OWN_KEYS} for score in item.own_scores
        }
    if item.accepted:
        document["accepted"] = list(item.accepted)
    return document


_TOP_KEYS = ("format", "base", "strategy", "contributions", "search", "scores")
_BASE_KEYS = ("reference", "fingerprint")
_ENTRY_KEYS = (*entry_parts(), "coefficient")
_SEARCH_KEYS = tuple(each.name for each in fields(Search))
_CONSOLIDATION_KEYS = tuple(each.name for each in fields(Consolidation))
_OWN_KEYS = ("images", "accuracy", "cross_entropy", "accuracy_before", "cross_entropy_before")
_SCORE_KEYS = (
    "labels", "images", "accuracy", "cross_entropy", "accuracy_before", "cross_entropy_before",
)  # fmt: skip


def _parse(text: str | bytes) -> dict[str, object]:
    if len(text) > MAX_BYTES:
        raise ForgeError(f"larger than {MAX_BYTES // 2**20} MiB: this is not a forge item")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            raise ForgeError("not a text file in UTF-8: this is not a forge item", hint=_RESTORE) from None
    if _MARKER.search(text):
        raise ForgeError("merge conflict: the file holds conflict markers", hint=_UNMERGED)
    return parse_object(text, "a forge item", _RESTORE)


def _table(
    value: object, what: str, keys: tuple[str, ...] | None = None, optional: tuple[str, ...] = ()
) -> dict[str, object]:
    return take_object(value, what, _RESTORE, keys, optional)


# The dataclasses check every value themselves, hence the "type: ignore"s: what comes out of JSON is `object`.


def _item(document: dict[str, object]) -> ForgeItem:
    top = _table(document, "the forge item", _TOP_KEYS, ("consolidation", "own_scores", "accepted"))
    base = _table(top["base"], "base", _BASE_KEYS)
    search = None
    if top["search"] is not None:
        table = _table(top["search"], "search", _SEARCH_KEYS)
        _table(table["scales"], "the search's scales")
        search = Search(**table)  # type: ignore[arg-type]
    consolidation = None
    if "consolidation" in top:
        table = _table(top["consolidation"], "consolidation", _CONSOLIDATION_KEYS)
        consolidation = Consolidation(**table)  # type: ignore[arg-type]
    accepted = top.get("accepted", [])
    if not isinstance(accepted, list) or ("accepted" in top and not accepted):
        raise ForgeError("accepted must be a list of tasks", hint=_RESTORE)
    return ForgeItem(
        base=Base(**base),  # type: ignore[arg-type]
        strategy=check_strategy(top["strategy"]),
        contributions=tuple(
            _entry(name, value) for name, value in _table(top["contributions"], "contributions").items()
        ),
        search=search,
        scores=tuple(_score(task, value) for task, value in _table(top["scores"], "scores").items()),
        consolidation=consolidation,
        accepted=tuple(accepted),
        own_scores=_own_scores(top["own_scores"]) if "own_scores" in top else (),
    )


def _entry(name: str, value: object) -> Entry:
    what = f"contribution {name[:80]!r}"
    table = _table(value, what, _ENTRY_KEYS, ("tasks",))
    if "tasks" in table and not _table(table["tasks"], f"tasks of {what}"):
        raise ForgeError(f"tasks of {what} are empty", hint=_RESTORE)
    return Entry(name=name, **table)  # type: ignore[arg-type]


def _own_scores(value: object) -> tuple[OwnScore, ...]:
    found = _table(value, "own_scores")
    if not found:
        raise ForgeError("own_scores are empty", hint=_RESTORE)
    return tuple(
        OwnScore(name=name, **_table(table, f"the own score of {name[:80]!r}", _OWN_KEYS))  # type: ignore[arg-type]
        for name, table in found.items()
    )


def _score(task: str, value: object) -> TaskScore:
    table = _table(value, f"the score of task {task[:80]!r}", _SCORE_KEYS)
    labels = table.pop("labels")
    if not isinstance(labels, list):
        raise ForgeError(f"labels of the score of task {task[:80]!r} must be a list", hint=_RESTORE)
    return TaskScore(task=task, labels=tuple(labels), **table)  # type: ignore[arg-type]
