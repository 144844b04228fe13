"""Files that a git forge, or a git in the middle of a merge, leaves behind when it is killed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from forge.git.files import UNFINISHED, is_plain_file
from forge.git.running import Repository
from forge.recipe.layout import FOLDERS, rows_in
from forge.repo import locks as lock

KEPT_FOLDER = "before-forge"  # in the git folder: what git forge commit puts back if it fails
MERGE_FILE = ".merge_file_"  # how git begins the name of what it hands to a merge driver, in the top folder
ITEM_START = b'{\n  "digest"'
ENOUGH = 60.0  # seconds: far longer than a driver needs to start and to say that it is at work


@contextmanager
def alone_in_work_tree(repo: Repository, doing: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of the work tree during the block, after tidying up what killed processes left in it."""
    with lock.only_one(lock.work_tree_lock(repo), doing, wait=wait):
        tidy(repo)
        yield


def tidy(repo: Repository) -> list[str]:
    """Remove leftovers, and say which; only for who holds the lock of the work tree."""
    at_top = (*(row.name for row in rows_in("")), MERGE_FILE)
    leftovers = [path for name in at_top for path in repo.top.glob(f".{name}*{UNFINISHED}")]
    written_in = {row.path.rpartition("/")[0]: None for folder in FOLDERS for row in rows_in(folder)}
    for folder in written_in:
        # Linked folders lead elsewhere: nothing there is ours to remove.
        leftovers += [path for path in repo.top.glob(f"{folder}/.*{UNFINISHED}") if not _through_link(repo, path)]
    gone = [path for path in leftovers if is_plain_file(path) and _removed(path)]
    shutil.rmtree(repo.git_dir / KEPT_FOLDER, ignore_errors=True)
    if not (repo.git_dir / "index.lock").exists():  # else git may be in the middle of a merge
        gone += tidy_merge_files(repo)
    return [path.name for path in gone]


def tidy_merge_files(repo: Repository, keep: Collection[str] = ()) -> list[Path]:
    """Remove the versions of forge items that a killed merge left in the top folder, but for those named `keep`.

    None is touched while another merge driver is at work, nor for a minute after it was written: git writes
    them before it starts a driver.
    """
    with lock.if_nobody(lock.driver_lock(repo)) as nobody:
        if not nobody:
            return []
        old = [path for path in repo.top.glob(f"{MERGE_FILE}*") if path.name not in keep and _is_old_item(path)]
        return [path for path in old if _removed(path)]


def _is_old_item(path: Path) -> bool:
    with suppress(OSError):
        if not is_plain_file(path) or time.time() - path.stat().st_mtime < ENOUGH:
            return False
        with path.open("rb") as file:
            start = file.read(len(ITEM_START))
        return start in (ITEM_START, b"")  # empty: the ancestor of a file that both sides added
    return False


def _through_link(repo: Repository, path: Path) -> bool:
    return any((repo.top / parent).is_symlink() for parent in path.relative_to(repo.top).parents[:-1])


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True
