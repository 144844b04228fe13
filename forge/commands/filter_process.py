"""git forge filter-process: what git runs for `filter=forge` (filter.forge.process)."""

from __future__ import annotations

import sys


def command(*_: str) -> None:
    """Serve git's long-running filter protocol on standard input and output."""
    from forge.operations.filter_process import serve_filter

    # Standard output carries the protocol and nothing else: a stray print must not corrupt it.
    replies, sys.stdout = sys.stdout, sys.stderr
    serve_filter(sys.stdin.buffer, replies.buffer, sys.stderr)
