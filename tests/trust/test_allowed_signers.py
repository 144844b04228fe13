"""OpenSSH's allowed signers as they are shown; what ssh-keygen would silently stop at is refused by line."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import ForgeError
from forge.trust.allowed_signers import Key, read_signers


def public(kind: str = "ssh-ed25519", inside: str | None = None) -> str:
    name = (inside or kind).encode()
    return f"{kind} {base64.b64encode(len(name).to_bytes(4, 'big') + name + bytes(36)).decode()}"


KEY = public()
PRINT = read_signers(f"a@b {KEY}".encode())[0].fingerprint
SK = public("sk-ssh-ed25519@openssh.com")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"a@b {KEY}", Key(("a@b",), "ssh-ed25519", PRINT)),
        (f"  a@b\t{KEY} a comment # and more \r", Key(("a@b",), "ssh-ed25519", PRINT)),
        (f'a@b,"" {KEY}'.replace(',""', ","), Key(("a@b",), "ssh-ed25519", PRINT)),
        (f'"a b",c {KEY}'.replace('"a b",c', '"a b,c"'), Key(("a b", "c"), "ssh-ed25519", PRINT)),
        (f'*@b,!x@b namespaces="git,file" {KEY}', Key(("*@b", "!x@b"), "ssh-ed25519", PRINT, namespaces="git,file")),
        (
            f'*@b cert-authority,valid-after="20260101",valid-before="20270101120000Z" {KEY}',
            Key(("*@b",), "ssh-ed25519", PRINT, True, "20260101", "20270101120000Z"),
        ),
        (f'a@b Valid-Before="202601012359" {KEY}', Key(("a@b",), "ssh-ed25519", PRINT, False, None, "202601012359")),
    ],
)
def test_a_line(line: str, expected: Key) -> None:
    assert read_signers(f"# who signs\n\n{line}\n".encode()) == (expected,)


def test_all_kinds_of_keys() -> None:
    assert read_signers(f"a@b {SK}\n".encode())[0].kind == "sk-ssh-ed25519@openssh.com"
    assert read_signers(f"a@b {public('ecdsa-sha2-nistp256')}".encode())[0].kind == "ecdsa-sha2-nistp256"
    assert read_signers(b"# nobody yet\n") == read_signers(b"") == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a@b", "is not one of OpenSSH's allowed signers: a@b"),
        (KEY, "is not one of OpenSSH's allowed signers"),
        (f"a@b garbage {KEY}", "unknown option: garbage"),
        (f"a@b no-touch-required {KEY}", "unknown option: no-touch-required"),
        (f"a@b namespaces {KEY}", "unknown option: namespaces"),
        (f'a@b valid-before="tomorrow" {KEY}', "unknown option: valid-before"),
        (f'a@b valid-before="2026" {KEY}', "unknown option: valid-before"),
        (f'a@b valid-before="20260101"x {KEY}', "unknown option: valid-before"),
        (f'a@b namespaces="git",namespaces="git" {KEY}', "unknown option: namespaces"),
        (f'a@b namespaces="git {KEY}', "is not one of"),
        ("a@b ssh-ed25519 AAAA", "line 2: not a public key of the kind ssh-ed25519"),
        ("a@b ssh-ed25519 A", "line 2: not a public key of the kind ssh-ed25519"),
        (f"a@b {public('ssh-rsa', 'ssh-ed25519')}", "line 2: not a public key of the kind ssh-rsa"),
        ("a@b ssh-ed25519 ????", "is not one of"),
        (f"a\x1b[31m@b {KEY}", r"allowed signers: a\\x1b\[31m@b"),
        (f"a@b {KEY} \0", "is not one of"),
        (f"a@b {KEY} {'x' * 20_000}", "is not one of"),
    ],
)
def test_a_line_that_ssh_keygen_would_stop_at(line: str, message: str) -> None:
    with pytest.raises(ForgeError, match=message) as raised:
        read_signers(f"a@b {KEY}\n{line}\n".encode())
    assert raised.value.message.startswith(".forge/allowed_signers, line 2")


def test_a_file_that_is_no_text() -> None:
    with pytest.raises(ForgeError, match="not a text file in UTF-8"):
        read_signers(b"\xff")
    with pytest.raises(ForgeError, match="larger than 1 MiB"):
        read_signers(b"#" * (2**20 + 1))


@given(st.binary() | st.text().map(str.encode) | st.text('a@b "=,-\\ssh' + KEY).map(str.encode))
def test_anything_is_keys_or_an_error(content: bytes) -> None:
    try:
        keys = read_signers(content)
    except ForgeError:
        return
    assert all(key.kind and key.fingerprint.startswith("SHA256:") for key in keys)
