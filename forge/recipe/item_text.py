"""The text of forge-item.json: one canonical text for one recipe, read back strictly.

The same recipe is always the same bytes, and the second line of the file is a digest over all other lines, so that

    sed 2d forge-item.json | sha256sum

prints it, and any two different edits of one file meet in that line: where the merge driver is not
installed, git's text merge stops with a conflict instead of blending two models. The line below it tells who then
opens the file what to do; in the files of earlier versions it is missing.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Mapping

from forge.errors import ForgeError
from forge.recipe.canonical_json import canonical, digest_of, digest_of_text, parse_object, take_object
from forge.recipe.catalogue import strategy_named
from forge.recipe.item import Base, Consolidation, Entry, ForgeItem, OwnScore, Search, TaskScore
from forge.recipe.item_keys import format_of, taken, written
from forge.recipe.layout import ITEM_FILE, limit_of

FORMAT = 1  # the newest that this version reads; an item is of the earliest that has all of its keys
NOTE_KEY = "# conflict"  # sorts before all other keys, so that it stands right where every conflict begins
NOTE = "Not to be settled by hand: with git forge installed, run `git forge resolve`, and go on as it says."
MAX_BYTES = limit_of(ITEM_FILE)

_MARKER = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)


def digest(item: ForgeItem) -> str:
    """The digest that the second line of to_json(item) holds."""
    return digest_of(_document(item))


def to_json(item: ForgeItem) -> str:
    """The canonical text of `item`: digest first, the other keys sorted, two spaces, a newline at the end."""
    return _text(_document(item))


def from_json(text: str | bytes, source: str = ITEM_FILE) -> ForgeItem:
    """Read to_json's text; `source` names the file in messages.

    Raises ForgeError for anything but a whole, unedited forge item of a format this version knows.
    """
    try:
        text = _decoded(text)
        document = _parse(text)
        recorded = document.pop("digest", None)
        version = document.get("format")
        if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
            raise ForgeError(f"format {version} was written by a newer git forge", hint="update git forge")
        if type(version) is not int or version < 1:
            raise ForgeError("this is not a forge item: it names no format that git forge knows")
        if not isinstance(recorded, str):
            raise ForgeError("the digest is missing", hint=_RESTORE)
        # Text that is canonical gives the digest of its lines; what it holds need not be written out to know that.
        plain = text.replace("\r\n", "\n")  # the line ends that git stores, whatever a work tree has in their place
        start, body = start_of(recorded), "{\n" + plain[len(start_of(recorded)) :]
        if not (plain.startswith(start) and recorded == digest_of_text(body)) and recorded != digest_of(document):
            raise ForgeError(_EDITED, hint=_RESTORE)
        has_note = NOTE_KEY in document
        if document.pop(NOTE_KEY, NOTE) != NOTE:
            raise ForgeError(f"{NOTE_KEY!r} says something that no git forge has written", hint=_RESTORE)
        del document["format"]
        item = _item(document)
        again = _document(item)
        if not has_note:
            del again[NOTE_KEY]
        if start + canonical(again).removeprefix("{\n") != plain:  # a right digest over other text, such as 0.50000001
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


def _text(document: Mapping[str, object]) -> str:
    body = canonical(document)
    return start_of(digest_of_text(body)) + body.removeprefix("{\n")


def start_of(digest: str) -> str:
    """The first two lines of an item with this digest."""
    return f'{{\n  "digest": "{digest}",\n'


def _document(item: ForgeItem) -> dict[str, object]:
    document = {NOTE_KEY: NOTE, "format": format_of(item), **written(item)}
    # Tables of none, too, which `written` cannot tell from lists of none.
    return document | {key: document[key] or {} for key in ("contributions", "scores")}


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_BYTES:
        raise ForgeError(f"larger than {MAX_BYTES // 2**20} MiB: this is not a forge item")
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise ForgeError("not a text file in UTF-8: this is not a forge item", hint=_RESTORE) from None


def _parse(text: str) -> dict[str, object]:
    try:
        return parse_object(text, "a forge item", _RESTORE)
    except (ForgeError, RecursionError):
        if _MARKER.search(text):  # no JSON holds a line that begins so
            raise ForgeError("merge conflict: the file holds conflict markers", hint=_UNMERGED) from None
        raise


# The dataclasses check every value themselves: what comes out of JSON may be anything.


def _item(document: dict[str, object]) -> ForgeItem:
    top = taken(ForgeItem, document, "the forge item", _RESTORE)
    if top["search"] is not None:
        search = taken(Search, top["search"], "search", _RESTORE)
        take_object(search["scales"], "the search's scales", _RESTORE)
        top["search"] = Search(**search)
    if "consolidation" in top:
        top["consolidation"] = Consolidation(**taken(Consolidation, top["consolidation"], "consolidation", _RESTORE))
    if not isinstance(top.get("accepted", []), list):
        raise ForgeError("accepted must be a list of tasks", hint=_RESTORE)
    top["strategy"] = strategy_named(top["strategy"]).name
    top["base"] = Base(**taken(Base, top["base"], "base", _RESTORE))
    top["contributions"] = tuple(entry_of(*each) for each in _named(top["contributions"], "contributions"))
    top["scores"] = tuple(_score(*each) for each in _named(top["scores"], "scores"))
    top["own_scores"] = tuple(own_score_of(*each) for each in _named(top.get("own_scores", {}), "own_scores"))
    top["accepted"] = tuple(top.get("accepted", []))
    return ForgeItem(**top)


def _named(value: object, what: str) -> ItemsView[str, object]:
    return take_object(value, what, _RESTORE).items()


def entry_of(name: str, value: object) -> Entry:
    """A contribution from its key and its object."""
    what = f"contribution {name[:80]!r}"
    table = taken(Entry, value, what, _RESTORE, name=name)
    take_object(table.get("tasks", {}), f"tasks of {what}", _RESTORE)
    return Entry(**table)


def own_score_of(name: str, value: object) -> OwnScore:
    """The own score of a contribution from its key and its object."""
    return OwnScore(**taken(OwnScore, value, f"the own score of {name[:80]!r}", _RESTORE, name=name))


def _score(task: str, value: object) -> TaskScore:
    what = f"the score of task {task[:80]!r}"
    table = taken(TaskScore, value, what, _RESTORE, task=task)
    if not isinstance(table["labels"], list):
        raise ForgeError(f"labels of {what} must be a list", hint=_RESTORE)
    return TaskScore(**{**table, "labels": tuple(table["labels"])})
