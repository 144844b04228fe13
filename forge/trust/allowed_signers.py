"""OpenSSH's file of allowed signers, as far as people are shown what is in it and told what is wrong with it.

Whether a signature holds is for ssh-keygen to say. But it stops at the first line that it cannot read, without a word
that reaches anyone: so such a line is refused here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from forge.errors import ForgeError
from forge.text import printable

FOLDER = ".forge"
SIGNERS_FILE = f"{FOLDER}/allowed_signers"
MAX_BYTES = 2**20
_MAX_LINE = 16_384  # characters; the largest RSA key has not 3,000

# Without possessive quantifiers: Python before 3.11.5 loses groups that such a one is around. No two parts of it can
# take the same character, so that it does not go back far either.
_LINE = re.compile(
    r"""[ \t]*(?P<principals>"[^"]*"|[^\s"]+)[ \t]+
    (?:(?P<options>(?!(?:ssh|ecdsa|sk)-)(?:[^\s"]|"[^"]*")+)[ \t]+)?
    (?P<kind>(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+)[ \t]+
    (?P<key>[A-Za-z0-9+/]+={0,2})(?:\s.*)?""",
    re.VERBOSE,
)
_OPTION = re.compile(r'(?P<name>[A-Za-z-]+)(?:="(?P<value>[^"]*)")?')
_TIME = re.compile(r"\d{8}(?:\d{4}(?:\d{2})?)?Z?")


@dataclass(frozen=True)
class Key:
    """One line. authority: the key signs other people's keys. The times are as they stand there, in UTC."""

    principals: tuple[str, ...]
    kind: str
    fingerprint: str  # "SHA256:...", as ssh-keygen -l prints it
    authority: bool = False
    valid_after: str | None = None
    valid_before: str | None = None
    namespaces: str | None = None


def read_signers(content: bytes, source: str = SIGNERS_FILE) -> tuple[Key, ...]:
    """The keys of a file, in its order. Raises ForgeError naming the line that ssh-keygen would stop at."""
    if len(content) > MAX_BYTES:
        raise ForgeError(f"{source}: larger than {MAX_BYTES // 2**20} MiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ForgeError(f"{source}: not a text file in UTF-8") from None
    keys = []
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip(" \t\r")
        if bare and not bare.startswith("#"):
            keys.append(_key(bare, f"{source}, line {number}"))
    return tuple(keys)


def _key(line: str, where: str) -> Key:
    match = _LINE.fullmatch(line) if len(line) <= _MAX_LINE and line.replace("\t", " ").isprintable() else None
    if match is None:
        raise ForgeError(
            f"{where} is not one of OpenSSH's allowed signers: {printable(line[:60])}",
            hint='such a line is: ada@consortium.example namespaces="git" ssh-ed25519 AAAA...',
        )
    options = _options(match["options"] or "", where)
    principals = match["principals"].strip('"').split(",")
    return Key(
        principals=tuple(each for each in principals if each),
        kind=match["kind"],
        fingerprint=_fingerprint(match["kind"], match["key"], where),
        authority="cert-authority" in options,
        valid_after=options.get("valid-after"),
        valid_before=options.get("valid-before"),
        namespaces=options.get("namespaces"),
    )


def _options(text: str, where: str) -> dict[str, str]:
    options: dict[str, str] = {}
    rest = text
    while rest:
        match = _OPTION.match(rest)
        name = match["name"].lower() if match else ""
        value = match["value"] if match else None
        known = {
            "cert-authority": value is None,
            "namespaces": value is not None,
            "valid-after": _TIME.fullmatch(value or "") is not None,
            "valid-before": _TIME.fullmatch(value or "") is not None,
        }.get(name, False)
        if match is None or not known or name in options or rest[match.end() : match.end() + 1] not in ("", ","):
            raise ForgeError(
                f"{where}: unknown option: {printable(rest[:60])}",
                hint='known are cert-authority, namespaces="git", valid-after="YYYYMMDD" and valid-before="YYYYMMDD"',
            )
        options[name] = value or ""
        rest = rest[match.end() + 1 :]
    return options


def _fingerprint(kind: str, key: str, where: str) -> str:
    try:
        blob = base64.b64decode(key, validate=True)
    except binascii.Error:
        blob = b""
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length] != kind.encode():  # each public key says its kind once more inside
        raise ForgeError(f"{where}: not a public key of the kind {printable(kind)}", hint="see whether it is all there")
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
