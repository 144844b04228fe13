"""The protocol itself, spoken by a client written here from git's documentation."""

from __future__ import annotations

import io
import pickle
from typing import BinaryIO, cast

import numpy as np
import pytest

from forge.clone.filter_process import serve
from forge.errors import ForgeError
from forge.formats.safetensors import Limits, to_bytes

GOOD = to_bytes({"w": np.arange(60_000, dtype="f4")})  # more than three packets
FLUSH = b"0000"


def packet(content: bytes) -> bytes:
    return f"{len(content) + 4:04x}".encode() + content


HELLO = packet(b"git-filter-client\n") + packet(b"version=2\n") + FLUSH
ABLE = b"".join(packet(f"capability={verb}\n".encode()) for verb in ("clean", "smudge", "delay")) + FLUSH


def request(verb: str, path: str, content: bytes, size: int = 65_516) -> bytes:
    head = packet(f"command={verb}\n".encode()) + packet(f"pathname={path}\n".encode())
    head += packet(b"blob=" + b"0" * 40 + b"\n") + FLUSH
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return head + b"".join(packet(part) for part in parts) + FLUSH


def replies(stream: bytes) -> list[list[bytes]]:
    """The lists of packets in a stream."""
    lists: list[list[bytes]] = [[]]
    while stream:
        length = int(stream[:4], 16)
        if length == 0:
            lists.append([])
            stream = stream[4:]
        else:
            assert 4 < length <= 65_520
            lists[-1].append(stream[4:length])
            stream = stream[length:]
    assert lists.pop() == []
    return lists


def converse(*requests: bytes, limits: Limits | None = None) -> tuple[list[list[bytes]], str]:
    sent, errors = io.BytesIO(), io.StringIO()
    serve(io.BytesIO(HELLO + ABLE + b"".join(requests)), sent, errors, (lambda: limits) if limits else None)
    lists = replies(sent.getvalue())
    assert lists[0] == [b"git-filter-server\n", b"version=2\n"]
    assert lists[1] == [b"capability=clean\n", b"capability=smudge\n"]
    return lists[2:], errors.getvalue()


def test_good_bad_good() -> None:
    """The process goes on serving after an error."""
    lists, errors = converse(
        request("clean", "a.safetensors", GOOD),
        request("clean", "b.safetensors", pickle.dumps(1)),
        request("clean", "c.safetensors", GOOD, size=100),
    )
    assert lists[0] == lists[4] == [b"status=success\n"]
    assert b"".join(lists[1]) == b"".join(lists[5]) == GOOD
    assert lists[2] == lists[6] == []
    assert lists[3] == [b"status=error\n"]
    assert errors.startswith("error: b.safetensors: this is a pickle")
    assert "hint: save it with safetensors" in errors


@pytest.mark.parametrize(("verb", "path"), [("smudge", "a.safetensors"), ("clean", "notes.txt")])
@pytest.mark.parametrize("content", [b"", b"rubbish", b"0000", GOOD])
def test_smudge_and_other_paths_pass_through(verb: str, path: str, content: bytes) -> None:
    lists, errors = converse(request(verb, path, content))
    assert lists[0] == [b"status=success\n"]
    assert b"".join(lists[1]) == content
    assert errors == ""


def test_content_over_the_limit_is_drained_and_refused() -> None:
    lists, errors = converse(
        request("clean", "a.safetensors", GOOD),
        request("clean", "b.safetensors", to_bytes({"w": np.ones(1, "f4")})),
        limits=Limits(file=1000),
    )
    assert lists[0] == [b"status=error\n"]
    assert lists[1] == [b"status=success\n"]
    assert "a.safetensors: " in errors and "more than the limit of 1,000" in errors


def test_an_unknown_command_is_an_error_and_no_end() -> None:
    lists, _ = converse(request("paint", "a", b"x"), request("smudge", "a", b"x"))
    assert lists[0] == [b"status=error\n"]
    assert lists[1] == [b"status=success\n"]


def test_a_path_of_any_bytes_is_named() -> None:
    head = packet(b"command=clean\n") + packet(b"pathname=caf\xe9.safetensors\n") + FLUSH
    lists, _ = converse(head + packet(GOOD[:1000]) + FLUSH)
    assert lists[0] == [b"status=error\n"]


def test_a_bug_fails_one_file_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr("forge.formats.safetensors.canonicalise", broken)
    lists, errors = converse(request("clean", "a.safetensors", GOOD), request("smudge", "a", b"x"))
    assert lists[0] == [b"status=error\n"]
    assert lists[1] == [b"status=success\n"]
    assert "a.safetensors: RuntimeError: no luck" in errors


@pytest.mark.parametrize("started", [b"", HELLO, HELLO + ABLE])
def test_git_may_leave_at_any_time(started: bytes) -> None:
    serve(io.BytesIO(started), io.BytesIO(), io.StringIO())


@pytest.mark.parametrize("rubbish", [b"00", b"zzzz", b"0005", b"0003", b"hello, world", packet(b"version=3\n") + FLUSH])
def test_no_git_is_refused(rubbish: bytes) -> None:
    with pytest.raises(ForgeError):
        serve(io.BytesIO(rubbish), io.BytesIO(), io.StringIO())


def test_a_broken_off_request_is_refused() -> None:
    whole = HELLO + ABLE + request("clean", "a.safetensors", GOOD)
    with pytest.raises(ForgeError, match="broke off"):
        serve(io.BytesIO(whole[:-10]), io.BytesIO(), io.StringIO())


def test_nothing_is_answered_before_all_content_is_read() -> None:
    """git reads the answer only after it has sent everything: an early answer could block both."""
    start = HELLO + ABLE
    whole = start + request("smudge", "a", b"x" * 200_000)

    class Watched(io.BytesIO):
        read_to = 0

        def read(self, size: int | None = -1) -> bytes:
            content = super().read(size)
            Watched.read_to = self.tell()
            return content

    class Answers(io.BytesIO):
        def write(self, content: object) -> int:
            if Watched.read_to > len(start):
                assert Watched.read_to == len(whole)
            return super().write(content)  # type: ignore[arg-type]

    serve(cast(BinaryIO, Watched(whole)), cast(BinaryIO, Answers()), io.StringIO())
