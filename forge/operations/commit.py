"""`git forge commit`: what changed, folded into the recipe of HEAD, with nothing lost on failure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from forge.clone.stored import commit, literal, refuse_other_filters, stage
from forge.errors import ForgeError
from forge.git.files import is_plain_file, write_whole
from forge.git.lfs import follow, require_filter
from forge.git.places import INDEX, list_files, read_file, resolve
from forge.git.running import Repository, fetch_promised, git, git_succeeds, git_text
from forge.operations.changing import Changes, changes_against, fold_changes
from forge.operations.completing import completed_attributes
from forge.operations.consolidating import consolidated, without_consolidation
from forge.operations.contributing import write_files
from forge.operations.loading import Payloads, blob_reader
from forge.operations.restoring import restored_on_failure
from forge.recipe.checks import check_whole
from forge.recipe.gate import pass_gate
from forge.recipe.item import Entry, ForgeItem, identity
from forge.recipe.item_text import to_json
from forge.recipe.layout import (
    CONSOLIDATION,
    CONTRIBUTIONS,
    ITEM_FILE,
    SETTINGS_FILE,
    consolidation_paths,
    contribution_files,
    entry_parts,
    obligatory_files,
    path_of,
)
from forge.recipe.settings import MOST_STEPS, Settings
from forge.recipe.without_effect import without_effect
from forge.repo.contributions import check_contribution, disagreements, find_all
from forge.repo.erased import erased_contributions
from forge.repo.items import read_item, read_settings_of
from forge.repo.leftovers import alone_in_work_tree
from forge.repo.settings_file import load_settings
from forge.repo.storage import is_blob_of, storage_of
from forge.repo.trailers import trailer_lines
from forge.repo.tree_checks import tree_problems
from forge.repo.unsettled import refuse_unfinished


@dataclass(frozen=True)
class Committed:
    """What `git forge commit` did. without_effect: a line for each contribution that came and changes nothing."""

    commit: str
    subject: str
    trailers: tuple[str, ...]
    consolidation_dropped: bool
    without_effect: tuple[str, ...]


def commit_contributions(
    repo: Repository, message: str | None = None, steps: int | None = None, *, accept: bool = False
) -> Committed:
    """Check, fold, write the forge item and commit. The index and forge item are restored if anything fails.

    steps: of a consolidation to be made anew, 0 for none at all; None makes one only where forge.toml wants one
    and the recipe has none. accept: let tasks lose more than the gate allows. Raises ForgeError for a merge in
    progress, for a contribution that is not whole, where nothing changed, and where the gate stays shut.
    """
    if steps is not None:
        check_whole(steps, "the steps of a consolidation", least=0, most=MOST_STEPS)
    with alone_in_work_tree(repo, "git forge commit"):
        return _commit(repo, message, steps, accept)


@dataclass(frozen=True)
class _Start:
    """What a commit starts from: HEAD and its recipe, what is different now, and the files that will be in it.

    refolded: the coefficients are to be searched again, whether or not contributions changed. attributes: what else the
    commit is to take along, .gitattributes or nothing.
    """

    head: str
    settings: Settings
    before: ForgeItem
    changes: Changes
    refolded: bool
    paths: tuple[str, ...]
    attributes: tuple[str, ...]


def _commit(repo: Repository, message: str | None, steps: int | None, accept: bool) -> Committed:
    settings, head = _ready(repo)
    with completed_attributes(repo, head) as attributes:  # before a file is hashed as git would store it
        start = _look(repo, settings, head, attributes, steps)
        return _commit_from(repo, start, message, steps, accept)


def _commit_from(repo: Repository, start: _Start, message: str | None, steps: int | None, accept: bool) -> Committed:
    settings, before, changes = start.settings, start.before, start.changes
    idle = _check(repo, changes, settings)
    payloads = work_tree_payloads(repo, changes, settings)
    folded = fold_changes(repo, before, changes, settings, payloads, again=start.refolded)
    item, files = _consolidate(repo, folded.item, settings, payloads, steps)
    if item == before and not start.paths and not start.refolded:
        raise ForgeError("the model is as it was: no step of a consolidation made it better")
    if item != before:
        accepting = "`git forge commit --accept` commits it all the same, and records that; nothing was changed"
        item = pass_gate(
            item,
            settings.gate,
            accept=accept,
            hint=accepting,
            replaced=folded.replaced,
            contradictions=folded.contradictions,
        )
    trailers = trailer_lines(item, before)
    subject = message or _subject(changes, before, settings, start.refolded, steps is not None)
    commit_id = _write(repo, start, item, files, subject)
    return Committed(
        commit=commit_id,
        subject=subject.splitlines()[0],
        trailers=tuple(trailers),
        consolidation_dropped=before.consolidation is not None and item.consolidation is None,
        without_effect=(*idle, *without_effect(item, before)),
    )


def _ready(repo: Repository) -> tuple[Settings, str]:
    """The settings of the work tree, and HEAD. Raises ForgeError where nothing may be committed in this state."""
    refuse_unfinished(repo, in_a_rebase=True)
    folder = repo.top / CONSOLIDATION
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ForgeError(f"{CONSOLIDATION} is not a folder", hint="move it out of the way")
    for problem in tree_problems(repo, INDEX):
        raise ForgeError(problem, hint="take it out of git first (git rm --cached PATH keeps the file), or rename it")
    settings = load_settings(repo.top)
    if storage_of(repo) == "lfs":
        require_filter(repo, "the payloads of this model are kept in it")
    head = resolve(repo, "HEAD")
    _refuse_unforged_merge(repo, head)
    return settings, head


def _look(repo: Repository, settings: Settings, head: str, attributes: Sequence[str], steps: int | None) -> _Start:
    """Look at the work tree against `head`. Raises ForgeError where nothing is to be committed."""
    before = read_item(repo, head)
    changes = find_changes(repo, before, settings)
    refolded = _settings_changed(repo, before, settings)
    if erased := erased_contributions(repo, head) if changes.removed else []:
        # The model of HEAD cannot be made any more: what is left of it is weighed anew.
        left = tuple(entry for entry in before.contributions if entry.name not in erased)
        before, refolded = ForgeItem(before.base, before.strategy, left), True
    paths = _paths_to_commit(repo, changes)
    if not paths and not refolded and steps is None:
        raise ForgeError(
            "no contribution changed since HEAD", hint="make one with git forge train and git forge distill"
        )
    return _Start(head, settings, before, changes, refolded, tuple(paths), tuple(attributes))


def _check(repo: Repository, changes: Changes, settings: Settings) -> list[str]:
    """Check every contribution, and what git would store of it. A line for each newcomer whose adapter does nothing."""
    incoming = {entry.name for entry in (*changes.new, *changes.replaced)}
    idle = []
    for name in sorted({*incoming, *(entry.name for entry in changes.kept)}):
        checked = check_contribution(repo, name, None, base=settings.base, limits=settings.limits)
        if name in incoming and checked.adapter.is_idle:
            idle.append(f"contribution {name!r}: its adapter changes nothing, it is as before training")
    refuse_other_filters(repo, _blobs(changes), settings.limits.file_bytes)
    return idle


def _write(repo: Repository, start: _Start, item: ForgeItem, files: Mapping[str, bytes], subject: str) -> str:
    """Write forge item and consolidation, stage and commit; the id of the commit, or everything as it was.

    files: of a new consolidation, by path.
    """
    paths = list(start.paths)
    there_before = [*list_files(repo, "HEAD", CONSOLIDATION), *list_files(repo, INDEX, CONSOLIDATION)]
    if files or item.consolidation is None:
        paths += [path for path in consolidation_paths().values() if path in files or path in there_before]
    if git_text(repo, "rev-parse", "HEAD") != start.head:
        raise ForgeError("HEAD has moved while git forge commit was at work", hint="run git forge commit again")
    plain = [path for path in (SETTINGS_FILE, *paths) if is_plain_file(repo.top / path)]  # a hook may write to them
    with restored_on_failure(repo, start.head, dict.fromkeys([ITEM_FILE, *consolidation_paths().values(), *plain])):
        write_whole(repo.top / ITEM_FILE, to_json(item).encode())
        if item.consolidation is None:
            for path in consolidation_paths().values():
                (repo.top / path).unlink(missing_ok=True)
            with suppress(OSError):  # not there, or something else lies in it
                (repo.top / CONSOLIDATION).rmdir()
        elif files:
            write_files(repo.top / CONSOLIDATION, {Path(path).name: content for path, content in files.items()})
        committed = [ITEM_FILE, *([SETTINGS_FILE] if start.refolded else []), *paths, *start.attributes]
        # What `git rm` or `git mv` took out of the index already is nothing that git add could find.
        known = os.fsdecode(git(repo, "ls-files", "-z", "--", *literal(committed))).split("\0")
        there = [path for path in committed if path in known or (repo.top / path).exists()]
        stage(repo, there, start.settings.limits.file_bytes)
        _refuse_what_changed_meanwhile(repo, item)
        return commit(repo, start.head, [subject], committed, "git forge commit")


def find_changes(repo: Repository, before: ForgeItem, settings: Settings) -> Changes:
    """What the work tree's contributions are against a recipe; compared by blob id, as `git add` would store."""
    there, unreadable = find_all(repo, None)
    for error in unreadable.values():
        raise error
    for name, files in there.items():
        if files.missing:
            check_contribution(repo, name, None, base=settings.base, limits=settings.limits)  # says what is missing
    changes = changes_against(before, [files.entry(1.0) for files in there.values()])
    if changes.new or changes.replaced or changes.removed:  # then they are weighed anew, all of them
        fetch_promised(repo, [file.blob for file in list_files(repo, "HEAD", CONTRIBUTIONS).values() if file.blob])
    for entry in changes.replaced:
        old = before.entry(entry.name)
        assert old is not None  # it is replaced
        _refuse_moved(repo, old, settings)
    return changes


def _blobs(changes: Changes) -> dict[str, str]:
    """What git would store of the contributions that changed, by path."""
    return {
        path_of(entry.name, file): getattr(entry, part)
        for entry in (*changes.new, *changes.replaced)
        for part, file in entry_parts().items()
    }


def _refuse_moved(repo: Repository, old: Entry, settings: Settings) -> None:
    """Raise ForgeError where a contribution has not changed, but `git add` would now keep its files elsewhere."""
    files = {getattr(old, part): path_of(old.name, file) for part, file in entry_parts().items()}
    contents = {blob: read_file(repo, None, path, settings.limits.file_bytes) for blob, path in files.items()}
    if all(content is not None and is_blob_of(repo, blob, content) for blob, content in contents.items()):
        storage = storage_of(repo)
        raise ForgeError(
            f"{path_of(old.name)} is kept otherwise than .gitattributes says: its files belong in {storage}",
            hint=f"move them first, which leaves the model as it is: git forge storage {storage}",
        )


def _consolidate(
    repo: Repository, item: ForgeItem, settings: Settings, payloads: Payloads, steps: int | None
) -> tuple[ForgeItem, dict[str, bytes]]:
    """`item` with the consolidation that is wanted, and the files of a new one by path."""
    if steps == 0:
        return without_consolidation(repo, item, payloads), {}
    count = steps or settings.consolidate
    if not count or not item.contributions or (steps is None and item.consolidation is not None):
        return item, {}
    return consolidated(repo, item, settings, count, payloads)


def _settings_changed(repo: Repository, before: ForgeItem, settings: Settings) -> bool:
    """Whether forge.toml asks for another model of the same contributions than the one in HEAD."""
    if (settings.strategy, settings.base.fingerprint) != (before.strategy, before.base.fingerprint):
        return True
    try:
        old = read_settings_of(repo, "HEAD")
    except ForgeError:
        return False
    return (settings.search, settings.task_aware) != (old.search, old.task_aware)


def work_tree_payloads(repo: Repository, changes: Changes, settings: Settings) -> Payloads:
    """Payloads by blob id, those of changed contributions from the work tree: nothing is stored before the commit."""
    stored = blob_reader(repo, settings.limits)
    places = {blob: path for path, blob in _blobs(changes).items()}

    def read(ids: Iterable[str]) -> Mapping[str, bytes]:
        asked = list(ids)
        contents = dict(stored([blob for blob in asked if blob not in places]))
        for blob in asked:
            if blob in places:
                content = read_file(repo, None, places[blob], settings.limits.file_bytes)
                if content is None:
                    raise ForgeError(f"{places[blob]} was removed meanwhile", hint="run git forge commit again")
                contents[blob] = follow(repo, content, places[blob], settings.limits.file_bytes)
        return contents

    return Payloads(read, settings.limits)


def _paths_to_commit(repo: Repository, changes: Changes) -> list[str]:
    """The files of contributions that differ from HEAD, cards included, and all of what is new in the model.

    Of files that git does not know yet only those that a contribution consists of: what else lies in the
    folder, private images above all, must not slip into a commit.
    """
    listing = git(repo, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", CONTRIBUTIONS)
    come = [entry.name for entry in (*changes.new, *changes.replaced)]
    changed = {path_of(name, file) for name in come for file in obligatory_files()}
    extra = {path_of(name, file) for name in come for file in contribution_files()} - changed
    changed |= {path for path in extra if is_plain_file(repo.top / path)}
    for record in listing.decode("utf-8", "surrogateescape").split("\0"):
        state, path = record[:2], record[3:]
        _, _, inside = path.removeprefix(f"{CONTRIBUTIONS}/").partition("/")
        if inside and (state != "??" or inside in contribution_files()):
            changed.add(path)
    return sorted(changed)


def _subject(changes: Changes, before: ForgeItem, settings: Settings, refolded: bool, consolidation: bool) -> str:
    parts = [
        f"{verb} {', '.join(names)}"
        for verb, names in (
            ("Add", [entry.name for entry in changes.new]),
            ("Update", [entry.name for entry in changes.replaced]),
            ("Remove", list(changes.removed)),
        )
        if names
    ]
    if settings.strategy != before.strategy:
        parts.append(f"Fold by {settings.strategy}")
    elif refolded and before.contributions:
        parts.append("Search the coefficients again")
    elif refolded and not parts:
        parts.append("Change the settings")
    return "; ".join(parts) or ("Consolidate" if consolidation else "Update cards")


def _refuse_unforged_merge(repo: Repository, head: str) -> None:
    """Here a merge that nobody has forged is not what is new: its coefficients are known from its parents."""
    if git_succeeds(repo, "rev-parse", "--verify", "--quiet", f"{head}^2"):
        problems = disagreements(repo, head)
        if problems:
            raise ForgeError(
                f"HEAD is a merge that was not forged: {problems[0]}",
                hint="make its forge item with `git forge refold`, then `git commit`",
            )


def _refuse_what_changed_meanwhile(repo: Repository, item: ForgeItem) -> None:
    """A search takes a while: what is about to be committed must still be what the coefficients were found for."""
    again = "nothing was committed: run git forge commit again"
    staged, unreadable = find_all(repo, INDEX)
    for error in unreadable.values():
        raise error
    for name in sorted({*staged, *item.names}):
        entry = item.entry(name)
        if entry is None or name not in staged or staged[name].missing:
            raise ForgeError(f"{path_of(name)} has come or gone while git forge commit was at work", hint=again)
        if identity(staged[name].entry(1.0)) != identity(entry):
            raise ForgeError(f"{path_of(name)} was changed while git forge commit was at work", hint=again)
