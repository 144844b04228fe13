"""Changing index and work tree together: both as wanted, or both as they were."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from forge.errors import ForgeError
from forge.git.files import is_plain_file
from forge.git.running import Repository, git_text
from forge.repo.leftovers import KEPT_FOLDER


@contextmanager
def restored_on_failure(repo: Repository, head: str, paths: Iterable[str]) -> Iterator[None]:
    """Put the index and the files at `paths` back if the block fails, whatever a hook or a full disk did.

    They are copied first and moved back, so that putting them back needs no room on the disk. Not where HEAD is no
    longer `head`. Then the commit was made all the same, and Ctrl-C came after it, or another git has made one: the
    files belong to that. Only for who holds the lock of the work tree. Raises ForgeError, before the block, for a link
    at one of the paths.
    """
    index, kept = repo.git_dir / "index", repo.git_dir / KEPT_FOLDER
    written = [repo.top / path for path in paths]
    for path in written:
        if os.path.lexists(path) and not is_plain_file(path):
            shown = path.relative_to(repo.top)
            raise ForgeError(f"{shown} is not a plain file", hint="put the file itself there, not a link")
    copies = {path: kept / str(number) for number, path in enumerate(written) if path.is_file()}
    kept.mkdir()  # tidy() took away what a killed process may have left
    try:
        for path, copy in {index: kept / index.name, **copies}.items():
            shutil.copy2(path, copy)  # with its time: what is put back is what git has seen before
        try:
            yield
        except BaseException:
            if git_text(repo, "rev-parse", "HEAD") == head:
                _put_back_index(index, kept / index.name)
                for path in written:
                    if path in copies:
                        path.parent.mkdir(parents=True, exist_ok=True)
                        shutil.move(copies[path], path)
                    else:
                        path.unlink(missing_ok=True)
            raise
    finally:
        shutil.rmtree(kept, ignore_errors=True)


def _put_back_index(index: Path, kept: Path) -> None:
    """Replace the index as git does, under its lock; where another git holds that, it wrote what is there."""
    held = index.with_name("index.lock")
    try:
        os.close(os.open(held, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    try:
        kept.replace(index)
    finally:
        held.unlink()
