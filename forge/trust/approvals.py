"""Approvals of commits: signed statements in git notes, which travel and merge by themselves.

An approval is one line of a commit's note in refs/notes/forge-approvals: the text of a tag object, signed by git
itself, that names the commit. The tag is never kept: a tag has one name, and several people approve.
"""

from __future__ import annotations

import base64
import binascii
import re

from forge.errors import ForgeError
from forge.git.running import Repository, git, git_text, read_blob
from forge.trust.signatures import require_ssh_keygen, tag_signers

NOTES_REF = "refs/notes/forge-approvals"
MAX_NOTE = 2**18  # bytes
MAX_APPROVALS = 64  # of one commit
MAX_TAG = 8192  # bytes; a signature by the largest RSA key has 2,000

_LINE = re.compile(r"approval: ([A-Za-z0-9+/]+={0,2})")
# The whole object: nothing but this is an approval, and no other kind of signature is in it.
_TAG = (
    r"object {commit}\ntype commit\ntag git-forge-approval-{commit}\ntagger [^\n]*\n\n"
    r"git forge: approve {commit}\n"
    r"-----BEGIN SSH SIGNATURE-----\n[A-Za-z0-9+/=\n]+\n-----END SSH SIGNATURE-----\n"
)
_SET_UP = (
    "git signs with an SSH key as soon as it is told so:\n"
    "    git config --global gpg.format ssh\n"
    "    git config --global user.signingKey ~/.ssh/id_ed25519.pub"
)


def approve(repo: Repository, commit: str) -> bytes:
    """Sign an approval of a commit (a full id) as this clone signs, and add it to the commit's note; its text.

    Raises ForgeError where git is not set up to sign with SSH keys.
    """
    if git_text(repo, "config", "--get", "gpg.format", check=False) != "ssh":
        raise ForgeError("an approval is signed by an SSH key, and git signs with something else here", hint=_SET_UP)
    require_ssh_keygen(repo)
    text = _sign(repo, commit)
    if not _is_approval(text, commit):  # git makes the tag all the same where the key's file is gone
        raise ForgeError("git made no signature: its key could not be used", hint=_SET_UP)
    line = f"approval: {base64.b64encode(text).decode()}"
    git(repo, "notes", f"--ref={NOTES_REF}", "append", "-m", line, commit)
    return text


def approvals(repo: Repository, commit: str, allowed: bytes) -> tuple[str, ...]:
    """The principals that approve of a commit (a full id), sorted; each once, by the keys that are `allowed`.

    What is no approval of exactly this commit, or is not signed by one of them, counts for nothing.
    """
    texts = _texts(repo, commit)
    if not texts:
        return ()
    return tuple(sorted({signer for signer in tag_signers(repo, texts, allowed) if signer}))


def _sign(repo: Repository, commit: str) -> bytes:
    name = f"git-forge-approval-{commit}"
    message = f"git forge: approve {commit}"
    # No configured clean-up or template may change the text, and nobody is asked anything.
    create = ("tag", "--sign", "--force", "--cleanup=whitespace", "-m", message, name, commit)
    try:
        git(repo, *create)
        return git(repo, "cat-file", "tag", f"refs/tags/{name}")
    except ForgeError as error:
        raise ForgeError(f"git did not sign: {error.message}", hint=error.hint or _SET_UP) from error
    finally:
        git(repo, "update-ref", "-d", f"refs/tags/{name}", check=False)


def _texts(repo: Repository, commit: str) -> list[bytes]:
    """What may be approvals in a commit's note."""
    blob = git_text(repo, "notes", f"--ref={NOTES_REF}", "list", commit, check=False)
    if not blob:
        return []
    try:
        note = read_blob(repo, blob, MAX_NOTE)
    except ForgeError:
        return []  # too large to be a note of ours
    texts: dict[bytes, None] = {}
    for line in note.decode("utf-8", "replace").splitlines():
        match = _LINE.fullmatch(line.strip()) if len(line) <= 2 * MAX_TAG else None
        try:
            text = base64.b64decode(match[1], validate=True) if match else b""
        except binascii.Error:
            continue
        if len(text) <= MAX_TAG and _is_approval(text, commit):
            texts.setdefault(text)
    return list(texts)[:MAX_APPROVALS]


def _is_approval(text: bytes, commit: str) -> bool:
    return re.fullmatch(_TAG.replace("{commit}", commit).encode(), text) is not None
