"""git forge sites: who may change what in a model, and by which keys they are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from forge.console import emit_json, print_table, say
from forge.recipe.layout import path_of

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
    from forge.operations.opening import open_repository
    from forge.operations.sites import sites

    model_sites = sites(open_repository(), rev)
    files = model_sites.files
    if as_json:
        head = {"rev": rev, "commit": model_sites.commit, "required": files is not None}
        emit_json({**head, **(_as_json(files) if files else {})})
    elif files is None:
        say(f"There is no .forge/ in {rev}: nothing is asked for, and anybody may change everything.")
    else:
        _print(files, model_sites.without_key)


def _print(files: TrustFiles, without_key: Sequence[str]) -> None:
    rights = files.rights
    rows = [(path_of(name), ", ".join(owners)) for name, owners in rights.sites.items()]
    print_table(("What", "Who"), [*rows, ("everything else", ", ".join(rights.maintainers))])
    say("", f"newcomers = {rights.newcomers}: {_NEWCOMERS[rights.newcomers]}")
    say(f"threshold = {rights.threshold}: how many maintainers stand behind what a protected branch is set to", "")
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
    if without_key:
        say("", f"Without a key: {', '.join(without_key)}")


def _as_json(files: TrustFiles) -> dict[str, Any]:
    rights = files.rights
    return {
        "maintainers": list(rights.maintainers),
        "threshold": rights.threshold,
        "newcomers": rights.newcomers,
        "sites": {name: list(owners) for name, owners in rights.sites.items()},
        "keys": [{**vars(key), "principals": list(key.principals)} for key in files.keys],
    }
