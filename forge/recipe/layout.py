"""Which files a model repository consists of: one table, from which everything that names a file follows.

A row says where a file lies, what .gitattributes says of it, how large it may be, and which key of the forge item holds
the id of its blob. A file that is added to the table is checked, attributed, committed, merged and listed like the
others; what its content must be is said in forge/formats and checked in forge/repo/contributions.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from forge.recipe.checks import check_name
from forge.recipe.toml_text import MAX_BYTES as MAX_TOML

CONTRIBUTIONS, CONSOLIDATION = "contributions", "consolidation"
FOLDERS = (CONTRIBUTIONS, CONSOLIDATION)

ITEM_FILE = "forge-item.json"
SETTINGS_FILE = "forge.toml"
ATTRIBUTES_FILE = ".gitattributes"
ADAPTER_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
DISTILLED_FILE = "distilled.safetensors"
CARD_FILE = "card.toml"


@dataclass(frozen=True)
class ModelFile:
    """A row of the table.

    path: from the top folder; `*` stands for the name of a contribution. limit: most bytes, None where
    limits.file_mebibytes of forge.toml says. attributes: what .gitattributes says of it, of a payload all but the
    filter, which depends on where payloads are kept. part: the key of the contribution's entry, or of the
    consolidation, that holds the id of its blob; None for a file that the forge item does not name. word, title: what a
    list of changes and a sentence call it. is_optional: whether a contribution may be without it.
    """

    path: str
    limit: int | None = None
    attributes: str = ""
    part: str | None = None
    word: str = ""
    title: str = ""
    is_payload: bool = False
    is_optional: bool = False

    # Once for each row: a model of a thousand contributions asks for them tens of thousands of times.

    @cached_property
    def folder(self) -> str:
        """The first folder of the path; empty for a file in the top folder."""
        return self.path.rpartition("/")[0].partition("/")[0]

    @cached_property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @cached_property
    def pattern(self) -> tuple[str, ...]:
        """The parts of the path."""
        return tuple(self.path.split("/"))

    def is_of(self, parts: tuple[str, ...]) -> bool:
        """Whether the row is that of a file, by the parts of its path."""
        pattern = self.pattern
        return len(pattern) == len(parts) and (
            pattern == parts
            or all(one == other or (one == "*" and other) for one, other in zip(pattern, parts, strict=True))
        )


# `-text`: no line end conversion may touch tensors. Blob ids of the text files are in the forge item, so their
# line ends are fixed as well. merge=binary for them too: a card, or a config, speaks of the adapter beside it. Two
# edits of it blended, or one that git carries to a file that looks like it in another folder, would speak of none.
_TENSORS = "diff=forge merge=binary -text"
_TEXT = "text eol=lf"
_WHOLE_TEXT = f"{_TEXT} merge=binary"

ROWS: tuple[ModelFile, ...] = (
    ModelFile(ITEM_FILE, 16 * 2**20, f"merge=forge diff=forge {_TEXT}"),
    ModelFile(SETTINGS_FILE, MAX_TOML, _TEXT),
    ModelFile(ATTRIBUTES_FILE, 100 * 2**20),  # git reads no larger one
    ModelFile(f"{CONTRIBUTIONS}/*/{CONFIG_FILE}", 2**20, _WHOLE_TEXT, "config", "config", "adapter config"),
    ModelFile(f"{CONTRIBUTIONS}/*/{ADAPTER_FILE}", None, _TENSORS, "adapter", "adapter", "adapter", is_payload=True),
    ModelFile(
        f"{CONTRIBUTIONS}/*/{DISTILLED_FILE}", None, _TENSORS, "distilled", "images", "distilled dataset",
        is_payload=True,
    ),
    ModelFile(f"{CONTRIBUTIONS}/*/{CARD_FILE}", MAX_TOML, _WHOLE_TEXT, None, "card", "card"),
    ModelFile(f"{CONSOLIDATION}/{ADAPTER_FILE}", None, _TENSORS, "adapter", "adapter", "adapter", is_payload=True),
    ModelFile(f"{CONSOLIDATION}/{CONFIG_FILE}", 2**20, _TEXT, "config", "config", "adapter config"),
)  # fmt: skip


def path_of(name: str, file: str | None = None) -> str:
    """Path of a contribution's folder, or of a file in it, from the top folder."""
    folder = f"{CONTRIBUTIONS}/{check_name(name)}"
    return folder if file is None else f"{folder}/{file}"


def rows_in(folder: str) -> Iterator[ModelFile]:
    """The rows of one of FOLDERS, or with "" of the top folder, in the table's order."""
    return (row for row in ROWS if row.folder == folder)


def row_of(path: str) -> ModelFile | None:
    """The row of a file by its path, whatever the contribution is called; None for a file that has none."""
    parts = tuple(path.split("/"))
    return next((row for row in ROWS if row.is_of(parts)), None)


def is_in_model(path: str) -> bool:
    """Whether a model consists of the file at a path: it has a row, or lies where nothing else may lie."""
    return (path.partition("/")[0] in FOLDERS and "/" in path) or row_of(path) is not None


def contribution_files() -> tuple[str, ...]:
    """The names of the files that a contribution may have."""
    return tuple(row.name for row in rows_in(CONTRIBUTIONS))


def obligatory_files() -> tuple[str, ...]:
    """The names of the files that every contribution has."""
    return tuple(row.name for row in rows_in(CONTRIBUTIONS) if not row.is_optional)


def entry_parts() -> dict[str, str]:
    """The keys of a contribution's entry that are ids of blobs, sorted, with the name of the file of each."""
    return dict(sorted((row.part, row.name) for row in rows_in(CONTRIBUTIONS) if row.part))


def consolidation_paths() -> dict[str, str]:
    """The keys of a consolidation that are ids of blobs, sorted, with the path of the file of each."""
    return dict(sorted((row.part, row.path) for row in rows_in(CONSOLIDATION) if row.part))


def payload_rows() -> tuple[ModelFile, ...]:
    """The files that git or git-lfs may keep."""
    return tuple(row for row in ROWS if row.is_payload)


def limit_of(path: str) -> int:
    """The most bytes of a file that has a limit of its own, by its pattern."""
    (limit,) = (row.limit for row in ROWS if row.path == path)
    assert limit is not None, f"forge.toml says how large {path} may be"
    return limit
