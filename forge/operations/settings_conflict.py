"""forge.toml in conflict: where the sides differ in nothing but the strategy, one word of a person settles it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from forge.errors import ForgeError
from forge.git.in_progress import ANCESTOR, OURS, THEIRS
from forge.git.places import ListedFile
from forge.git.running import Repository, git_succeeds, read_blob
from forge.recipe.layout import SETTINGS_FILE
from forge.recipe.settings import with_strategy
from forge.recipe.toml_text import parse_toml, take_table


def merged_with_strategy(repo: Repository, stages: Mapping[int, ListedFile], strategy: str) -> bytes | None:
    """The three versions of forge.toml merged with a strategy in each; None where they differ in more than that."""
    texts = [
        with_strategy(read_blob(repo, each.blob), strategy) if each and each.blob else b""
        for each in (stages.get(stage) for stage in (OURS, ANCESTOR, THEIRS))
    ]
    return _merge_texts(repo, texts)


def strategies_to_choose_from(repo: Repository, stages: Mapping[int, ListedFile] | None) -> tuple[str, str] | None:
    """The strategies of ours and theirs, where forge.toml is in conflict for nothing else.

    stages: the versions of forge.toml in the index, None where it is in no conflict.
    """
    try:
        strategies = [_strategy(repo, stages[stage]) for stage in (OURS, THEIRS)] if stages else []
        if (
            len(strategies) == 2
            and strategies[0] != strategies[1]
            and stages
            and merged_with_strategy(repo, stages, strategies[0])
        ):
            return strategies[0], strategies[1]
    except (ForgeError, KeyError):
        pass
    return None


def _strategy(repo: Repository, file: ListedFile) -> str:
    return str(
        take_table(parse_toml(read_blob(repo, file.blob or ""), SETTINGS_FILE), "merge", SETTINGS_FILE)["strategy"]
    )


def _merge_texts(repo: Repository, texts: Sequence[bytes]) -> bytes | None:
    """git's own merge of three texts (ours, ancestor, theirs); None where they conflict."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(3)]
        for file, text in zip(files, texts, strict=True):
            file.write_bytes(text)
        ours, ancestor, theirs = map(str, files)
        if not git_succeeds(repo, "merge-file", ours, ancestor, theirs):
            return None
        return files[0].read_bytes()
