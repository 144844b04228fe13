"""`git forge merge-driver`: the forge items of two branches and their ancestor as one, with coefficients for it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from forge.console import Report, silent
from forge.errors import ExitCode, ForgeError
from forge.git.files import read_plain_file, write_whole
from forge.git.running import Repository, find_repository
from forge.recipe import three_way
from forge.recipe.item import ForgeItem
from forge.recipe.item_text import MAX_BYTES, from_json, to_json
from forge.repo.leftovers import MERGE_FILE, tidy_merge_files
from forge.repo.locks import driver_lock, sharing
from forge.repo.storage import is_in_both_storages, with_ids_in_common

_ACCEPT = (
    "`git forge resolve --accept` takes it all the same, records that and says how to go on; "
    "`git merge --abort` (or rebase, cherry-pick, revert) goes back"
)


@dataclass(frozen=True)
class Versions:
    """The three files that git gives to a merge driver, and the path of what they are versions of."""

    ancestor: Path
    ours: Path
    theirs: Path
    path: str

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.ancestor, self.ours, self.theirs)


def merge_items(versions: Versions, *, union: bool = False, report: Report = silent) -> None:
    """Merge three versions of the forge item, in the current repository, into the file `versions.ours`.

    union: only unite the contributions, for git's virtual ancestors. Raises ForgeError, which is a conflict to git,
    with that file as it was.
    """
    try:
        repo = find_repository()
        tidy_merge_files(repo, keep=[file.name for file in versions.files])
        with sharing(driver_lock(repo)):
            item = _merged(repo, versions, union, report)
    except ForgeError as error:
        error.exit_code = ExitCode.NEGATIVE  # to git, a conflict; OURS is as it was
        raise
    except KeyboardInterrupt:
        _tidy_after_git(versions.files)
        raise
    # In one step: a driver that is killed leaves either the old file or the whole new one.
    write_whole(versions.ours, to_json(item).encode())


def _merged(repo: Repository, versions: Versions, union: bool, report: Report) -> ForgeItem:
    text = _read(versions.ancestor)
    ancestor = from_json(text, f"{versions.path} (ancestor)") if text.strip() else None  # empty: added on both sides
    ours = from_json(_read(versions.ours), f"{versions.path} (ours)")
    theirs = from_json(_read(versions.theirs), f"{versions.path} (theirs)")
    # A file that one side keeps in git-lfs and the other in git is the same file: it was not replaced.
    ancestor, ours, theirs = with_ids_in_common(repo, ancestor, ours, theirs)
    if union:
        return three_way.union(ancestor, ours, theirs)
    item = _folded(repo, three_way.plan_merge(ancestor, ours, theirs), ours)
    if item.consolidation is None and (ours.consolidation or theirs.consolidation):
        dropped = "the consolidation was made of other contributions and is dropped"
        report(f"{dropped}; make one with git forge commit --consolidate")
    if is_in_both_storages(repo, item):
        both = "some of the contributions are kept in git and some in git-lfs"
        report(f"{both}: when this is merged, move them with git forge storage lfs (or git)")

    from forge.recipe.without_effect import without_effect
    from forge.repo.trailers import trailer_lines

    for line in trailer_lines(item, ours):
        report(line)
    for line in without_effect(item, ours):
        report(f"warning: {line}")
    return item


def _folded(repo: Repository, plan: three_way.MergePlan, ours: ForgeItem) -> ForgeItem:
    """The plan with coefficients, where the gate of ours lets it pass."""
    from forge.operations.folding import fold
    from forge.operations.loading import repository_payloads
    from forge.recipe.gate import pass_gate
    from forge.repo.items import read_settings_of

    # Ours' settings as committed: an edit of forge.toml that nobody else can see must not change a merge.
    settings = read_settings_of(repo, "HEAD")
    folded = fold(repo, plan, ours, settings, repository_payloads(repo, settings.limits))
    if folded.item == ours:
        return ours
    return pass_gate(
        folded.item,
        settings.gate,
        accept=False,
        hint=_ACCEPT,
        replaced=folded.replaced,
        contradictions=folded.contradictions,
    )


def _read(file: Path) -> bytes:
    content = read_plain_file(file, MAX_BYTES)
    if content is None:
        raise ForgeError(f"{file} is not there", hint="git calls this by itself: see git config merge.forge.driver")
    return content


def _tidy_after_git(files: Iterable[Path]) -> None:
    """Remove git's temporary files if the same Ctrl-C has ended git, which leaves them in the work tree.

    A git that lives on still needs them, and removes them itself; it holds the index's lock until then.
    """
    lock = find_repository().git_dir / "index.lock"
    for _ in range(20):
        if not lock.exists():
            for file in files:
                if file.name.startswith(MERGE_FILE):
                    file.unlink(missing_ok=True)
            return
        time.sleep(0.05)
