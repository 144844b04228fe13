"""git forge merge-driver: what git calls to merge forge-item.json.

The contract (gitattributes(5), "Defining a custom merge driver"): %O, %A and %B name files with the
ancestor's, ours' and theirs' version; the result is left in %A; zero means merged, anything else up to 128 a
conflict. git starts the driver in the top folder of the work tree and holds the index's lock meanwhile.
"""

from __future__ import annotations

from pathlib import Path

import click

from forge.console import note
from forge.recipe.layout import ITEM_FILE


@click.command("merge-driver", hidden=True)
@click.option("--union", is_flag=True, help="Only unite the contributions: for git's virtual ancestors.")
@click.argument("ancestor", type=click.Path(path_type=Path))
@click.argument("ours", type=click.Path(path_type=Path))
@click.argument("theirs", type=click.Path(path_type=Path))
@click.argument("path", default=ITEM_FILE)
def command(union: bool, ancestor: Path, ours: Path, theirs: Path, path: str) -> None:
    """Merge the forge items of ANCESTOR, OURS and THEIRS into OURS by searching their coefficients."""
    from forge.operations.merge_driver import Versions, merge_items

    merge_items(Versions(ancestor, ours, theirs, path), union=union, report=note)
