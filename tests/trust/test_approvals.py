"""Approvals in git notes: what counts, what does not, and how those of several people come together."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from trust.consortium import ADA, BREAST, MAX, STRANGER, Consortium

from forge.clone import setup as clone_setup
from forge.errors import ForgeError
from forge.git.running import find_repository
from forge.trust import approvals as module
from forge.trust.approvals import MAX_NOTE, NOTES_REF, approvals, approve

Approve = Callable[..., str]


@pytest.fixture
def approve_by(consortium: Consortium) -> Approve:
    """approve_by(who, commit, top=...): as `git forge approve` in a clone that is set up to sign; the note's line."""

    def sign(who: str, commit: str, top: Path | None = None) -> str:
        where = top or consortium.top
        for key, value in (("gpg.format", "ssh"), ("user.signingKey", str(consortium.keys.private(who)))):
            consortium.git("-C", str(where), "config", key, value)
        text = approve(find_repository(where), commit)
        return f"approval: {base64.b64encode(text).decode()}"

    return sign


def count(consortium: Consortium, commit: str) -> tuple[str, ...]:
    return approvals(consortium.repo, commit, consortium.allowed)


def test_each_principal_counts_once(consortium: Consortium, approve_by: Approve) -> None:
    commit = consortium.commit(None, {})
    assert count(consortium, commit) == ()
    for who in (MAX, ADA, STRANGER, ADA):
        approve_by(who, commit)
    assert count(consortium, commit) == (ADA, MAX)
    assert count(consortium, consortium.start) == ()
    assert consortium.git("tag", "--list") == ""
    assert consortium.git("for-each-ref", "--format=%(refname)", "refs/notes") == NOTES_REF


def note(consortium: Consortium, commit: str, *lines: str) -> None:
    file = consortium.top.parent / "note"
    file.write_text("\n\n".join(lines))
    consortium.git("notes", f"--ref={NOTES_REF}", "add", "--force", "--file", str(file), commit)


def test_what_is_no_approval_of_this_commit_counts_for_nothing(consortium: Consortium, approve_by: Approve) -> None:
    commit, other = consortium.commit(None, {}), consortium.commit(None, {"README": "x"})
    good = approve_by(ADA, commit)
    elsewhere = approve_by(MAX, other)
    text = base64.b64decode(good.removeprefix("approval: "))

    def line(changed: bytes) -> str:
        return f"approval: {base64.b64encode(changed).decode()}"

    consortium.git("tag", "--sign", "-m", f"git forge: approve {commit}", "v1", commit, by=ADA)
    release = (consortium.git("cat-file", "tag", "v1") + "\n").encode()
    signed = consortium.git("cat-file", "commit", consortium.commit(ADA, {})).encode() + b"\n"
    pgp = text.replace(b"SSH SIGNATURE", b"PGP SIGNATURE")
    for name, bad in {
        "of another commit": elsewhere,
        "of another commit, renamed": line(base64.b64decode(elsewhere[10:]).replace(other.encode(), commit.encode())),
        "another signature": line(base64.b64decode(elsewhere[10:]).replace(b"x", b"y")),
        "truncated": good[:-40],
        "no base64": good[:-1] + "?",
        "half the text": line(text[:200]),
        "without a signature": line(text.partition(b"-----BEGIN")[0]),
        "with something after it": line(text + b"more\n"),
        "a release": line(release),
        "a commit": line(signed),
        "by another kind of key": line(pgp),
        "somebody says so": f"approval: {ADA}",
        "in capitals": good.replace("approval", "Approval"),
        "nothing": "",
    }.items():
        note(consortium, commit, bad)
        assert count(consortium, commit) == (), name
        note(consortium, commit, bad, f"  {good}\r", bad)
        assert count(consortium, commit) == (ADA,), name


def test_a_key_that_is_gone_or_revoked(consortium: Consortium, approve_by: Approve, tmp_path: Path) -> None:
    commit = consortium.commit(None, {})
    approve_by(ADA, commit)
    approve_by(MAX, commit)
    assert approvals(consortium.repo, commit, consortium.keys.allowed(MAX).encode()) == (MAX,)
    (tmp_path / "revoked").write_text(consortium.keys.public(MAX))
    consortium.git("config", "gpg.ssh.revocationFile", str(tmp_path / "revoked"))
    assert count(consortium, commit) == (ADA,)


def test_nothing_here_takes_for_ever(
    consortium: Consortium, approve_by: Approve, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = consortium.commit(None, {})
    good = approve_by(ADA, commit)
    note(consortium, commit, good, "x" * MAX_NOTE)
    assert count(consortium, commit) == ()
    note(consortium, commit, good, "approval: " + "A" * 100_000)
    assert count(consortium, commit) == (ADA,)
    asked: list[int] = []
    monkeypatch.setattr(module, "tag_signers", lambda repo, texts, allowed: asked.append(len(texts)) or [])
    text = base64.b64decode(good.removeprefix("approval: "))
    many = [base64.b64encode(text.replace(b"U1NIU0lH", b"%08d" % number)).decode() for number in range(100)]
    note(consortium, commit, good, good, *(f"approval: {each}" for each in many))
    count(consortium, commit)
    assert asked == [module.MAX_APPROVALS]


def test_two_people_approve_in_two_clones(consortium: Consortium, approve_by: Approve, tmp_path: Path) -> None:
    """As `git forge approve` says to hand it on, with the set-up of git forge."""
    commit = consortium.commit(None, {})
    clone = tmp_path / "clone"
    consortium.git("clone", "--quiet", str(consortium.top), str(clone))
    clone_setup.install(find_repository(clone))
    approve_by(ADA, commit)
    approve_by(MAX, commit, clone)
    remote = NOTES_REF.replace("refs/notes/", "refs/notes/origin/")
    for command in (
        ("fetch", "--quiet", "origin", f"+{NOTES_REF}:{remote}"),
        ("notes", f"--ref={NOTES_REF}", "merge", "--quiet", remote),
        ("push", "--quiet", "origin", NOTES_REF),
    ):
        consortium.git("-C", str(clone), *command)
    assert count(consortium, commit) == (ADA, MAX)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "git signs with something else here"),
        ({"gpg.format": "openpgp"}, "git signs with something else here"),
        ({"gpg.format": "ssh"}, "git did not sign: .*user.signing[kK]ey"),
        (
            {"gpg.format": "ssh", "user.signingKey": "/nowhere/key.pub"},
            "git made no signature: its key could not",
        ),
        ({"gpg.format": "ssh", "user.signingKey": "/nowhere", "gpg.ssh.program": "/nowhere/at-all"}, "was not found"),
    ],
)
def test_git_that_is_not_set_up_to_sign(consortium: Consortium, settings: dict[str, str], message: str) -> None:
    for key, value in settings.items():
        consortium.git("config", key, value)
    with pytest.raises(ForgeError, match=message) as raised:
        approve(consortium.repo, consortium.start)
    assert raised.value.hint
    assert consortium.git("for-each-ref", "refs/tags", "refs/notes") == ""


def test_the_users_settings_for_tags_and_notes_change_nothing(consortium: Consortium, approve_by: Approve) -> None:
    for key, value in {
        "tag.forceSignAnnotated": "true", "tag.gpgSign": "false", "core.commentChar": "g", "commit.cleanup": "strip",
        "core.notesRef": "refs/notes/other", "notes.displayRef": "refs/notes/*",
    }.items():  # fmt: skip
        consortium.git("config", key, value)
    approve_by(ADA, consortium.start)
    assert count(consortium, consortium.start) == (ADA,)


def test_a_name_with_other_letters(
    consortium: Consortium, approve_by: Approve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Åsa Ødegård")
    approve_by(BREAST, consortium.start)
    assert count(consortium, consortium.start) == (BREAST,)
