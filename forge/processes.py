"""Whether this run is one of several processes that share the work of a verb, as accelerate and torchrun start them.

All of them run the verb; the main process alone writes, prints and shows progress. What torch is needed for is in
forge/model/sharing.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection

SHARED_VERBS = ("train", "distill", "evaluate")
SILENT = 125  # how a process ends that failed, and leaves it to another to say so
LAUNCHED = "GIT_FORGE_LAUNCHED"  # set by `--processes N`, which says itself that a process has ended
ARGUMENTS = "forge.arguments"  # key of click's context.meta: the command line, which `--processes N` runs N times
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")

_rank, _count = 0, 1
_failed_first = False


class PeerLostError(Exception):
    """Another process of this run has ended before its time."""


def rank() -> int:
    """The number of this process, from 0."""
    return _rank


def count() -> int:
    """How many processes share the work."""
    return _count


def is_main() -> bool:
    """Whether this process writes and speaks."""
    return _rank == 0


def is_heard() -> bool:
    """Whether people see what this process says: the main one, and one that was the first to fail."""
    return _rank == 0 or _failed_first


def is_one_of_several() -> bool:
    """Whether somebody has started this process as one of several."""
    return _number("WORLD_SIZE", 1) > 1


def _number(variable: str, otherwise: int) -> int:
    """What a launcher has put into an environment variable; what is no number was put there by somebody else."""
    value = os.environ.get(variable, "")
    return int(value) if value.isascii() and value.isdigit() else otherwise


def join(verb: str | None, others: Collection[str]) -> bool:
    """Take part in what several processes share; said once, before anything else. False: there is nothing to do here.

    verb: what is asked for. others: verbs that the main process does alone. Those of git's own (filters, drivers) run
    wherever git starts them, each for itself.
    """
    global _rank, _count
    several, number = is_one_of_several(), _number("RANK", 0)
    if verb in SHARED_VERBS:
        if several:
            _rank, _count = number, _number("WORLD_SIZE", 1)
        if _rank > 0:
            import signal

            # The main process stops at Ctrl-C, and the others when it is gone.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
        return True
    for name in VARIABLES if several else ():  # else what loads torch would wait for the others
        os.environ.pop(name, None)
    return not (several and number > 0 and verb in others)


def speaks(error: BaseException) -> bool:
    """Whether this process says that it has failed: of several the first, for mostly all of them fail at once."""
    global _failed_first
    if _count == 1:
        return True
    if isinstance(error, PeerLostError) and LAUNCHED in os.environ:
        return False
    distributed = sys.modules.get("torch.distributed")
    if isinstance(error, KeyboardInterrupt) or distributed is None or not distributed.is_initialized():
        return is_main()  # of what is wrong with the files and the options, every process knows
    from datetime import timedelta

    try:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(*place, is_master=False, timeout=timedelta(seconds=5))
        _failed_first = bool(store.add("git-forge/failed", 1) == 1)
    except Exception:  # the main process has gone, and has said why
        return False
    return _failed_first
