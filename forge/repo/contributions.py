"""The light view of contributions/NAME in a revision, the index or the work tree: no weights, no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forge.errors import ForgeError
from forge.git import lfs
from forge.git.places import UNMERGED, ListedFile, Place, described, list_files, read_file
from forge.git.running import Repository, hash_object, read_blob, stream_blobs
from forge.recipe.checks import check_name
from forge.recipe.item import Base, Entry, ForgeItem, doubled_payloads
from forge.recipe.layout import (
    ADAPTER_FILE,
    CARD_FILE,
    CONFIG_FILE,
    CONTRIBUTIONS,
    DISTILLED_FILE,
    ITEM_FILE,
    contribution_files,
    entry_parts,
    obligatory_files,
    path_of,
    rows_in,
)
from forge.recipe.settings import LimitSettings
from forge.repo.items import find_item, read_settings_of

if TYPE_CHECKING:
    from forge.formats.adapter import AdapterConfig, AdapterView
    from forge.formats.distilled import DistilledView
    from forge.recipe.card import Card

Listing = dict[str, ListedFile]
# As lfs.follow: repository, content, what a message names, limit; the content that it stands for.
Follow = Callable[[Repository, bytes, str, int], bytes]

_PLAIN_MODES = ("100644", "100755")


@dataclass(frozen=True)
class ContributionFiles:
    """Which files contributions/NAME has in a place: name -> blob id (as `git add` would store it)."""

    name: str
    place: Place
    blobs: Mapping[str, str] = field(hash=False)

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(file for file in obligatory_files() if file not in self.blobs)

    def described(self, file: str) -> str:
        """How a message names one of the files."""
        return described(self.place, path_of(self.name, file))

    def entry(self, coefficient: float) -> Entry:
        """This contribution in a recipe. All of its files must be there."""
        ids: dict[str, Any] = {part: self.blobs[file] for part, file in entry_parts().items() if file in self.blobs}
        return Entry(name=self.name, coefficient=coefficient, **ids)

    def is_named_by(self, entry: Entry) -> bool:
        """Whether an entry of a recipe names these files."""
        return all(getattr(entry, part) == self.blobs.get(file) for part, file in entry_parts().items())


# What find_all returns: the contributions by name, and the errors of those that cannot be read.
Found = tuple[dict[str, ContributionFiles], dict[str, ForgeError]]


@dataclass(frozen=True)
class Contribution:
    """A contribution whose files were checked and agree with each other."""

    files: ContributionFiles
    card: Card
    config: AdapterConfig
    adapter: AdapterView
    distilled: DistilledView

    @property
    def name(self) -> str:
        return self.files.name


def find_files(repo: Repository, name: str, place: Place) -> ContributionFiles:
    """The files that contributions/NAME has. In the work tree, changed ones are hashed, never stored.

    Raises ForgeError for a symbolic link or submodule in place of a file or folder.
    """
    return _files(repo, name, place, list_files(repo, place, path_of(name)), contribution_files())


def find_all(repo: Repository, place: Place, listed: Listing | None = None) -> Found:
    """As find_files, of every contribution by name; and the errors of those that cannot be read.

    listed: the files below contributions/, where they are not as they lie in the place.
    """
    readable: dict[str, ContributionFiles] = {}
    unreadable: dict[str, ForgeError] = {}
    by_name = _by_name(list_files(repo, place, CONTRIBUTIONS) if listed is None else listed, place)
    names = contribution_files()
    for name, files in by_name.items():
        try:
            readable[name] = _files(repo, name, place, files, names)
        except ForgeError as error:
            unreadable[name] = error
    return readable, unreadable


def check_contribution(
    repo: Repository,
    name: str,
    place: Place,
    *,
    base: Base | None = None,
    limits: LimitSettings | None = None,
    follow: Follow = lfs.follow,
) -> Contribution:
    """Read and check a contribution: its files alone, against each other, and its card against `base`.

    limits: those of forge.toml in the same place if not given. follow: how to get at the content of a pointer of
    git-lfs. Raises ForgeError naming the file.
    """
    if limits is None:
        limits = read_settings_of(repo, place).limits
    files = find_files(repo, name, place)
    _refuse_incomplete(files)
    contents = (_content(repo, files, file, limits, follow) for file in _to_check(files))
    return _checked(files, contents, base, limits)


def check_contributions(
    repo: Repository, rev: str, names: Iterable[str], *, base: Base, limits: LimitSettings, follow: Follow = lfs.follow
) -> Iterator[tuple[str, Contribution | ForgeError]]:
    """As check_contribution, of many in a revision: every blob is read once, and all of them by one process.

    With the error of each that is not as it should be. Payloads are let go of as soon as they are checked.
    """
    readable, unreadable = find_all(repo, rev)
    whole = {name: readable[name] for name in names if name in readable and not readable[name].missing}
    if follow is lfs.follow:
        payloads = [row.name for row in rows_in(CONTRIBUTIONS) if row.is_payload]
        lfs.fetch_missing(repo, [files.blobs[file] for files in whole.values() for file in payloads], limits.file_bytes)
    stream = stream_blobs(
        repo, [files.blobs[file] for files in whole.values() for file in _to_check(files)], limits.file_bytes
    )

    def contents(files: ContributionFiles) -> Iterator[bytes]:
        for file in _to_check(files):
            _, content = next(stream)
            if isinstance(content, ForgeError):
                raise content
            yield follow(repo, content, files.described(file), limits.file_bytes)

    for name in names:
        if name in unreadable:
            yield name, unreadable[name]
        elif name not in whole:
            yield name, _incomplete(readable.get(name, ContributionFiles(name, rev, {})))
        else:
            read = _Counted(contents(whole[name]))
            try:
                yield name, _checked(whole[name], read, base, limits)
            except ForgeError as error:
                for _ in range(len(_to_check(whole[name])) - read.taken):  # what is left of it
                    next(stream)
                yield name, error


# In this order a contribution is read: what is small and can be wrong first, and what is known by its size alone last.
_CHECKED = (CARD_FILE, CONFIG_FILE, ADAPTER_FILE, DISTILLED_FILE)


def _to_check(files: ContributionFiles) -> list[str]:
    """The files of a contribution in the order in which _checked takes their contents."""
    return [*_CHECKED, *(file for file in contribution_files() if file in files.blobs and file not in _CHECKED)]


class _Counted:
    """An iterator that knows how many it has been asked for."""

    def __init__(self, inner: Iterator[bytes]) -> None:
        self.inner, self.taken = inner, 0

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> bytes:
        self.taken += 1
        return next(self.inner)


def _checked(
    files: ContributionFiles, contents: Iterator[bytes], base: Base | None, limits: LimitSettings
) -> Contribution:
    """A contribution from the contents of its files, in the order of _to_check."""
    # Imported here: most commands, and the hooks, look at ids alone.
    from forge.formats.adapter import check_adapter, check_adapter_config
    from forge.formats.distilled import check_distilled
    from forge.recipe.card import read_card
    from forge.repo.made_with import KEY as MADE_WITH
    from forge.repo.made_with import made_with_another

    card = read_card(next(contents), files.described(CARD_FILE))
    config = check_adapter_config(next(contents), files.described(CONFIG_FILE))
    weights = next(contents)
    adapter = check_adapter(weights, config, files.described(ADAPTER_FILE))
    if made_with_another(card, weights, files.described(ADAPTER_FILE)):
        raise ForgeError(
            f"{files.described(DISTILLED_FILE)} was made with another adapter than the one beside it",
            hint=f"distil again with `git forge distill {files.name}`; or, if these images are to stay, take the line "
            f"{MADE_WITH} out of [distillation] in {files.described(CARD_FILE)}",
        )
    del weights  # of many contributions, one is held at a time
    distilled = check_distilled(next(contents), files.described(DISTILLED_FILE), limits.distilled_images)
    _check_agreement(files, card, distilled, base)
    limit_of = {row.name: row.limit for row in rows_in(CONTRIBUTIONS)}
    for file, content in zip(_to_check(files)[len(_CHECKED) :], contents, strict=True):
        limit = limit_of[file]
        if limit is not None and len(content) > limit:
            raise ForgeError(f"{files.described(file)}: {len(content):,} bytes, more than the limit of {limit:,}")
    return Contribution(files, card, config, adapter, distilled)


def _refuse_incomplete(files: ContributionFiles) -> None:
    if files.missing:
        raise _incomplete(files)


def _incomplete(files: ContributionFiles) -> ForgeError:
    if not files.blobs:
        where = described(files.place, path_of(files.name))
        return ForgeError(f"no contribution in {where}", hint="make one with `git forge train` or `git forge add`")
    verb = "distill" if files.missing == (DISTILLED_FILE,) else "train"
    return ForgeError(
        f"{files.described(files.missing[0])} is missing",
        hint=f"make it with `git forge {verb} {files.name}`, or take it in with `git forge add {files.name}`",
    )


def pointers(repo: Repository, names: Iterable[str]) -> list[str]:
    """The payload files of contributions in the work tree that are git-lfs pointers instead of content, by path."""
    payloads = [row.name for row in rows_in(CONTRIBUTIONS) if row.is_payload]
    paths = (path_of(name, file) for name in names for file in payloads)
    return [path for path in paths if lfs.is_pointer_file(os.path.join(repo.top, path))]  # noqa: PTH118


def disagreements(
    repo: Repository, place: Place, contributions: Found | None = None, erased: Collection[str] = ()
) -> list[str]:
    """What is wrong between the forge item, forge.toml and contributions/ of a place; empty if nothing is.

    Light: ids are compared, no payload is read. One line each, in a fixed order. contributions: those of
    find_all, if they are at hand. erased: those that are known to be (see erased.py).
    """
    try:
        item = find_item(repo, place)
        if item is None:
            return [f"there is no {ITEM_FILE}"]
        problems = [*_settings_disagreements(repo, place, item), *doubled_payloads(item.contributions)]
        readable, unreadable = find_all(repo, place) if contributions is None else contributions
    except ForgeError as error:
        return [error.message]
    parts = entry_parts()
    for name in sorted({*readable, *unreadable, *item.names}):
        entry = item.entry(name)
        if name in unreadable:
            problems.append(unreadable[name].message)
        elif entry is None:
            problems.append(f"{path_of(name)} is not in the forge item")
        elif name in erased:
            problems.append(f"{path_of(name)} was erased: no commit of this repository has its files any more")
        elif name not in readable:
            problems.append(f"the forge item names {name}, but there is no {path_of(name)}")
        else:
            problems += _entry_disagreements(readable[name], entry, parts)
    return problems


def _by_name(listed: Listing, place: Place) -> dict[str, Listing]:
    """What is listed in contributions/ by the name of the contribution, sorted; files beside them are not."""
    by_name: dict[str, Listing] = {}
    start = len(CONTRIBUTIONS) + 1
    for path, file in sorted(listed.items()):
        name, _, rest = path[start:].partition("/")
        if not rest:
            if file.mode not in (*_PLAIN_MODES, UNMERGED):
                raise _not_plain(described(place, path))
            continue
        files = by_name.get(name)
        if files is None:
            try:
                files = by_name[check_name(name)] = {}
            except ForgeError as error:
                where = described(place, f"{CONTRIBUTIONS}/")
                raise ForgeError(f"{where}: {error.message}", hint=error.hint) from None
        files[path] = file
    return dict(sorted(by_name.items()))


def _files(repo: Repository, name: str, place: Place, listed: Listing, names: Sequence[str]) -> ContributionFiles:
    folder = path_of(name)
    if folder in listed:
        raise _not_plain(described(place, folder))
    blobs = {}
    below = tuple(path for path in listed if path.count("/") > 2)
    for file in names:
        path = f"{folder}/{file}"
        if below and any(other.startswith(f"{path}/") for other in below):
            raise _not_plain(described(place, path))
        its = listed.get(path)
        if its is None:
            continue
        if its.mode == UNMERGED:
            raise ForgeError(
                f"{path}: merge conflict: the two sides hold different files",
                hint="take one side's with `git forge resolve --ours` or `git forge resolve --theirs`; "
                "`git merge --abort` (or rebase, cherry-pick, revert) goes back",
            )
        if its.mode not in _PLAIN_MODES:
            raise _not_plain(described(place, path))
        blobs[file] = its.blob or hash_object(repo, repo.top / path, write=False, path=path)
    return ContributionFiles(name, place, blobs)


def _settings_disagreements(repo: Repository, place: Place, item: ForgeItem) -> list[str]:
    settings = read_settings_of(repo, place)
    problems = []
    if settings.base.fingerprint != item.base.fingerprint:
        problems.append(
            f"forge.toml names the base {settings.base.reference} ({settings.base.fingerprint}), "
            f"the forge item {item.base.reference} ({item.base.fingerprint})"
        )
    if settings.strategy != item.strategy:
        problems.append(f"forge.toml names the strategy {settings.strategy}, the forge item {item.strategy}")
    return problems


def _entry_disagreements(files: ContributionFiles, entry: Entry, parts: Mapping[str, str]) -> list[str]:
    problems = []
    for part, file in parts.items():
        recorded, blob = getattr(entry, part), files.blobs.get(file)
        if blob is None:
            problems.append(f"{path_of(entry.name, file)} is missing")
        elif blob != recorded:
            problems.append(f"{path_of(entry.name, file)} is {blob[:10]}, but the forge item names {recorded[:10]}")
    return problems


def _content(repo: Repository, files: ContributionFiles, file: str, limits: LimitSettings, follow: Follow) -> bytes:
    if files.place is not None:
        content: bytes | None = read_blob(repo, files.blobs[file], limits.file_bytes)
    else:
        content = read_file(repo, None, path_of(files.name, file), limits.file_bytes)
    if content is None:  # taken away since it was listed
        raise ForgeError(f"{files.described(file)} is missing")
    return follow(repo, content, files.described(file), limits.file_bytes)


def _check_agreement(files: ContributionFiles, card: Card, distilled: DistilledView, base: Base | None) -> None:
    where = files.described(CARD_FILE)
    if card.labels != distilled.labels:
        raise ForgeError(
            f"{where}: the labels differ from those of {DISTILLED_FILE}: "
            f"{list(card.labels)} and {list(distilled.labels)}"[:600],
            hint=f"correct the card, or distil again with `git forge distill {files.name}`",
        )
    if card.task != distilled.task:
        raise ForgeError(
            f"{where}: the task is {card.task!r}, that of {DISTILLED_FILE} is {distilled.task!r}",
            hint=f"correct the card, or distil again with `git forge distill {files.name}`",
        )
    if base is not None and card.base.fingerprint != base.fingerprint:
        raise ForgeError(
            f"{where}: this adapter was trained on another base: {card.base.reference} "
            f"({card.base.fingerprint}), not on {base.reference} ({base.fingerprint})",
            hint=f"train it on this model's base with `git forge train {files.name}`",
        )


def _not_plain(where: str) -> ForgeError:
    return ForgeError(
        f"{where} is a link, a submodule or a folder where a plain file or folder must be",
        hint="put the files themselves there",
    )
