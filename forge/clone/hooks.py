"""The shell hooks of a clone or a server: ours put in place, the ones that were there kept and chained.

A hook is ours if its second line says so. A foreign one is renamed to NAME.before-forge, untouched, and our
script calls it first, by the name it had, with the same arguments and input. Taking ours out renames it back.

pre-commit does the same the other way round: it renames ours to NAME.legacy and calls it. Then ours stays there.
A hook that is under version control is not ours to rename: it is left as it is, for a person to add a line to.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import forge
from forge.clone.programs import can_start
from forge.errors import ForgeError
from forge.git.files import write_whole
from forge.git.running import Repository, git, git_text

HOOKS = ("prepare-commit-msg", "applypatch-msg", "pre-push")  # of a clone; only those that have something to do
SERVER_HOOKS = ("pre-receive",)
MARK = "# A git-forge hook:"
KEPT = ".before-forge"
LEGACY = ".legacy"  # pre-commit's KEPT
PRE_COMMIT = b"pre-commit.com"
# How earlier versions were recorded: Python then looks for modules in the work tree, in which git runs it.
UNSAFE = re.compile(r"(?<! -P) -m forge ")

# The line with which our script calls git forge.
_CALL = re.compile(r'^(?:tell \| )?(\S.*) hook [a-z-]+ "\$@"', re.MULTILINE)
_HIDDEN = ("# git forge install: the hooks of this clone\n", "# git forge install: end\n")


@dataclass(frozen=True)
class Place:
    """Where one hook lives: the file that git runs, and what we and pre-commit keep beside it."""

    name: str
    hook: Path
    kept: Path
    legacy: Path

    def ours(self) -> Path | None:
        """Our script, where something runs it."""
        if is_ours(self.hook):
            return self.hook
        return self.legacy if is_ours(self.legacy) and PRE_COMMIT in _content(self.hook) else None

    def call(self) -> str:
        """The line that a person adds to a hook which we leave alone."""
        return f'git forge hook {self.name} "$@"'


def hooks_folder(repo: Repository) -> Path | None:
    """Where git looks for this clone's hooks (core.hooksPath honoured); None if that turns hooks off."""
    path = git(repo, "config", "--get", "core.hooksPath", check=False)
    if path == b"\n":
        return None  # set to nothing at all: git looks nowhere
    folder = repo.common_dir / "hooks"
    if path:
        folder = Path(git_text(repo, "rev-parse", "--path-format=absolute", "--git-path", "hooks"))
    # core.hooksPath=/dev/null is the usual way to have no hooks at all: so be it.
    return folder if folder.is_dir() or not os.path.lexists(folder) else None


def hooks_folder_of_all(repo: Repository) -> Path | None:
    """The folder of hooks if it is one for many repositories (core.hooksPath of a user or a machine), else None."""
    scope = git_text(repo, "config", "--show-scope", "--get", "core.hooksPath", check=False).partition("\t")[0]
    return hooks_folder(repo) if scope in ("global", "system") else None


def hooks_in_place(repo: Repository) -> bool:
    """Whether each of our hooks is where git looks, with a program that is still there.

    Those that are not ours to write count as in place.
    """
    folder = hooks_folder(repo)
    if folder is None:
        return True
    places = _places(folder, HOOKS)
    if all(_works(place.ours()) for place in places):
        return True
    versioned = _versioned(repo, folder)
    return all(place.hook in versioned or _works(place.ours()) for place in places)


def hooks_as_written(repo: Repository, program: str) -> bool:
    """Whether our hooks, where git looks for them, are what install_hooks writes, and start this program."""
    folder = hooks_folder(repo)
    return folder is not None and all(
        _content(place.hook) == hook_text(place.name, program).encode() and _works(place.ours())
        for place in _places(folder, HOOKS)
    )


def hooks_by_hand(repo: Repository) -> list[Place]:
    """The hooks under version control that do not call us yet: a person has to add `Place.call()` to them."""
    folder = hooks_folder(repo)
    if folder is None:
        return []
    versioned = _versioned(repo, folder)
    return [
        place
        for place in _places(folder, HOOKS)
        if place.hook in versioned and f"hook {place.name}".encode() not in _content(place.hook)
    ]


def install_hooks(repo: Repository, program: str, names: Iterable[str] = HOOKS) -> list[str]:
    """Put our hooks in place; the names of those that run beside foreign ones.

    program: how to start git forge, quoted for the shell. Doing it again changes nothing.
    Raises ForgeError if a foreign hook stands where ours was while another is kept already.
    """
    folder = hooks_folder(repo)
    if folder is None:
        return []
    chained = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        versioned = _versioned(repo, folder)
        places = [place for place in _places(folder, names) if place.hook not in versioned]
        for place in places:
            target = _make_room(place)
            # In one step: a hook may be running while it is installed again.
            write_whole(target, hook_text(place.name, program).encode(), mode=0o755)
            if target == place.legacy or os.path.lexists(place.kept):
                chained.append(place.name)
        _hide(repo, [file for place in places for file in (place.hook, place.kept)])
    except OSError as error:
        raise ForgeError(f"cannot write hooks into {folder}: {error.strerror}", hint="check its permissions") from error
    return chained


def uninstall_hooks(repo: Repository) -> None:
    """Take our hooks out and put back, as they were, those that were kept."""
    folder = hooks_folder(repo)
    if folder is None:
        return
    try:
        versioned = _versioned(repo, folder)
        for place in _places(folder, (*HOOKS, *SERVER_HOOKS)):
            if place.hook in versioned:
                continue
            free = place.hook
            if is_ours(place.hook):
                place.hook.unlink()
            elif is_ours(place.legacy):  # where pre-commit would have kept what we keep
                place.legacy.unlink()
                free = place.legacy
            if os.path.lexists(place.kept):
                if _same(place.kept, place.hook):  # the other tool has written it once more
                    place.kept.unlink()
                elif not os.path.lexists(free):
                    place.kept.rename(free)
        _show(repo)
    except OSError as error:
        raise ForgeError(f"cannot change hooks in {folder}: {error.strerror}", hint="check its permissions") from error


def is_ours(hook: Path) -> bool:
    """Whether the file is a hook of git forge, of any version."""
    lines = _content(hook)[:400].split(b"\n")
    return len(lines) > 1 and lines[1].startswith(MARK.encode())


def hook_text(name: str, program: str) -> str:
    """The script of a hook with the program in it."""
    text = _source(name).read_text(encoding="utf-8")
    chain = _source("chain.sh").read_text(encoding="utf-8").rstrip("\n")
    executable = shlex.quote(shlex.split(program)[0])
    return text.replace("@CHAIN@", chain).replace("@PROGRAM@", program).replace("@EXECUTABLE@", executable)


def _make_room(place: Place) -> Path:
    """Where our script goes; a foreign hook is moved aside first. ForgeError if two foreign ones are in the way."""
    if not os.path.lexists(place.hook) or is_ours(place.hook):
        return place.hook
    if place.ours() == place.legacy:
        if _same(place.hook, place.kept):  # pre-commit was here before us and came again: it calls us now
            place.kept.unlink()
        return place.legacy
    # A tool that writes its hook anew, as husky does at every `npm install`, means the one that is kept.
    if os.path.lexists(place.kept) and not _same(place.hook, place.kept):
        raise ForgeError(
            f"{place.hook} belongs to another tool, and {place.kept} is kept already",
            hint=f"join the two in {place.kept.name}, remove {place.hook}, and run: git forge install",
        )
    place.hook.replace(place.kept)
    return place.hook


def _places(folder: Path, names: Iterable[str]) -> list[Place]:
    return [Place(name, folder / name, folder / (name + KEPT), folder / (name + LEGACY)) for name in names]


def _source(name: str) -> Path:
    """Our script: inside the package in a wheel, beside it in a source tree."""
    package = Path(forge.__file__).parent
    for folder in (package / "hooks", package.parent / "hooks"):
        if (folder / name).is_file():
            return folder / name
    raise ForgeError(f"the hook {name} is missing from git forge itself", hint="install git forge once more")


def _works(hook: Path | None) -> bool:
    if hook is None or not os.access(hook, os.X_OK):
        return False
    text = hook.read_text(encoding="utf-8", errors="replace")
    if UNSAFE.search(text):
        return False
    match = _CALL.search(text)
    return match is not None and can_start(shlex.split(match[1]))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _same(one: Path, other: Path) -> bool:
    """Whether two hooks are one: both there, and links to one file or files of one content."""
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _in_work_tree(repo: Repository, folder: Path) -> bool:
    """Whether git could take the files of a folder into a commit."""
    own = (repo.git_dir, repo.common_dir)
    return repo.top not in own and folder.is_relative_to(repo.top) and not any(folder.is_relative_to(d) for d in own)


def _versioned(repo: Repository, folder: Path) -> set[Path]:
    """The hooks in a folder that are under version control: a core.hooksPath may name a folder of the project."""
    if not _in_work_tree(repo, folder):
        return set()
    inside = f":(top,literal){folder.relative_to(repo.top).as_posix()}"
    listing = os.fsdecode(git(repo, "ls-files", "-z", "--full-name", "--", inside))
    return {repo.top / path for path in listing.split("\0") if path}


def _hide(repo: Repository, files: list[Path]) -> None:
    """Let no `git add .` take up what belongs to this clone alone: by info/exclude, unless it is ignored already."""
    there = [file for file in files if os.path.lexists(file) and _in_work_tree(repo, file.parent)]
    if not there:
        return
    names = [f":(top,literal){file.relative_to(repo.top).as_posix()}" for file in there]
    listing = os.fsdecode(git(repo, "ls-files", "--others", "--exclude-standard", "-z", "--", *names))
    seen = [path for path in listing.split("\0") if path]
    if not seen:
        return
    exclude = repo.common_dir / "info" / "exclude"
    exclude.parent.mkdir(exist_ok=True)
    already, others = _hidden(_content(exclude))
    # At the start, so that what follows is the file as it was, whether or not it ends in a newline.
    lines = {*already, *("/" + "".join(f"\\{c}" if c in "\\*?[ " else c for c in path) for path in seen)}
    begin, end = _HIDDEN
    exclude.write_bytes(os.fsencode(begin + "".join(f"{line}\n" for line in sorted(lines)) + end) + others)


def _show(repo: Repository) -> None:
    """Take what _hide has written out of info/exclude."""
    exclude = repo.common_dir / "info" / "exclude"
    already, others = _hidden(_content(exclude))
    if already and others:
        exclude.write_bytes(others)
    elif already:
        exclude.unlink()


def _hidden(content: bytes) -> tuple[list[str], bytes]:
    """The lines of _hide in the content of info/exclude, and the rest of it."""
    begin, end = (mark.encode() for mark in _HIDDEN)
    before, opening, rest = content.partition(begin)
    lines, closed, after = rest.partition(end)
    if not opening or not closed:
        return [], content
    return os.fsdecode(lines).splitlines(), before + after
