"""The bill of materials of a version: what its commit says of everything that the model is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from forge.errors import ForgeError
from forge.formats.adapter import check_adapter_config
from forge.formats.bill_of_materials import Bill, Contributed, Material, to_cyclonedx
from forge.formats.distilled import check_distilled
from forge.git.places import resolve
from forge.git.quiet import quiet
from forge.git.running import Repository, git_text
from forge.operations.loading import ReadBlobs, files_of, repository_payloads
from forge.recipe.card import read_card
from forge.recipe.item import Base, Entry, ForgeItem
from forge.recipe.layout import (
    ADAPTER_FILE,
    CARD_FILE,
    CONFIG_FILE,
    CONTRIBUTIONS,
    DISTILLED_FILE,
    consolidation_paths,
    path_of,
    rows_in,
)
from forge.recipe.settings import LimitSettings, Settings
from forge.repo.consolidation import consolidation_problems
from forge.repo.contributions import ContributionFiles, find_files
from forge.repo.erased import explained_disagreements
from forge.repo.items import read_settings_of

FILE_NAME = "bom.cdx.json"
EMBEDDED_LICENSE = "Apache-2.0"  # forge/model/embedded/MODEL_CARD.md


def bill_of(
    repo: Repository,
    rev: str,
    item: ForgeItem,
    signers: Mapping[str, str | None] | None,
    files: Mapping[str, str],
    *,
    task: str | None = None,
) -> bytes:
    """bom.cdx.json of the model of a revision, whose forge item is `item`, exported as `files` (name -> SHA-256).

    signers: who has signed each contribution, by its name. task: of a task-aware model, whose weights the files hold.
    Raises ForgeError where the tree has other contributions than the item names: a licence that stands in a card
    would then be said of files that it does not belong to.
    """
    commit = resolve(repo, rev)
    problems = explained_disagreements(repo, commit) + consolidation_problems(repo, commit, item)
    if problems:
        raise ForgeError(
            f"no bill of materials for {rev}: {problems[0]}", hint=f"see what is wrong with it: git forge verify {rev}"
        )
    settings = read_settings_of(repo, commit)
    there = [find_files(repo, name, commit) for name in item.names]
    read = repository_payloads(repo, settings.limits)
    read([*(blob for files in there for blob in files.blobs.values()), *files_of(item)])
    contributions = tuple(
        _contributed(entry, files, (signers or {}).get(entry.name), read, settings.limits)
        for entry, files in zip(item.contributions, there, strict=True)
    )
    bill = Bill(
        commit, _committed(repo, commit), item, contributions, _consolidation(item, read), task, settings.license,
        _base_license(item.base, settings), files,
    )  # fmt: skip
    return to_cyclonedx(bill).encode("ascii")


def _consolidation(item: ForgeItem, read: ReadBlobs) -> tuple[Material, ...]:
    if item.consolidation is None:
        return ()
    ids = {path: getattr(item.consolidation, part) for part, path in consolidation_paths().items()}
    blobs = read(ids.values())
    return tuple(_material(path, blob, blobs) for path, blob in ids.items())


def _contributed(
    entry: Entry, files: ContributionFiles, signer: str | None, read: ReadBlobs, limits: LimitSettings
) -> Contributed:
    name = entry.name
    if CARD_FILE not in files.blobs:
        raise ForgeError(f"{files.described(CARD_FILE)} is missing", hint=f"take it in again: git forge add {name}")
    blobs = read(files.blobs.values())
    materials = {file: _material(path_of(name, file), blob, blobs) for file, blob in files.blobs.items()}
    config = check_adapter_config(blobs[entry.config], files.described(CONFIG_FILE))
    distilled = check_distilled(blobs[entry.distilled], files.described(DISTILLED_FILE), limits.distilled_images)
    card = read_card(blobs[files.blobs[CARD_FILE]], files.described(CARD_FILE))
    named = (ADAPTER_FILE, CARD_FILE, CONFIG_FILE, DISTILLED_FILE)
    return Contributed(
        entry,
        adapter=materials[ADAPTER_FILE],
        config=materials[CONFIG_FILE],
        distilled=materials[DISTILLED_FILE],
        kind=f"{config.kind} r {config.rank}",
        task=distilled.task,
        labels=distilled.labels,
        images=distilled.images,
        card=materials[CARD_FILE],
        license=card.license,
        signer=signer,
        others={
            row.word: materials[row.name]
            for row in rows_in(CONTRIBUTIONS)
            if row.name in materials and row.name not in named
        },
    )


def _material(path: str, blob: str, contents: Mapping[str, bytes]) -> Material:
    return Material(path, blob, hashlib.sha256(contents[blob]).hexdigest())


def _committed(repo: Repository, commit: str) -> datetime:
    """When a commit was made, by its committer."""
    timestamp = git_text(repo, *quiet("log"), "-1", "--format=%ct", commit)
    try:
        return datetime.fromtimestamp(int(timestamp), UTC)
    except (ValueError, OverflowError, OSError):
        raise ForgeError(f"commit {commit} has a date that no calendar knows: {timestamp[:40]}") from None


def _base_license(base: Base, settings: Settings) -> str | None:
    """The base's licence: the embedded one's is known, by its weights and not by its name; of others what is stated."""
    return EMBEDDED_LICENSE if base.fingerprint == _embedded_fingerprint() else settings.base_license


@lru_cache(maxsize=1)
def _embedded_fingerprint() -> str:
    from forge.model.base import load_base
    from forge.model.base_places import EMBEDDED

    return load_base(EMBEDDED).fingerprint
