"""git forge storage: whether payloads are kept by git itself or by git-lfs, and how to change that."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from forge.console import emit_json, note, say

if TYPE_CHECKING:
    from forge.repo.storage import Storage


@click.command("storage")
@click.argument("storage", required=False, type=click.Choice(["git", "lfs"]))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def command(storage: str | None, as_json: bool) -> None:
    """Print where the payloads (adapters and distilled images) are kept, or keep them in STORAGE from now on.

    git: plain objects, nothing else needed. lfs: git-lfs, for models that have outgrown git. Changing it makes one
    commit, in which the model stays what it is; older commits stay as they are, and stay readable.
    """
    from dataclasses import asdict

    from forge.operations.opening import open_model
    from forge.operations.storage import convert, find_stored

    repo = open_model()
    if storage is not None:
        moved = convert(repo, cast("Storage", storage))  # one of them: click saw to that
        note(f"{moved} files moved" if moved else "nothing to move")
    stored = find_stored(repo)
    if as_json:
        emit_json(asdict(stored))
        return
    say(stored.storage)
    remarks = (
        (stored.otherwise, f"not kept there (run: git forge storage {stored.storage})"),
        (stored.absent, "not here (run: git lfs pull)"),
    )
    for paths, remark in remarks:
        for path in paths:
            say(f"  {path}: {remark}")
