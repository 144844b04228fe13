"""Who signed what: answered by git itself, with the keys of one .forge/allowed_signers and those alone.

Only SSH signatures are looked at. Nothing else that a commit calls its signature is handed to git, which would start
another program for it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from forge.errors import ForgeError
from forge.git.quiet import quiet
from forge.git.running import MEBIBYTE, Repository, git, git_text, run_git
from forge.trust.allowed_signers import read_signers
from forge.trust.rights import Signature

MAX_COMMIT = MEBIBYTE  # bytes: nothing that people write in a message
PROGRAM_HINT = "install OpenSSH (8.2 or newer), or name its program: git config --global gpg.ssh.program PLACE"

_SSH = b"-----BEGIN SSH SIGNATURE-----"
_HEADERS = {40: b"gpgsig ", 64: b"gpgsig-sha256 "}  # by the length of an id, as git has it
# "U" is a signature that holds, by a key that is not in the file, or is not valid for the date of the commit.
_ANSWERS: dict[str, Signature] = {"G": "good", "N": "none", "B": "refused"}
_GOOD = re.compile(r'Good "git" signature for (.+) with \S+ key \S+')  # as git itself reads it
# Dates in the file are local time to ssh-keygen, unless they say otherwise: the same on every machine.
_EVERYWHERE = {"TZ": "UTC"}
_AT_ONCE = 4  # processes of git, each of which waits for ssh-keygen most of the time
_ENOUGH = 8  # commits for one of them


@dataclass(frozen=True)
class Signed:
    """What is known of one commit's signature; a signer only where it is good."""

    signature: Signature
    signer: str | None = None


def signatures(repo: Repository, commits: Iterable[str], allowed: bytes) -> dict[str, Signed]:
    """Who signed each commit, by its full id.

    allowed: the content of .forge/allowed_signers that counts. Of this machine's settings only gpg.ssh.program and
    gpg.ssh.revocationFile matter. Raises ForgeError where ssh-keygen is needed and is not there.
    """
    ids = list(dict.fromkeys(commits))
    by_commit: dict[str, Signed] = {}
    signed = []
    for commit, header in _signature_headers(repo, ids):
        if header is None:
            by_commit[commit] = Signed("none")
        elif header.startswith(_SSH):
            signed.append(commit)
        else:
            by_commit[commit] = Signed("other kind")
    if not signed:
        return by_commit
    known = {key.fingerprint for key in read_signers(allowed)}
    with _keys(repo, allowed) as settings:
        share = max(_ENOUGH, -(-len(signed) // _AT_ONCE))
        chunks = [signed[start : start + share] for start in range(0, len(signed), share)]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            lines = chain.from_iterable(threads.map(lambda chunk: _asked(repo, settings, chunk), chunks))
            for commit, answer, signer, fingerprint in lines:
                if answer == "U":
                    by_commit[commit] = Signed("not valid then" if fingerprint in known else "unknown key")
                else:
                    signature = _ANSWERS.get(answer, "refused")
                    by_commit[commit] = Signed(signature, signer if signature == "good" else None)
    for commit in signed:
        if commit not in by_commit:
            raise ForgeError(f"git says nothing of the signature of {commit}", hint="see what git fsck says")
    return by_commit


def tag_signers(repo: Repository, tags: Sequence[bytes], allowed: bytes) -> list[str | None]:
    """Who signed each tag object, given by its text; None where git does not say that the signature is good.

    The texts must hold SSH signatures. Nothing is added to the repository.
    """
    if not tags:
        return []
    with _keys(repo, allowed) as settings, tempfile.TemporaryDirectory(prefix="git-forge-tags-") as folder:
        objects = Path(folder) / "objects"
        objects.mkdir()
        variables = {**_EVERYWHERE, "GIT_OBJECT_DIRECTORY": str(objects)}
        signers: list[str | None] = []
        for text in tags:
            file = Path(folder) / "tag"
            file.write_bytes(text)
            stored = run_git(repo, "hash-object", "-t", "tag", "-w", str(file), variables=variables, check=False)
            tag = stored.stdout.decode().strip()
            if stored.returncode or not tag:  # no tag object at all
                signers.append(None)
                continue
            done = run_git(repo, *settings, "verify-tag", "--raw", tag, variables=variables, check=False)
            matches = [_GOOD.fullmatch(line) for line in done.stderr.decode("utf-8", "replace").splitlines()]
            good = [match[1] for match in matches if match]
            signers.append(good[0] if done.returncode == 0 and len(good) == 1 else None)
        return signers


def require_ssh_keygen(repo: Repository) -> None:
    """Raise ForgeError where the program that checks signatures is not on this machine."""
    program = git_text(repo, "config", "--type=path", "--get", "gpg.ssh.program", check=False) or "ssh-keygen"
    if shutil.which(program) is None:
        raise ForgeError(f"{program} was not found, and the signatures here cannot be checked", hint=PROGRAM_HINT)


@contextmanager
def _keys(repo: Repository, allowed: bytes) -> Iterator[tuple[str, ...]]:
    """The settings with which git checks by these keys, for the time of the block."""
    require_ssh_keygen(repo)
    revoked = git_text(repo, "config", "--type=path", "--get", "gpg.ssh.revocationFile", check=False)
    # git only warns, and would take every revoked key again.
    if revoked and not os.access(repo.top / revoked, os.R_OK):
        raise ForgeError(
            f"gpg.ssh.revocationFile names {revoked}, which cannot be read, so no revoked key is known here",
            hint="put it back, or see whose setting it is: git config --show-origin gpg.ssh.revocationFile",
        )
    with tempfile.TemporaryDirectory(prefix="git-forge-keys-") as folder:
        file = Path(folder) / "allowed_signers"
        file.write_bytes(allowed)
        settings = {
            "gpg.ssh.allowedSignersFile": str(file),
            "gpg.program": "false",
            "gpg.openpgp.program": "false",
            "gpg.x509.program": "false",
        }
        yield tuple(chain.from_iterable(("-c", f"{key}={value}") for key, value in settings.items()))


def _asked(repo: Repository, settings: Sequence[str], commits: Sequence[str]) -> list[tuple[str, ...]]:
    """(commit, letter, principal, fingerprint) of each, as `git log` prints them.

    A signature that ssh-keygen does not even begin to read can end git itself, by a broken pipe: so what git does not
    come through with is asked for in halves, and a commit that it cannot come through with alone is refused.
    """
    done = run_git(
        repo, *settings, *quiet("log"), "--no-walk=unsorted", "--stdin", "--no-patch",
        "--format=%H%x00%G?%x00%GS%x00%GF", variables=_EVERYWHERE,
        input="".join(f"{commit}\n" for commit in commits).encode(), check=False,
    )  # fmt: skip
    if done.returncode == 0:
        lines = (line.split("\0") for line in done.stdout.decode("utf-8", "replace").splitlines())
        return [tuple(fields) for fields in lines if len(fields) == 4]
    if len(commits) == 1:
        return [(commits[0], "B", "", "")]
    middle = len(commits) // 2
    return _asked(repo, settings, commits[:middle]) + _asked(repo, settings, commits[middle:])


def _signature_headers(repo: Repository, commits: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
    """Each commit with what its signature begins with, None where it has none."""
    question = "".join(f"{commit}\n" for commit in commits).encode()
    sizes = git_text(repo, "cat-file", "--batch-check=%(objecttype) %(objectsize)", input=question).splitlines()
    for commit, line in zip(commits, sizes, strict=True):
        kind, _, size = line.partition(" ")
        if kind != "commit" or int(size) > MAX_COMMIT:
            raise ForgeError(f"{commit} is no commit of at most {MAX_COMMIT:,} bytes", hint="what else is in it?")
    rest = memoryview(git(repo, "cat-file", "--batch", input=question))
    for commit in commits:
        head = bytes(rest[:200]).partition(b"\n")[0]
        start = len(head) + 1
        end = start + int(head.rpartition(b" ")[2])
        content = bytes(rest[start:end])
        rest = rest[end + 1 :]
        name = _HEADERS[len(commit)]
        lines = content.partition(b"\n\n")[0].split(b"\n")
        yield commit, next((each.removeprefix(name) for each in lines if each.startswith(name)), None)
