"""`git forge filter-process`: what git runs for `filter=forge`, with the limits of the model that it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, TextIO

from forge.clone.filter_process import serve
from forge.errors import ForgeError

if TYPE_CHECKING:
    from forge.formats.safetensors import Limits


def serve_filter(requests: BinaryIO, replies: BinaryIO, errors: TextIO) -> None:
    """Serve git's long-running filter protocol until it ends; what is refused is explained on `errors`."""
    serve(requests, replies, errors, _limits)


def _limits() -> Limits:
    """The limits in forge.toml; git starts a filter in the top folder of the work tree."""
    from pathlib import Path

    from forge.formats.safetensors import Limits
    from forge.repo.settings_file import load_settings

    try:
        return Limits(file=load_settings(Path.cwd()).limits.file_bytes)
    except ForgeError:
        return Limits()  # a forge.toml that is broken, or not there yet, must not stop git
