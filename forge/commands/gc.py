"""git forge gc: what git forge keeps in a clone, and away with what nobody needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forge.console import emit_json, print_table, say

if TYPE_CHECKING:
    from forge.operations.gc import Kept


@click.command("gc")
@click.option("-n", "--dry-run", is_flag=True, help="Remove nothing.")
@click.option(
    "--prune", "expire", metavar="DATE", help="What is older is stale. [default: forge.gcExpire, or 2.weeks.ago]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def command(dry_run: bool, expire: str | None, as_json: bool) -> None:
    """List what git forge keeps under .git/forge (unfinished distillations, ...) and remove what is stale.

    Never removes what a running git forge works with, nor anything that git needs: history and work tree stay
    as they are. (git gc and git lfs prune look after objects.)
    """
    import time
    from dataclasses import asdict

    from forge.operations.gc import gc
    from forge.operations.opening import open_repository

    kept = gc(open_repository(), expire=expire, dry_run=dry_run)
    if as_json:
        emit_json([asdict(each.file) | {"removed": each.removed} for each in kept])
        return
    if not kept:
        say("nothing is kept")
        return
    now = time.time()
    print_table(("File", "What", "Bytes", "Age", "State"), [_row(each, now) for each in kept], right=(2, 3))


def _row(kept: Kept, now: float) -> tuple[str, ...]:
    file = kept.file
    state = "removed" if kept.removed else "in use" if file.in_use else "stale" if file.stale else "kept"
    days = max(0, int(now - file.changed) // 86400)
    return (file.path, file.what, f"{file.bytes:,}", f"{days} days" if days != 1 else "1 day", state)
