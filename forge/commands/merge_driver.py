"""git forge merge-driver: what git calls to merge forge-item.json.

The contract (gitattributes(5), "Defining a custom merge driver"): %O, %A and %B name files with the
ancestor's, ours' and theirs' version; the result is left in %A; zero means merged, anything else up to 128 a
conflict. git starts the driver in the top folder of the work tree and holds the index's lock meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import click

from forge.console import say
from forge.errors import ExitCode, ForgeError
from forge.recipe.layout import ITEM_FILE


@click.command("merge-driver", hidden=True)
@click.option("--union", is_flag=True, help="Only unite the contributions: for git's virtual ancestors.")
@click.argument("ancestor", type=click.Path(path_type=Path))
@click.argument("ours", type=click.Path(path_type=Path))
@click.argument("theirs", type=click.Path(path_type=Path))
@click.argument("path", default=ITEM_FILE)
def command(union: bool, ancestor: Path, ours: Path, theirs: Path, path: str) -> None:
    """Merge the forge items of ANCESTOR, OURS and THEIRS into OURS by searching their coefficients."""
    from forge.git.files import write_whole
    from forge.git.running import find_repository
    from forge.repo.leftovers import tidy_merge_files
    from forge.repo.locks import driver_lock, sharing

    try:
        repo = find_repository()
        tidy_merge_files(repo, keep=[file.name for file in (ancestor, ours, theirs)])
        with sharing(driver_lock(repo)):
            merged = _merge(union, ancestor, ours, theirs, path)
    except ForgeError as error:
        error.exit_code = ExitCode.NEGATIVE  # to git, a conflict; OURS is as it was
        raise
    except KeyboardInterrupt:
        _tidy_after_git((ancestor, ours, theirs))
        raise
    # In one step: a driver that is killed leaves either the old file or the whole new one.
    write_whole(ours, merged.encode())


def _merge(union: bool, ancestor: Path, ours: Path, theirs: Path, path: str) -> str:
    from forge.git.running import find_repository
    from forge.recipe import three_way
    from forge.recipe.item_text import from_json, to_json
    from forge.repo.storage import is_in_both_storages, with_ids_in_common

    text = _read(ancestor)
    before = from_json(text, f"{path} (ancestor)") if text.strip() else None  # empty: added on both sides
    mine = from_json(_read(ours), f"{path} (ours)")
    other = from_json(_read(theirs), f"{path} (theirs)")
    repo = find_repository()
    # A file that one side keeps in git-lfs and the other in git is the same file: it was not replaced.
    before, mine, other = with_ids_in_common(repo, before, mine, other)
    if union:
        return to_json(three_way.union(before, mine, other))
    plan = three_way.plan_merge(before, mine, other)

    from forge.operations.folding import fold
    from forge.operations.loading import repository_payloads
    from forge.recipe.gate import pass_gate
    from forge.recipe.without_effect import without_effect
    from forge.repo.items import read_settings_of
    from forge.repo.trailers import trailer_lines

    # Ours' settings as committed: an edit of forge.toml that nobody else can see must not change a merge.
    settings = read_settings_of(repo, "HEAD")
    folded = fold(repo, plan, mine, settings, repository_payloads(repo, settings.limits))
    item = folded.item
    if item != mine:
        item = pass_gate(
            item,
            settings.gate,
            accept=False,
            hint=_ACCEPT,
            replaced=folded.replaced,
            contradictions=folded.contradictions,
        )
    if item.consolidation is None and (mine.consolidation or other.consolidation):
        said = "the consolidation was made of other contributions and is dropped; make one with git forge commit"
        say(f"{said} --consolidate", err=True)
    if is_in_both_storages(repo, item):
        said = "some of the contributions are kept in git and some in git-lfs: when this is merged, move them with"
        say(f"{said} git forge storage lfs (or git)", err=True)
    for line in trailer_lines(item, mine):
        say(line, err=True)
    for line in without_effect(item, mine):
        say(f"warning: {line}", err=True)
    return to_json(item)


def _read(file: Path) -> bytes:
    from forge.git.files import read_plain_file
    from forge.recipe.item_text import MAX_BYTES

    content = read_plain_file(file, MAX_BYTES)
    if content is None:
        raise ForgeError(f"{file} is not there", hint="git calls this by itself: see git config merge.forge.driver")
    return content


_ACCEPT = (
    "`git forge resolve --accept` takes it all the same, records that and says how to go on; "
    "`git merge --abort` (or rebase, cherry-pick, revert) goes back"
)


def _tidy_after_git(files: Iterable[Path]) -> None:
    """Remove git's temporary files if the same Ctrl-C has ended git, which leaves them in the work tree.

    A git that lives on still needs them, and removes them itself; it holds the index's lock until then.
    """
    from forge.git.running import find_repository

    lock = find_repository().git_dir / "index.lock"
    for _ in range(20):
        if not lock.exists():
            for file in files:
                if file.name.startswith(".merge_file_"):
                    file.unlink(missing_ok=True)
            return
        time.sleep(0.05)
