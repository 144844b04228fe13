"""What git has to know in each clone: filter, diff and merge drivers, how to pack, as settings; and the hooks.

git never carries settings over with a clone, so every command looks (`ensure_installed`) and sets up what is
missing. The program is recorded by its absolute path: it need not be on PATH, and two environments on one
machine do not get into each other's way.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from forge.clone import compression
from forge.clone import hooks as hook_files
from forge.clone import server as server_setup
from forge.clone.programs import can_start
from forge.errors import ForgeError
from forge.git import lfs, lfs_endpoint
from forge.git.lfs_endpoint import Setting
from forge.git.running import Repository, git
from forge.repo.storage import read_attributes, storage_of, with_storage, write_attributes

Scope = Literal["local", "global"]


# Setting: its value. {program} is quoted for the shell; {driver} is the same for a merge driver, where git
# expands % first. The driver's arguments are ancestor, ours (and result), theirs and the path.
SETTINGS = {
    # Without the filter git reads and writes no payload. All that it says by itself is that "the remote end hung up".
    "filter.forge.process": "{program} filter-process || echo 'hint: is git forge gone from here? Set it up again with "
    "git forge install, or do without it: git config --remove-section filter.forge' >&2",
    "filter.forge.required": "true",
    "diff.forge.textconv": "{program} textconv",
    "diff.forge.cachetextconv": "false",
    "merge.forge.name": "git forge: coefficients searched on the distilled datasets",
    "merge.forge.driver": "{driver} merge-driver %O %A %B %P",
    "merge.forge.recursive": "forge-union",
    "merge.forge-union.name": "git forge: union of two forge items, for a virtual ancestor",
    "merge.forge-union.driver": "{driver} merge-driver --union %O %A %B %P",
    # Notes of several people on one commit are merged line by line. git prints a variable's name in small letters.
    "notes.forge-approvals.mergestrategy": "cat_sort_uniq",
}
# Values that earlier versions wrote, which install may replace. Anything else was put there by a person.
OLDER: dict[str, tuple[str, ...]] = {"filter.forge.process": ("{program} filter-process",)}

# Set where a person has taken git forge out of a clone: then no command puts it back by itself.
LEFT_OUT = "forge.uninstalled"


def program() -> str:
    """How to start this git forge from anywhere, quoted for the shell."""
    folder = Path(sys.executable).parent
    for name in ("git-forge", "git-forge.exe"):
        if os.access(folder / name, os.X_OK):
            return shlex.quote(str(folder / name))
    # -P: git runs it in the work tree, where a branch could bring a click.py.
    return f"{shlex.quote(sys.executable)} -P -m forge"


def is_installed(repo: Repository) -> bool:
    """Whether all settings are in effect, and with the hooks name a program that is there, and git-lfs is pinned.

    How git packs is not asked: a clone works either way.
    """
    settings = _listed(repo)
    return _is_whole(repo, _by_key(settings)) and lfs_endpoint.is_pinned(settings)


def is_as_written(repo: Repository) -> bool:
    """Whether this clone keeps payloads in git and is set up by this very program, with nothing of anybody else's.

    Then it stays set up for as long as its settings, its hooks, .gitattributes and the program stay as they are.
    """
    settings = _listed(repo)
    values = _by_key(settings)
    return (
        all(values.get(key) == value for key, value in expected().items())
        and LEFT_OUT not in values
        and lfs_endpoint.is_pinned(settings)
        and storage_of(repo) == "git"
        and hook_files.hooks_as_written(repo, program())
    )


def ensure_installed(repo: Repository) -> str | None:
    """Set this clone up if it is not; what to tell the user if something was done or could not be.

    Where `git forge uninstall` has taken it out, it stays out.
    """
    settings = _listed(repo)
    if _by_key(settings).get(LEFT_OUT) == "true":
        return None
    messages = [_ensure_own(repo, settings), lfs.ensure_set_up(repo) if storage_of(repo) == "lfs" else None]
    return "\n".join(each for each in messages if each) or None


def _ensure_own(repo: Repository, settings: Sequence[Setting]) -> str | None:
    values = _by_key(settings)
    messages = []
    try:
        if not _is_whole(repo, values):
            _write(repo, "local")
            if any(key in values for key in SETTINGS):
                gone = "was not whole or named a program that is gone or does not start"
                messages = [f"The set-up of this clone {gone}; it was done again."]
            else:
                messages = [
                    "This clone was not set up for git forge yet; its drivers and hooks are now (git forge install)."
                ]
        if not compression.is_in_place(repo, settings):
            compression.set_up(repo)
        pinned = not lfs_endpoint.is_pinned(settings) and lfs_endpoint.pin(repo)
        if pinned and storage_of(repo) == "lfs":  # in a model kept in git nothing asks it
            messages.append(f"git-lfs asks {lfs_endpoint.find_endpoint(repo).url} for files, whatever .lfsconfig says.")
    except ForgeError as error:  # a clone that may only be read can still be looked at
        messages.append(f"warning: this clone is not set up for git forge: {error.message}")
    return "\n".join(messages) or None


def _is_whole(repo: Repository, values: Mapping[str, str]) -> bool:
    """Whether drivers and hooks are in place."""
    for key in SETTINGS:
        value = values.get(key)
        if value is None or not _is_ours(key, value) or not _program_is_there(key, value):
            return False
        if hook_files.UNSAFE.search(value):
            return False
    return hook_files.hooks_in_place(repo)


def install(repo: Repository | None, scope: Scope = "local", force: bool = False) -> list[str]:
    """Write the settings, and in one clone the hooks and git-lfs's endpoint; the names of the hooks that are chained.

    repo may be None with scope "global", which writes the user's settings only. Doing it again changes
    nothing. force: replace values that a person has put there; without it they raise ForgeError.
    """
    chained = _write(repo, scope, force)
    if scope == "local" and repo is not None:
        compression.set_up(repo)
        lfs_endpoint.pin(repo)
        if LEFT_OUT in _by_key(_listed(repo, "local")):
            git(repo, "config", "--local", "--unset-all", LEFT_OUT)
    return chained


def install_server(repo: Repository) -> list[str]:
    """Let the repository, a bare one on a server as a rule, check what is pushed to it; as `install` otherwise."""
    return server_setup.install_server(repo, program())


def uninstall(repo: Repository | None, scope: Scope = "local") -> None:
    """Take out the settings, and in one clone the hooks, that install has put there; nothing else."""
    where = repo if repo is not None else _nowhere()
    for key, value in _by_key(_listed(where, scope)).items():
        if key in SETTINGS and _is_ours(key, value):
            git(where, "config", f"--{scope}", "--unset-all", key)
    if scope == "local" and repo is not None:
        lfs_endpoint.unpin(repo)
        compression.take_out(repo)
        server_setup.unset_rules(repo)
        hook_files.uninstall_hooks(repo)


def leave_out(repo: Repository) -> None:
    """Remember that a person wants no git forge in this clone, until `install`."""
    git(repo, "config", "--local", "--replace-all", LEFT_OUT, "true")


def expected() -> dict[str, str]:
    """The settings with this program in them."""
    own = program()
    return {key: value.format(program=own, driver=own.replace("%", "%%")) for key, value in SETTINGS.items()}


def add_attributes(repo: Repository) -> bool:
    """Add the lines that a model repository needs to its .gitattributes; whether any was missing."""
    before = read_attributes(repo)
    after = with_storage(before, storage_of(repo))
    if after != before:
        write_attributes(repo, after)
    return after != before


def _write(repo: Repository | None, scope: Scope, force: bool = False) -> list[str]:
    where = repo if repo is not None else _nowhere()
    values = _by_key(_listed(where, scope))
    for key, value in values.items():
        if key in SETTINGS and not _is_ours(key, value) and not force:
            raise ForgeError(
                f"the {scope} git setting {key} is already: {value}",
                hint=f"see that nothing needs it, then: git forge install --{scope} --force",
            )
    for key, value in expected().items():
        if values.get(key) != value:
            git(where, "config", f"--{scope}", "--replace-all", key, value)
    if scope == "global" or repo is None:
        return []
    return hook_files.install_hooks(repo, program())


def _listed(repo: Repository, scope: Scope | None = None) -> list[Setting]:
    """The settings that set-up is about, in one scope or all, by one process: every command looks at them."""
    sections = r"^(filter\.forge|diff\.forge|merge\.forge|merge\.forge-union|notes\.forge-approvals)\."
    pattern = f"{sections}|^{re.escape(LEFT_OUT)}$|{compression.DEFAULTS.pattern}|{lfs_endpoint.PATTERN}"
    return lfs_endpoint.list_settings(repo, pattern, scope)


def _by_key(settings: Sequence[Setting]) -> dict[str, str]:
    """The value of each that is in effect: the last one wins."""
    return {each.key: each.value for each in settings}


def _is_ours(key: str, value: str) -> bool:
    """Whether some git forge, of this version or an earlier one, wrote this value."""
    for template in (SETTINGS[key], *OLDER.get(key, ())):
        pattern = re.escape(template).replace(r"\{program\}", ".+").replace(r"\{driver\}", ".+")
        if re.fullmatch(pattern, value):
            return True
    return False


def _program_is_there(key: str, value: str) -> bool:
    if "{" not in SETTINGS[key]:
        return True
    place, _, rest = SETTINGS[key].partition("} ")
    verb = rest.partition(" ")[0]
    try:
        words = shlex.split(value)
        words = words[: words.index(verb)]
    except ValueError:
        return False
    return can_start([word.replace("%%", "%") for word in words] if place == "{driver" else words)


def _nowhere() -> Repository:
    """Stands for no repository at all: git started here speaks of the user's settings."""
    return Repository(Path.cwd(), Path.cwd(), Path.cwd(), inherits=True)
