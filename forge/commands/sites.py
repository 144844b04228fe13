"""git forge sites: who may change what in a model, and by which keys they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forge.console import say

if TYPE_CHECKING:
    from forge.operations.trusting import TrustFiles

_NEWCOMERS = {
    "maintainers": "maintainers alone bring a contribution that no site owns",
    "signers": "everybody with a key may bring a contribution that no site owns",
    "anyone": "anyone may bring a contribution that no site owns, unsigned too",
}


@click.command("sites")
@click.argument("rev", default="HEAD")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def command(rev: str, as_json: bool) -> None:
    """Show who may change what in REV (HEAD): what .forge/sites.toml and .forge/allowed_signers say there."""
    from forge.console import emit_json
    from forge.git.places import resolve
    from forge.git.running import find_repository
    from forge.operations.trusting import read_trust_files

    repo = find_repository()
    commit = resolve(repo, rev)
    files = read_trust_files(repo, commit)
    if as_json:
        emit_json({"rev": rev, "commit": commit, "required": files is not None, **(_as_json(files) if files else {})})
    elif files is None:
        say(f"There is no .forge/ in {rev}: nothing is asked for, and anybody may change everything.")
    else:
        _print(files)


def _print(files: TrustFiles) -> None:
    from forge.console import print_table
    from forge.recipe.layout import path_of

    found = files.rights
    rows = [(path_of(name), ", ".join(owners)) for name, owners in found.sites.items()]
    print_table(("What", "Who"), [*rows, ("everything else", ", ".join(found.maintainers))])
    say("", f"newcomers = {found.newcomers}: {_NEWCOMERS[found.newcomers]}")
    say(f"threshold = {found.threshold}: how many maintainers stand behind what a protected branch is set to", "")
    keys = [
        (
            ", ".join(key.principals),
            key.fingerprint,
            f"{key.kind} (signs others' keys)" if key.authority else key.kind,
            key.valid_after or "-",
            key.valid_before or "-",
        )
        for key in files.keys
    ]
    print_table(("Principal", "Key", "Kind", "Valid after", "Valid before"), keys)
    known = {principal for key in files.keys for principal in key.principals}
    unknown = sorted({*found.maintainers, *(each for owners in found.sites.values() for each in owners)} - known)
    if unknown and not any(key.authority for key in files.keys):
        say("", f"Without a key: {', '.join(unknown)}")


def _as_json(files: TrustFiles) -> dict[str, Any]:
    found = files.rights
    return {
        "maintainers": list(found.maintainers),
        "threshold": found.threshold,
        "newcomers": found.newcomers,
        "sites": {name: list(owners) for name, owners in found.sites.items()},
        "keys": [{**vars(key), "principals": list(key.principals)} for key in files.keys],
    }
