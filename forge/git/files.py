"""Reading and writing files in a work tree that a branch may have filled: links are not followed, devices not read.

A branch can put a link at any path: one that leads out of the work tree, to a device without an end, or to where the
next file would be written.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from forge.errors import ForgeError
from forge.text import printable

UNFINISHED = ".unfinished"  # ends the name of a file that is being written beside the one it will replace

# Absent on Windows, where git makes links only if it is told to.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_plain_file(file: Path, limit: int, name: str | None = None) -> bytes | None:
    """The content of a plain file of at most `limit` bytes, None where there is nothing at all.

    name: what a message calls it, its path if not given. Raises ForgeError for a link, a folder, a device, a pipe, a
    file that is larger, and one that may not be read; none of these is opened for longer than it takes to see.
    """
    shown = printable(name or file)
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise _not_plain(shown)
        # Looked at again once it is open: meanwhile it may have become a link (refused here), or a pipe.
        descriptor = os.open(file, os.O_RDONLY | _NO_FOLLOW)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _not_plain(shown)
            if status.st_size > limit:
                raise _too_large(shown, status.st_size, limit)
            content = stream.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ForgeError(f"cannot read {shown}: {error.strerror}", hint="check its permissions") from None
    if len(content) > limit:
        raise _too_large(shown, len(content), limit)
    return content


def is_plain_file(file: Path | str) -> bool:
    """Whether it is a file itself, not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(file).st_mode)
    except OSError:
        return False


def write_whole(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file in one step: one that is killed leaves the old file or the new one; a link there is replaced.

    mode: of the file; as the process makes files if not given.
    """
    import tempfile  # loads much, and who only looks writes nothing

    # A name that nobody can know before: a branch could have put a link where the file is written first.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=UNFINISHED, dir=path.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        unfinished.chmod(_usual_mode() if mode is None else mode)  # mkstemp's files are their owner's alone
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def share_as(like: Path, *paths: Path) -> None:
    """Let those who may use the folder `like` use these too: in a shared repository (core.sharedRepository) git's own
    folders are open to a group, whatever the umask of who writes first.
    """
    folder_mode = stat.S_IMODE(like.stat().st_mode)
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode)
        more = mode | (folder_mode if path.is_dir() else folder_mode & 0o666)
        if more != mode:
            with suppress(PermissionError):  # somebody else's, who has seen to it
                path.chmod(more)


def _usual_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _not_plain(shown: str) -> ForgeError:
    return ForgeError(f"{shown} is not a plain file", hint="put the file itself there, not a link")


def _too_large(shown: str, size: int, limit: int) -> ForgeError:
    return ForgeError(
        f"{shown} has {size:,} bytes, more than the limit of {limit:,}",
        hint="raise limits.file_mebibytes in forge.toml if you trust where it comes from",
    )
