"""`git forge filter-process`: what git runs for `filter=forge`, with the limits of the model that it runs in."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO, TextIO

from forge.clone.filter_process import serve
from forge.errors import ForgeError

if TYPE_CHECKING:
    from forge.formats.safetensors import Limits

_SETTINGS_FILE = "forge.toml"  # whose name stands in forge/recipe/layout.py, with all that a table of files needs
_MOST = 1 << 16  # bytes of a forge.toml that is looked through as it is


def serve_filter(requests: BinaryIO, replies: BinaryIO, errors: TextIO) -> None:
    """Serve git's long-running filter protocol until it ends; what is refused is explained on `errors`."""
    serve(requests, replies, errors, _limits)


def _limits() -> Limits:
    """The limits in forge.toml; git starts a filter in the top folder of the work tree."""
    from forge.formats.safetensors import Limits

    if _leaves_the_limit(Limits().file >> 20):
        return Limits()
    from pathlib import Path

    from forge.repo.settings_file import load_settings

    try:
        return Limits(file=load_settings(Path.cwd()).limits.file_bytes)
    except ForgeError:
        return Limits()  # a forge.toml that is broken, or not there yet, must not stop git


def _leaves_the_limit(mebibytes: int) -> bool:
    """Whether forge.toml, as nearly every one, has no other limit than this: then it need not be parsed.

    Parsing it takes longer than all else that is done for a file. Where its text names the limit in any other way than
    git forge writes it, or could (escapes), it is.
    """
    try:
        if not stat.S_ISREG(os.lstat(_SETTINGS_FILE).st_mode):
            return False
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(os.open(_SETTINGS_FILE, flags), "rb") as stream:
            text = stream.read(_MOST + 1)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    rest = text.replace(b"\nfile_mebibytes = %d\n" % mebibytes, b"\n\n")
    return len(text) <= _MOST and b"mebibytes" not in rest and b"\\" not in rest
