"""How hard git packs what is committed in a clone whose payloads lie in git: not at all.

Adapters and images hardly become smaller (7 and 14 % with zlib, at any level), and packing them is most of what storing
them takes: at `git add`, at `git push`, and once more where they arrive. git has no such setting for some paths alone;
beside the payloads of a contribution, its texts are nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from forge.clone.defaults import Defaults, are_in_place, put_in_place
from forge.git.lfs_endpoint import Setting
from forge.git.running import Repository
from forge.repo.storage import storage_of

_OF_ALL = ("core.compression",)
DEFAULTS = Defaults(
    values={"core.looseCompression": "0", "pack.compression": "0"},
    record="forge.compressionset",
    rivals={"core.looseCompression": _OF_ALL, "pack.compression": _OF_ALL},
)


def is_in_place(repo: Repository, settings: Sequence[Setting]) -> bool:
    """Whether the clone packs as it should, by the settings that DEFAULTS.pattern lists."""
    return are_in_place(DEFAULTS, settings, on=_is_due(repo))


def set_up(repo: Repository) -> None:
    """Turn packing off where nobody has decided about it, and back on where payloads are git-lfs's to keep."""
    put_in_place(repo, DEFAULTS, on=_is_due(repo))


def take_out(repo: Repository) -> None:
    """Take out what set_up has set."""
    put_in_place(repo, DEFAULTS, on=False)


def _is_due(repo: Repository) -> bool:
    return storage_of(repo) == "git"
