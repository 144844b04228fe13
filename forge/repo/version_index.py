"""What never changes of versions and is slow to find out, kept per clone: what `git forge log` and `show` print.

What a commit made of the model depends on two blobs alone, the forge items before and after it; who changed which
contribution last, on the commit alone. Objects of git never change, so such an answer is kept by their ids. Which
commits there are, and which blobs they have, git says each time. Nothing that is fetched or merged can put an answer
here, only a git forge of this clone that has read and checked the objects themselves.

The file is a cache: what is missing, damaged, locked by another process or of another git forge is asked of git again,
and where nothing can be written nothing is kept. `git forge gc` lists it, and anybody may remove it.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from forge import __version__
from forge.errors import ForgeError
from forge.git.files import share_as
from forge.git.running import Repository, state_dir

if TYPE_CHECKING:
    import sqlite3

FILE = "versions.sqlite"  # under .git/forge
FORMAT = 1  # to be raised whenever an answer about the same objects becomes another one
MAX_BYTES = 128 << 20  # of the file

_MADE_BY = f"{FORMAT} {__version__}"
_HELD = 2 << 20  # bytes in memory until they are written
_PATIENCE = 1.0  # seconds; to write takes another process milliseconds
_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE answers (about BLOB PRIMARY KEY, answer BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE made_by (name TEXT NOT NULL);
INSERT INTO made_by VALUES ('{made_by}');
COMMIT;
"""


def about(question: str, *objects: str) -> bytes:
    """The key of an answer: the full ids of the objects that alone decide it, and what was asked of them."""
    return bytes.fromhex("".join(objects)) + question.encode()


class VersionIndex:
    """The answers that are kept in a clone, as JSON has them. It never raises: what it does not know, git does."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._path = repo.common_dir / "forge" / FILE
        self._new: dict[bytes, bytes] = {}
        self._bytes = 0
        self._is_closed = False  # to new answers
        self._database = self._open() if self._path.is_file() else None

    def find(self, keys: Iterable[bytes]) -> dict[bytes, object]:
        """The answers that are known."""
        answers: dict[bytes, object] = {}
        if self._database is None:
            return answers
        try:
            for key in keys:
                row = self._database.execute("SELECT answer FROM answers WHERE about = ?", (key,)).fetchone()
                if row is not None:
                    answers[key] = json.loads(zlib.decompress(row[0]))
        except _errors() as error:
            self._give_up(error)
        return answers

    def keep(self, key: bytes, answer: object) -> None:
        """Remember an answer; written some time later."""
        if self._is_closed:
            return
        content = zlib.compress(json.dumps(answer).encode(), 1)
        self._new[key] = content
        self._bytes += len(content)
        if self._bytes > _HELD:
            self.flush()

    def flush(self) -> None:
        """Write what is new."""
        new, self._new, self._bytes = self._new, {}, 0
        if not new:
            return
        if self._database is None:
            with suppress(ForgeError):
                state_dir(self._repo)
                self._database = self._open()
        if self._database is None:
            self._is_closed = True
            return
        try:
            self._write(self._database, new)
        except _errors() as error:
            self._give_up(error)

    def close(self) -> None:
        """Write what is new, and let go of the file."""
        self.flush()
        if self._database is not None:
            self._database.close()

    def _write(self, database: sqlite3.Connection, new: Mapping[bytes, bytes]) -> None:
        with database:
            database.execute("BEGIN IMMEDIATE")
            if _bytes_used(database) + sum(map(len, new.values())) > MAX_BYTES:
                # A sixteenth or two: ids are as good as random. What is freed is used again.
                for first in {each & 0xF0 for each in os.urandom(2)}:
                    bounds = (bytes([first]), bytes([first + 0x0F, *[0xFF] * 64]))
                    database.execute("DELETE FROM answers WHERE about BETWEEN ? AND ?", bounds)
                self._is_closed = True  # a walk that is longer than the file may be does not write over itself
            if _bytes_used(database) + sum(map(len, new.values())) <= MAX_BYTES:
                database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", new.items())

    def _open(self, again: bool = True) -> sqlite3.Connection | None:
        try:
            import sqlite3
        except ImportError:  # a Python that was built without
            return None
        database = None
        try:
            is_new = not self._path.exists()
            may_write = os.access(self._path.parent if is_new else self._path, os.W_OK)
            place = f"file:{quote(str(self._path))}?mode={'rwc' if may_write else 'ro'}"
            database = sqlite3.connect(place, uri=True, timeout=_PATIENCE, isolation_level=None)
            # No journal beside it, which would outlive the file where that is removed: what was cut off is damaged at
            # worst, and made again.
            database.executescript(
                "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA trusted_schema = OFF"
            )
            if is_new:
                database.executescript(_TABLES.format(made_by=_MADE_BY))
                share_as(self._path.parent, self._path)
            if database.execute("SELECT name FROM made_by").fetchall() != [(_MADE_BY,)]:
                raise sqlite3.DatabaseError("of another git forge")
            return database
        except _errors() as error:
            if database is not None:
                database.close()
            return self._open(again=False) if again and _is_damage(error) and forget(self._repo) else None

    def _give_up(self, error: Exception) -> None:
        """Do without from now on; a file that is damaged goes."""
        database, self._database, self._is_closed = self._database, None, True
        if database is not None:
            database.close()
        if _is_damage(error):
            forget(self._repo)


def forget(repo: Repository) -> bool:
    """Remove the index of a clone; whether there is none any more."""
    path = repo.common_dir / "forge" / FILE
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _bytes_used(database: sqlite3.Connection) -> int:
    (pages,) = database.execute(
        "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count"
    ).fetchone()
    (size,) = database.execute("PRAGMA page_size").fetchone()
    return int(pages * size)


def _errors() -> tuple[type[Exception], ...]:
    """What a file that is damaged, locked, not to be written or full may raise."""
    import sqlite3

    return sqlite3.Error, OSError, zlib.error, ValueError, TypeError


def _is_damage(error: Exception) -> bool:
    """Whether the file itself is wrong, not only not to be had just now."""
    import sqlite3

    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR  # other tables than ours
    return not isinstance(error, OSError)
