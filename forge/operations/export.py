"""`git forge export`: a version of the model as a folder for other tools."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from forge.errors import ForgeError
from forge.git.places import resolve
from forge.git.running import Repository
from forge.operations.bills import FILE_NAME as BILL
from forge.operations.bills import bill_of
from forge.operations.loading import load_model
from forge.operations.trusting import contribution_signers
from forge.recipe.item import Base, ForgeItem
from forge.repo.items import read_item, read_settings_of

PEFT, OPEN_CLIP = "peft", "open_clip"


@dataclass(frozen=True)
class Exported:
    """What was written: for which base; of an adapter its kind and rank; the tokeniser's BPE file in the folder."""

    base: Base
    adapter: tuple[str, int] | None = None
    words: str | None = None


def export_model(
    repo: Repository,
    rev: str,
    folder: Path,
    form: str,
    *,
    task: str | None = None,
    bill: bool = False,
    signers: Mapping[str, str | None] | None = None,
) -> Exported:
    """Write the model of a revision into the new folder; the same commit gives the same bytes.

    task: of a task-aware model, the one whose weights are written. bill: also write its bill of materials, which
    names `signers` by contribution, those of the commit's own keys if not given. The folder is whole or not there.
    """
    if form not in (PEFT, OPEN_CLIP):
        raise ForgeError(f"no form of an export is called {form!r}", hint=f"there are: {PEFT}, {OPEN_CLIP}")
    if folder.exists():
        raise ForgeError(f"{folder} exists already", hint="give the name of a new folder")
    commit = resolve(repo, rev)
    item = read_item(repo, commit)
    _check_task(item, task)

    from forge.model.exporting import delta_of, export_open_clip, export_peft

    loaded = load_model(repo, commit, read_settings_of(repo, commit).limits)
    members = [
        (loaded.adapters[entry.name], entry.coefficient if task is None else entry.tasks[task])
        for entry in item.contributions
    ]
    residual = loaded.residual if task is None else None  # a consolidation belongs to what all tasks share
    adapter, words = None, None
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the target and moved in one step.
    with tempfile.TemporaryDirectory(prefix=".git-forge-", dir=folder.parent) as scratch:
        written = Path(scratch) / folder.name
        if form == PEFT:
            adapter = export_peft(loaded.base, item.strategy, members, written, residual=residual)
        else:
            delta = delta_of(item.strategy, members, residual=residual)
            words = export_open_clip(loaded.base, delta, written)
        if bill:
            files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(written.iterdir())}
            known = contribution_signers(repo, commit, item.names) if signers is None else signers
            (written / BILL).write_bytes(bill_of(repo, commit, item, known, files, task=task))
        shutil.move(written, folder)
    return Exported(item.base, adapter, words.name if words is not None else None)


def _check_task(item: ForgeItem, task: str | None) -> None:
    if task is None and item.tasks:
        raise ForgeError(
            "this model is task-aware: it has weights of their own for each task, and an export holds one set",
            hint=f"choose with --task: {', '.join(item.tasks)}",
        )
    if task is not None and task not in item.tasks:
        there = ", ".join(item.tasks) or "none, it is not task-aware"
        raise ForgeError(f"this model has no weights of their own for the task {task!r}", hint=f"it has: {there}")
