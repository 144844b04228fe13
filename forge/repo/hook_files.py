"""The shell hooks of a clone: ours put in place, the ones that were there kept and chained.

A hook is ours if its second line says so. A foreign one is renamed to NAME.before-forge, untouched, and our
script calls it first with the same arguments and input. Taking ours out renames it back.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import forge
from forge.errors import ForgeError
from forge.repo.git import Repository, git_text

HOOKS = ("prepare-commit-msg", "pre-push")  # only those that have something to do
MARK = "# A git-forge hook:"
KEPT = ".before-forge"


def hooks_folder(repo: Repository) -> Path | None:
    """Where git looks for this clone's hooks (core.hooksPath honoured); None if that turns hooks off."""
    folder = Path(git_text(repo, "rev-parse", "--path-format=absolute", "--git-path", "hooks"))
    # core.hooksPath=/dev/null is the usual way to have no hooks at all: so be it.
    return folder if folder.is_dir() or not os.path.lexists(folder) else None


def hooks_in_place(repo: Repository) -> bool:
    """Whether each of our hooks is where git looks, with a program that is still there."""
    folder = hooks_folder(repo)
    return folder is None or all(_works(folder / name) for name in HOOKS)


def install_hooks(repo: Repository, program: str) -> list[str]:
    """Put our hooks in place; the names of the foreign hooks that are now kept and chained.

    program: how to start git forge, quoted for the shell. Doing it again changes nothing.
    Raises ForgeError if a foreign hook stands where ours was while another is kept already.
    """
    folder = hooks_folder(repo)
    if folder is None:
        return []
    chained = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in HOOKS:
            hook, kept = folder / name, folder / (name + KEPT)
            if os.path.lexists(hook) and not is_ours(hook):
                if os.path.lexists(kept):
                    raise ForgeError(
                        f"{hook} belongs to another tool, and {kept} is kept already",
                        hint=f"join the two in {kept.name}, remove {hook}, and run: git forge install",
                    )
                hook.rename(kept)
            _write(hook, hook_text(name, program))
            if os.path.lexists(kept):
                chained.append(name)
    except OSError as error:
        raise ForgeError(f"cannot write hooks into {folder}: {error.strerror}", hint="check its permissions") from error
    return chained


def uninstall_hooks(repo: Repository) -> None:
    """Take our hooks out and put back, as they were, those that were kept."""
    folder = hooks_folder(repo)
    if folder is None:
        return
    try:
        for name in HOOKS:
            hook, kept = folder / name, folder / (name + KEPT)
            if is_ours(hook):
                hook.unlink()
            if os.path.lexists(kept) and not os.path.lexists(hook):
                kept.rename(hook)
    except OSError as error:
        raise ForgeError(f"cannot change hooks in {folder}: {error.strerror}", hint="check its permissions") from error


def is_ours(hook: Path) -> bool:
    """Whether the file is a hook of git forge, of any version."""
    try:
        return hook.read_bytes()[:400].split(b"\n")[1:2][0].startswith(MARK.encode())
    except (OSError, IndexError):
        return False


def hook_text(name: str, program: str) -> str:
    """The script of a hook with the program in it."""
    text = _source(name).read_text(encoding="utf-8")
    executable = shlex.quote(shlex.split(program)[0])
    return text.replace("@PROGRAM@", program).replace("@EXECUTABLE@", executable)


def _source(name: str) -> Path:
    """Our script: inside the package in a wheel, beside it in a source tree."""
    package = Path(forge.__file__).parent
    for folder in (package / "hooks", package.parent / "hooks"):
        if (folder / name).is_file():
            return folder / name
    raise ForgeError(f"the hook {name} is missing from git forge itself", hint="install git forge once more")


def _works(hook: Path) -> bool:
    if not is_ours(hook) or not os.access(hook, os.X_OK):
        return False
    for line in hook.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("program="):
            executable = shlex.split(line.removeprefix("program="))
            return len(executable) == 1 and os.access(executable[0], os.X_OK)
    return False


def _write(hook: Path, text: str) -> None:
    """Replace in one step: a hook may be running while it is installed again."""
    partial = hook.with_name(f"{hook.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.chmod(0o755)
        partial.replace(hook)
    finally:
        partial.unlink(missing_ok=True)
