"""Starting a verb as several processes on this machine, as `accelerate launch` does, with one message where one fails.

The processes meet through torch.distributed (forge/model/sharing.py). This one only watches: it loads no torch, hands
Ctrl-C to the main process, and when one has ended badly it ends the others.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from forge.errors import ExitCode, ForgeError
from forge.processes import LAUNCHED, SILENT

_LOOK = 0.05  # seconds between looks at the processes
_GRACE = 10.0  # seconds in which the others notice by themselves that one has gone


def run_as_several(arguments: Sequence[str], count: int) -> int:
    """Run `git forge ARGUMENTS` as `count` processes; the exit code. Whatever ends this one ends them.

    Raises ForgeError where one of them was killed, or ends without a word.
    """
    processes: list[subprocess.Popen[bytes]] = []
    codes: list[int | None] = []
    with _stopped_by_signals():
        try:
            port = _free_port()
            for rank in range(count):
                processes.append(_start(arguments, rank, count, port))
            codes = _first_codes(processes)
        except KeyboardInterrupt:
            if processes:
                processes[0].send_signal(signal.SIGINT)  # it keeps what can be continued, and says so
                processes[0].wait()
            codes = [ExitCode.INTERRUPTED]
        finally:
            _end(processes)
    return _exit_code(codes)


def _start(arguments: Sequence[str], rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    threads = max(1, len(os.sched_getaffinity(0)) // count) if hasattr(os, "sched_getaffinity") else 1
    variables = {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        LAUNCHED: "1",
    }
    # In a session of their own: a terminal's Ctrl-C reaches this process alone, and the main one once.
    return subprocess.Popen([sys.executable, "-P", "-m", "forge", *arguments], env=variables, start_new_session=True)


def _first_codes(processes: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """The exit codes when all are done, or as soon as one has failed; None of one that is still at work."""
    silent_since: float | None = None
    while True:
        codes = [process.poll() for process in processes]
        if None not in codes or any(code not in (None, 0, SILENT) for code in codes):
            return codes
        if SILENT in codes:  # another one says why
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > _GRACE:
                return codes
        time.sleep(_LOOK)


def _wait_for(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End those that are still at work: at first the main one may write what it can be continued from."""
    for process in processes[1:]:
        process.kill()
    for process in processes[:1]:
        _wait_for(process, _GRACE)
    for process in processes:
        process.kill()
        process.wait()


def _exit_code(codes: Sequence[int | None]) -> int:
    """That of a process that has said why it failed. Raises ForgeError where none has."""
    failed = {rank: code for rank, code in enumerate(codes) if code}
    spoken = [code for code in failed.values() if code > 0 and code != SILENT]
    if spoken or not failed:
        return spoken[0] if spoken else ExitCode.OK
    rank, code = next(((rank, code) for rank, code in failed.items() if code < 0), next(iter(failed.items())))
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else "has failed"
    raise ForgeError(
        f"process {rank + 1} of {len(codes)} {how}; the others were stopped",
        hint="where memory is short, fewer --processes need less",
    )


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does: nobody else would end what it has started."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
