"""What a command touches: every file that it opens or changes and every socket, by Python's audit hooks and by strace.

The hooks see all that Python does in the command and in every Python that git starts for it; strace, where it is there,
sees git itself too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Logged as "EVENT PATH" with links resolved, as the kernel will; a path that is written to, as "write PATH".
HOOK = """
import os, sys

_log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_CHANGES = {{"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.truncate",
            "os.utime", "os.chown", "os.mkfifo"}}
_busy = False
_OWN = tuple({{sys.prefix + "/", sys.base_prefix + "/"}})  # Python's own files, thousands of them


def _hook(event, args):
    global _busy
    if _busy or (event in ("open", "os.listdir") and str(args[0]).startswith(_OWN)):
        return
    _busy = True
    try:
        paths = []
        if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
            writes = (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            paths = [("write" if writes else "open", os.path.realpath(os.fsdecode(args[0])))]
        elif event in ("os.listdir", "os.scandir") and isinstance(args[0], (str, bytes)):
            paths = [("open", os.path.realpath(os.fsdecode(args[0])))]
        elif event in _CHANGES:
            # The last name of a path is not followed by what renames or removes it.
            named = [os.fsdecode(arg) for arg in args[:2] if isinstance(arg, (str, bytes, os.PathLike))]
            paths = [("write", os.path.join(os.path.realpath(os.path.dirname(n) or "."), os.path.basename(n)))
                     for n in (named[1:] if event == "os.symlink" else named)]
        elif event.startswith(("socket.", "urllib.")) and event != "socket.gethostname":
            # By itself, a socket goes nowhere; asking for one is said all the same, unless it is for this machine.
            if not (event == "socket.__new__" and args[1] == 1):
                paths = [(event, repr(args[1:]))]
        for kind, path in paths:
            os.write(_log, (kind + " " + path.replace("\\n", "?") + "\\n").encode("utf-8", "surrogateescape"))
    finally:
        _busy = False


sys.addaudithook(_hook)
"""
STRACE = shutil.which("strace")
SECONDS = 120  # until a command counts as hung


@dataclass(frozen=True)
class Touched:
    """read, written: paths, links resolved. reached: what speaks to a network, a line each."""

    code: int
    text: str
    read: frozenset[str]
    written: frozenset[str]
    reached: tuple[str, ...]


def touched(top: Path, command: Sequence[str], scratch: Path) -> Touched:
    """Run a command in `top`, with `scratch`/tmp for temporary files, and watch it."""
    scratch.mkdir()
    (scratch / "tmp").mkdir()
    hooks, log, trace = scratch / "hooks", scratch / "audit", scratch / "strace"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK.format(log=str(log)))
    env = os.environ | {"PYTHONPATH": str(hooks), "TMPDIR": str(scratch / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    env.pop("TORCHINDUCTOR_CACHE_DIR", None)  # torch in this process has set it
    watch = (
        [STRACE, "-f", "--seccomp-bpf", "-qq", "-y", "-s", "300", "-e", "trace=%file,%network", "-o", str(trace)]
        if STRACE
        else []
    )
    done = subprocess.run(
        [*watch, *command], cwd=top, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS
    )
    read, written, reached = _audited(log)
    if STRACE:
        read_too, written_too, reached_too = _traced(trace, top)
        read, written, reached = read | read_too, written | written_too, [*reached, *reached_too]
    mine = str(scratch)
    return Touched(
        done.returncode,
        (done.stdout + done.stderr).decode("utf-8", "surrogateescape"),
        frozenset(path for path in read if not path.startswith(mine)),
        frozenset(path for path in written if not path.startswith(mine)),
        tuple(reached),
    )


def forge_command(*args: str) -> list[str]:
    return [sys.executable, "-P", "-m", "forge", *args]


def _audited(log: Path) -> tuple[set[str], set[str], list[str]]:
    read, written, reached = set(), set(), []
    for line in log.read_text("utf-8", "surrogateescape").splitlines() if log.exists() else ():
        kind, _, rest = line.partition(" ")
        if kind == "open":
            read.add(rest)
        elif kind == "write":
            written.add(rest)
        else:
            reached.append(line)
    return read, written, reached


_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
_CHANGES = re.compile(r"^(?:unlink|rename|mkdir|rmdir|symlink|link|chmod|truncate|utime|chown|mknod)")


def _traced(trace: Path, top: Path) -> tuple[set[str], set[str], list[str]]:
    """What strace saw; a call on a path that is not there is no touch."""
    read, written, reached = set(), set(), []
    for line in trace.read_text("utf-8", "surrogateescape").splitlines():
        call = re.sub(r"^\d+ +", "", line)
        if "AF_INET" in call or "AF_INET6" in call:
            reached.append(call)
        if " = -1 " in call:
            continue
        opened = re.match(
            r'(?:openat|open)\((?:[^"]*)"(?P<name>(?:[^"\\]|\\.)*)", (?P<flags>[A-Z_|]+).* = \d+<(?P<real>.*)>$', call
        )
        if opened:
            (written if _WRITES.search(opened["flags"]) else read).add(opened["real"].removesuffix(" (deleted)"))
        elif _CHANGES.match(call):
            # The folder's descriptor comes with its path; of several names, those that change are the last.
            folders, names = (
                re.findall(r"AT_FDCWD<([^>]*)>|\b\d+<([^>]*)>", call),
                re.findall(r'"((?:[^"\\]|\\.)*)"', call),
            )
            folder = next((one or other for one, other in folders), str(top))
            changed = names[1:] if call.startswith("symlink") else names
            written.update(os.path.normpath(Path(folder, name)) for name in changed)
    return read, written, reached
