"""git forge as a program that starts in hundredths of a second, so that a test can afford thousands of merges.

Two server processes import git forge once: one all of it, with a base that is loaded, and a small one for what git
calls most, the filter and the hooks. The program, `git-forge` in a folder of its own, hands its arguments, folder,
environment and standard streams to one of them, which forks: the child is a git forge like any other, in a process
of its own, with the caller's streams. Only the imports are shared.
"""

from __future__ import annotations

import array
import fcntl
import importlib
import os
import pkgutil
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY = b"ready\n"
LARGEST = 1 << 24  # bytes of a request; an environment is a few kibibytes
LOST = 70  # exit code of a program whose server has gone
LIGHT = ("filter-process", "hook", "textconv")

# _socket: the module socket takes longer to import than all the rest of this.
CLIENT = """\
import _socket, os, sys
connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
connection.connect({folder!r} + ("/light" if sys.argv[1:2] and sys.argv[1] in {light!r} else "/heavy"))
words = [os.getcwdb(), str(len(sys.argv) - 1).encode(), *map(os.fsencode, sys.argv[1:])]
words += [name + b"=" + value for name, value in os.environb.items()]
mask = os.umask(0)
os.umask(mask)
words += [b"FORGE_TEST_UMASK=%o" % mask]
request = b"\\0".join(words)
streams = b"".join(number.to_bytes({size}, sys.byteorder) for number in (0, 1, 2))
length = len(request).to_bytes(4, "big")
connection.sendmsg([length], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
connection.sendall(request)
code = connection.recv(1)
os._exit(code[0] if code else {lost})
"""


@contextmanager
def forge_server(base: Path | None = None, script: str = __file__) -> Iterator[Path]:
    """Servers, one of which has loaded `base`, for the time of the block; the folder in which `git-forge` lies.

    script: what is started as the servers, with the folder and the base as its arguments.
    """
    # The address of a socket may have some hundred characters; pytest's own folders can be longer.
    with tempfile.TemporaryDirectory(prefix="forge-") as name:
        folder = Path(name)
        size = array.array("i").itemsize
        (folder / "client.py").write_text(CLIENT.format(folder=name, light=LIGHT, size=size, lost=LOST))
        program = folder / "git-forge"
        words = shlex.join([sys.executable, "-I", "-S", str(folder / "client.py")])
        program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        program.chmod(0o755)
        command = [sys.executable, script, name, *([str(base)] if base else [])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdin is not None and server.stdout is not None
            try:
                assert server.stdout.readline() == READY, "the server of git forge did not start"
                yield folder
            finally:
                server.stdin.close()  # they end themselves, as they do when this process is killed


def serve(folder: str, base: str) -> None:
    """Fork a git forge for every program that calls, until standard input ends."""
    sys.executable = f"{folder}/python"  # git forge lies beside its Python: what forge.clone.setup goes by
    _import_packages("repo")
    _import_modules("forge.cli", "forge.commands.filter_process", "forge.commands.hook", "forge.commands.textconv")
    _import_modules("forge.operations.filter_process", "forge.operations.hook", "forge.operations.opening")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    light, heavy = listener(f"{folder}/light"), listener(f"{folder}/heavy")
    if os.fork():
        fork_for_callers(light)
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _import_packages("commands", "operations", "model")
    _import_modules("nevergrad", "peft", "git", "safetensors.torch")
    _load(base)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.write(1, READY)
    fork_for_callers(heavy)


def listener(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(64)
    return listener


def fork_for_callers(listener: socket.socket) -> None:
    while True:
        waiting, _, _ = select.select([listener, 0], [], [])
        if 0 in waiting:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    """Be the git forge that was called: never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = LOST
    try:
        folder, arguments, variables = _receive(connection)
        _die_with(connection)
        os.chdir(folder)
        os.environb.clear()
        os.environb.update(variables)
        os.umask(int(os.environ.pop("FORGE_TEST_UMASK"), 8))
        if encoding := os.environ.get("PYTHONIOENCODING"):
            sys.stdout = open(1, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
        from forge import cli

        code = cli.run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        connection.sendall(bytes([code]))
        os._exit(0)


def _die_with(connection: socket.socket) -> None:
    """End by SIGIO as soon as the calling program ends before its time: killing that is killing this git forge."""
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([connection], [], [], 0)[0]:
        os._exit(LOST)


def _receive(connection: socket.socket) -> tuple[bytes, list[str], dict[bytes, bytes]]:
    """Folder, arguments and environment of the caller, whose three streams this process takes for its own."""
    streams = array.array("i")
    length, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * streams.itemsize))
    for _, _, data in ancillary:
        streams.frombytes(data)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    size = int.from_bytes(length, "big")
    assert len(streams) == 3 and 0 < size < LARGEST
    folder, count, *words = connection.recv(size, socket.MSG_WAITALL).split(b"\0")
    arguments, variables = words[: int(count)], words[int(count) :]
    pairs = (variable.partition(b"=") for variable in variables)
    return folder, [os.fsdecode(argument) for argument in arguments], {name: value for name, _, value in pairs}


def _import_packages(*packages: str) -> None:
    for package in packages:
        parent = importlib.import_module(f"forge.{package}")
        _import_modules(*(f"forge.{package}.{module.name}" for module in pkgutil.iter_modules(parent.__path__)))


def _import_modules(*names: str) -> None:
    for name in names:
        importlib.import_module(name)


def _load(base: str) -> None:
    """What every driver would load: the base, kept by git forge itself for the process and its forks."""
    import torch

    from forge.model.base import load_base
    from forge.model.base_places import absolute_place, portable_name
    from forge.operations import bases

    torch.set_num_threads(1)  # a process with threads cannot be forked
    bases._load_once(portable_name(base), load_base(base).fingerprint, absolute_place(base))


if __name__ == "__main__":
    serve(*sys.argv[1:])
