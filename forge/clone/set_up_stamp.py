"""Whether a clone is still set up as it was when somebody last looked at all of it: every command asks first.

To look at settings, drivers and hooks takes as long as all that a verb of looking does in a small repository. So where
all is as this git forge writes it, what that depends on is noted in the clone: a change of any of it, and all is looked
at again. The note is made and read by people's own clones; a branch cannot put one there.
"""

from __future__ import annotations

import os
import shutil
import sys
import zlib
from contextlib import suppress
from pathlib import Path

from forge import __version__
from forge.errors import ForgeError
from forge.git.running import Repository, git, state_dir
from forge.recipe.layout import ATTRIBUTES_FILE

FILE = "set-up"  # under .git/forge


def holds(repo: Repository) -> bool:
    """Whether nothing has changed since `remember`."""
    try:
        note = (repo.common_dir / "forge" / FILE).read_bytes()
    except OSError:
        return False
    return note == _note(repo)


def remember(repo: Repository) -> None:
    """Note that this clone is set up, if it is set up as this very program does it and as nobody has changed it."""
    from forge.clone import setup
    from forge.git.files import write_whole

    before = _note(repo)
    if before is not None and setup.is_as_written(repo):
        with suppress(ForgeError, OSError):
            write_whole(state_dir(repo) / FILE, before)


def _note(repo: Repository) -> bytes | None:
    """All that decides whether a clone is set up, as checksums; None where other places than the usual matter."""
    settings = git(repo, "config", "--list", "--show-scope", "--null", check=False)
    if b"\0core.hookspath\n" in settings:
        return None
    files = [repo.top / ATTRIBUTES_FILE, Path(sys.executable).with_name("git-forge")]
    with suppress(OSError):
        files += sorted((repo.common_dir / "hooks").iterdir())
    known = [__version__, sys.executable, shutil.which("git-lfs"), *map(_seen, files)]
    text = os.fsencode(repr(known)) + settings
    return f"{zlib.crc32(text):08x} {zlib.adler32(text):08x} {len(text)}\n".encode()


def _seen(file: Path) -> tuple[object, ...] | None:
    """What changes when a file does."""
    try:
        status = file.stat()
    except OSError:
        return None
    return (str(file), status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
