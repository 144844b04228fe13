"""What git forge keeps per clone, under .git/forge: how large and how old it is, and which of it nobody needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forge.clone import set_up_stamp
from forge.errors import ForgeError
from forge.git.running import Repository, git_text
from forge.repo import locks as lock
from forge.repo import version_index

EXPIRE = "forge.gcExpire"
USUALLY = "2.weeks.ago"  # as git's own gc.pruneExpire

_DISTILLING = "distilling"
_PARTIAL = ".new"  # ends the name of a state that is being written
_CRASH_LOG = "crash.log"


@dataclass(frozen=True)
class KeptFile:
    """A file under .git/forge. stale: nobody works with it, and it is older than what is worth keeping."""

    path: str  # from .git/forge
    what: str
    bytes: int
    changed: int  # seconds since 1970
    in_use: bool
    stale: bool


def find_kept(repo: Repository, expire: str | None = None) -> list[KeptFile]:
    """All files that git forge keeps in this clone, but for its locks, which are empty, and the note that it is set up;
    sorted by path.

    expire: a date as git takes it ("2.weeks.ago", "now", "never"): what changed before is stale. The setting
    forge.gcExpire if not given.
    """
    before = _expiry(repo, expire)
    folder = repo.common_dir / "forge"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    besides = (lock.FOLDER, set_up_stamp.FILE)
    return [_look(repo, folder, path, before) for path in files if path.relative_to(folder).parts[0] not in besides]


def collect(repo: Repository, files: Iterable[KeptFile]) -> list[KeptFile]:
    """Remove what is stale of the files that were found, and nothing that somebody works with; what was removed."""
    folder = repo.common_dir / "forge"
    gone = []
    for file in files:
        if file.stale:
            path = folder / file.path
            with _nobody_works_with(repo, path) as nobody:
                # Looked at again: meanwhile a run may have ended, or a new one begun and ended.
                if nobody and path.is_file() and int(path.stat().st_mtime) == file.changed:
                    _remove(path)
                    gone.append(file)
    return gone


def _look(repo: Repository, folder: Path, path: Path, before: int) -> KeptFile:
    status = path.stat()
    changed = int(status.st_mtime)
    what = _what(path.relative_to(folder))
    with _nobody_works_with(repo, path) as nobody:
        pass
    # A state that was cut off while it was written is of no use to anybody, however young.
    stale = nobody and what is not None and (changed < before or path.suffix == _PARTIAL)
    return KeptFile(
        path.relative_to(folder).as_posix(), what or "not git forge's", status.st_size, changed, not nobody, stale
    )


def _what(path: Path) -> str | None:
    """What a file is, None for one that git forge did not put there."""
    if path.parts[0] == _DISTILLING and len(path.parts) == 2 and path.suffix in (".safetensors", _PARTIAL):
        return "unfinished distillation"
    if path.parts == (version_index.FILE,):
        return "index of git forge log and show"
    return "last crash" if path.parts == (_CRASH_LOG,) else None


@contextmanager
def _nobody_works_with(repo: Repository, path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock of what a file belongs to, in which case nobody can take it in the block."""
    if path.parent.name != _DISTILLING:
        yield True
        return
    try:
        file = lock.unfinished_lock(repo, path.stem)
    except ForgeError:  # no name of a contribution: nothing that git forge could be working with
        yield True
        return
    with lock.if_nobody(file) as nobody:
        yield nobody


def _expiry(repo: Repository, expire: str | None) -> int:
    given = ["-c", f"{EXPIRE}={expire}"] if expire is not None else []
    try:
        return int(git_text(repo, *given, "config", "--type=expiry-date", f"--default={USUALLY}", "--get", EXPIRE))
    except ForgeError as error:
        raise ForgeError(error.message, hint=f"give a date as git takes it, such as {USUALLY}, now or never") from None


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise ForgeError(f"cannot remove {path}: {error.strerror}", hint="check its permissions") from error
