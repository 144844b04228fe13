"""git's long-running filter process, version 2 (gitattributes(5), "Long Running Filter Process").

git starts one process for all files of a command and speaks to it in packets: four hexadecimal digits of
length, which count themselves, then the content; "0000" ends a list. For each file git sends the whole
content before it reads the answer, so the content has to be held; one over the limit is drained instead.

clean: `*.safetensors` is checked and written in canonical form; any other path passes through verbatim, and so does
an empty file, which no later check takes for a payload.
smudge: passes through verbatim. The stored blob is the usable file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, TextIO

from forge.errors import ForgeError
from forge.text import printable_lines

if TYPE_CHECKING:
    from forge.formats.safetensors import Limits

LARGEST_PACKET = 65516  # bytes of content: LARGE_PACKET_DATA_MAX of git's pkt-line.h
CAPABILITIES = (b"capability=clean\n", b"capability=smudge\n")
SUFFIX = ".safetensors"


def serve(requests: BinaryIO, replies: BinaryIO, errors: TextIO, limits: Callable[[], Limits] | None = None) -> None:
    """Answer git until it closes `requests`.

    A file that is refused is answered with status=error, after the reason and the next step on `errors`, and
    the process goes on serving. Raises ForgeError only where git breaks the protocol.
    limits: asks for the limits of one safetensors file, when there is one to clean; None for the defaults.
    """
    if not _shake_hands(requests, replies):
        return
    while True:
        request = _read_list(requests)
        if request is None:
            return
        verb, path = request.get("command", ""), request.get("pathname", "")
        if verb == "clean" and path.endswith(SUFFIX):
            _answer_clean(path, requests, replies, errors, limits)
        else:
            content = _read_content(requests)
            _answer(replies, [content], known=verb in ("clean", "smudge"))


def _answer_clean(
    path: str,
    requests: BinaryIO,
    replies: BinaryIO,
    errors: TextIO,
    limits: Callable[[], Limits] | None,
) -> None:
    # Imported here: a checkout only smudges, and needs no numpy for that.
    from forge.formats.safetensors import DEFAULT_LIMITS, canonicalise

    bounds = limits() if limits is not None else DEFAULT_LIMITS
    # One byte over the limit is kept, so that the check itself sees and words it.
    content = _read_content(requests, keep=bounds.file + 1)
    try:
        # With merge.renormalize git cleans an empty file for an ancestor that is not there.
        pieces = canonicalise(content, path, bounds) if content else [content]
    except ForgeError as error:
        _explain(errors, error.message, error.hint)
        _answer(replies, [], known=False)
    except Exception as error:  # a bug or no memory: this file fails, git and the next file go on
        _explain(errors, f"{path}: {type(error).__name__}: {error}", "this is a bug in git forge; report it")
        if os.environ.get("FORGE_DEBUG"):
            import traceback

            traceback.print_exc(file=errors)
        _answer(replies, [], known=False)
    else:
        _answer(replies, pieces, known=True)


def _shake_hands(requests: BinaryIO, replies: BinaryIO) -> bool:
    welcome = _read_packets(requests)
    if welcome is None:  # started and closed again without a word
        return False
    if b"git-filter-client\n" not in welcome or b"version=2\n" not in welcome:
        raise ForgeError(
            "filter-process was not started by git, or by a git with an unknown filter protocol",
            hint="git starts it by itself: see git config filter.forge.process",
        )
    _write_packets(replies, [b"git-filter-server\n", b"version=2\n"])
    if _read_packets(requests) is None:
        return False
    _write_packets(replies, CAPABILITIES)
    return True


def _answer(replies: BinaryIO, pieces: Iterable[bytes | bytearray | memoryview], *, known: bool) -> None:
    if not known:
        _write_packets(replies, [b"status=error\n"])
        return
    _write_packets(replies, [b"status=success\n"])
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), LARGEST_PACKET):
            _write_packet(replies, view[start : start + LARGEST_PACKET])
    _write_packets(replies, [])  # the end of the content
    _write_packets(replies, [])  # the status is as it was


def _explain(errors: TextIO, message: str, hint: str | None) -> None:
    # git's, not ours: what is written here goes straight to the terminal of whoever called git.
    errors.write(printable_lines(f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")))
    errors.flush()


def _read_list(requests: BinaryIO) -> dict[str, str] | None:
    """The key=value packets up to a flush; None where git has closed the pipe."""
    packets = _read_packets(requests)
    if packets is None:
        return None
    pairs = (os.fsdecode(packet.removesuffix(b"\n")).partition("=") for packet in packets)
    return {key: value for key, _, value in pairs}


def _read_content(requests: BinaryIO, keep: int | None = None) -> bytearray:
    """The content up to a flush; all of it is read, at most `keep` bytes of it are held."""
    content = bytearray()
    for packet in _packets(requests):
        room = len(packet) if keep is None else keep - len(content)
        if room > 0:
            content += packet[:room]
    return content


def _read_packets(requests: BinaryIO) -> list[bytes] | None:
    """The packets up to a flush; None at the end of the stream."""
    first = _read_packet(requests, may_end=True)
    if first is None:
        return None
    return [first, *_packets(requests)] if first else []


def _packets(requests: BinaryIO) -> Iterator[bytes]:
    while packet := _read_packet(requests):
        yield packet


def _read_packet(requests: BinaryIO, *, may_end: bool = False) -> bytes | None:
    """The content of the next packet; b"" for a flush, None for the end of the stream where it may end."""
    digits = requests.read(4)
    if not digits and may_end:
        return None
    try:
        length = int(digits, 16) if len(digits) == 4 else -1
    except ValueError:
        length = -1
    if length == 0:
        return b""
    content = requests.read(length - 4) if length > 4 else b""
    if length <= 4 or len(content) != length - 4:
        raise ForgeError("git broke off in the middle of a packet", hint="run the git command again")
    return content


def _write_packets(replies: BinaryIO, packets: Iterable[bytes]) -> None:
    for packet in packets:
        _write_packet(replies, packet)
    replies.write(b"0000")
    replies.flush()


def _write_packet(replies: BinaryIO, content: bytes | memoryview) -> None:
    replies.write(b"".join((b"%04x" % (len(content) + 4), content)))  # one call of the system, not two
