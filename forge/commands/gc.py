"""git forge gc: what git forge keeps in a clone, and away with what nobody needs."""

from __future__ import annotations

import click

from forge.console import say


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

    from forge.clone.kept_files import collect, find_kept
    from forge.console import emit_json, print_table
    from forge.git.running import find_repository

    repo = find_repository()
    found = find_kept(repo, expire)
    gone = {file.path for file in ([] if dry_run else collect(repo, found))}
    if as_json:
        emit_json([asdict(file) | {"removed": file.path in gone} for file in found])
        return
    if not found:
        say("nothing is kept")
        return
    now = time.time()
    rows = []
    for file in found:
        state = "removed" if file.path in gone else "in use" if file.in_use else "stale" if file.stale else "kept"
        days = max(0, int(now - file.changed) // 86400)
        rows.append((file.path, file.what, f"{file.bytes:,}", f"{days} days" if days != 1 else "1 day", state))
    print_table(("File", "What", "Bytes", "Age", "State"), rows, right=(2, 3))
