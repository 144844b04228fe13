"""Who signed a commit, with real keys of every kind and real git."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from trust.consortium import ADA, BREAST, LUNG, STRANGER, Consortium, Keyring

from forge.errors import ForgeError
from forge.trust.signatures import Signed, signatures, tag_signers


@pytest.fixture
def signed_by(consortium: Consortium) -> Iterator[dict[str, str]]:
    """By who signed: a commit."""
    yield {who: consortium.commit(who, {}) for who in (ADA, BREAST, STRANGER)}


def found(consortium: Consortium, commit: str, allowed: str | bytes | None = None) -> Signed:
    text = consortium.allowed if allowed is None else allowed.encode() if isinstance(allowed, str) else allowed
    return signatures(consortium.repo, [commit], text)[commit]


def test_all_of_a_history_at_once(consortium: Consortium, signed_by: dict[str, str]) -> None:
    assert signatures(consortium.repo, [*signed_by.values(), consortium.start], consortium.allowed) == {
        consortium.start: Signed("none"),
        signed_by[ADA]: Signed("good", ADA),
        signed_by[BREAST]: Signed("good", BREAST),
        signed_by[STRANGER]: Signed("unknown key"),
    }
    assert signatures(consortium.repo, [], consortium.allowed) == {}


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_kinds_of_keys(consortium: Consortium, kind: str) -> None:
    commit = consortium.commit(consortium.keys.private("kinds", kind), {})
    assert found(consortium, commit, f"k@h {consortium.keys.public('kinds', kind)}") == Signed("good", "k@h")


BEFORE, AFTER = Signed("good", "k@h"), Signed("not valid then")


@pytest.mark.parametrize(
    ("options", "date", "expected"),
    [
        ('valid-before="20260302"', "2026-03-01T23:59:59+00:00", BEFORE),
        ('valid-before="20260302"', "2026-03-02T00:00:01+00:00", AFTER),
        ('valid-before="20260302"', "2026-03-02T01:00:00+14:00", BEFORE),  # the date counts, not how it is written
        ('valid-before="20260302"', "2026-03-01T20:00:00-09:00", AFTER),
        ('valid-after="20260302"', "2026-03-01T23:59:59+00:00", AFTER),
        ('valid-after="20260302"', "2026-03-02T00:00:01+00:00", BEFORE),
        ('valid-after="20260301",valid-before="20260401"', "2026-03-15T00:00:00+00:00", BEFORE),
        ('namespaces="git"', "2026-03-15T00:00:00+00:00", BEFORE),
        ('namespaces="file,git"', "2026-03-15T00:00:00+00:00", BEFORE),
        ('namespaces="file"', "2026-03-15T00:00:00+00:00", Signed("refused")),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])
def test_a_key_with_limits(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch, zone: str, options: str, date: str, expected: Signed
) -> None:
    commit = consortium.commit("limits", {}, date)
    monkeypatch.setenv("TZ", zone)  # of whoever verifies
    assert found(consortium, commit, f"k@h {options} {consortium.keys.public('limits')}\n") == expected


def test_a_key_that_was_replaced(consortium: Consortium) -> None:
    old, new = consortium.keys.public("old"), consortium.keys.public("new")
    allowed = f'p@h valid-before="20260301" {old}\np@h valid-after="20260301" {new}\n'
    commits = [
        consortium.commit(who, {}, f"2026-{month}-15T00:00:00+00:00")
        for who in ("old", "new")
        for month in ("02", "03")
    ]
    assert list(signatures(consortium.repo, commits, allowed.encode()).values()) == [
        Signed("good", "p@h"), Signed("not valid then"), Signed("not valid then"), Signed("good", "p@h"),
    ]  # fmt: skip


def test_several_principals_and_patterns(consortium: Consortium) -> None:
    """A key stands for the first principal of its first line that is valid; a pattern stands for itself."""
    commit = consortium.commit("many", {})
    key = consortium.keys.public("many")
    assert found(consortium, commit, f"a@h,b@h {key}\nc@h {key}") == Signed("good", "a@h")
    assert found(consortium, commit, f'a@h valid-before="20200101" {key}\nc@h {key}') == Signed("good", "c@h")
    assert found(consortium, commit, f"*@h {key}") == Signed("good", "*@h")


def test_certificates(consortium: Consortium, keys: Keyring) -> None:
    """An authority's pattern bounds whom it may certify, whatever its certificates say."""
    allowed = f"*@h1 cert-authority {keys.public('authority')}\n{ADA} {keys.public(ADA)}\n"
    one = keys.certificate("authority", "one", BREAST)
    ours = consortium.commit(one, {})
    elsewhere = consortium.commit(keys.certificate("authority", "two", ADA), {})
    both = consortium.commit(keys.certificate("authority", "three", ADA, BREAST), {})
    joined = consortium.commit(keys.certificate("authority", "four", f"{ADA},x@h1"), {})
    forged = consortium.commit(keys.certificate("somebody", "five", BREAST), {})
    assert found(consortium, ours, allowed) == Signed("good", BREAST)
    assert found(consortium, elsewhere, allowed) == Signed("unknown key")
    assert found(consortium, both, allowed) == Signed("good", BREAST)
    assert found(consortium, joined, allowed).signer in (None, "x@h1")
    assert found(consortium, forged, allowed) == Signed("unknown key")
    # The certified key without its certificate, and the authority's own key, are nobody's.
    for key in (one.with_name(one.name.replace("-cert.pub", ".pub")), keys.private("authority")):
        bare = consortium.commit(key.with_suffix("") if key.suffix == ".pub" else key, {})
        assert found(consortium, bare, f"*@h1 cert-authority {keys.public('authority')}").signature != "good"


def test_a_revoked_key(consortium: Consortium, signed_by: dict[str, str], tmp_path: Path) -> None:
    revoked = tmp_path / "revoked keys"
    revoked.write_text(consortium.keys.public(BREAST) + "\n")
    consortium.git("config", "gpg.ssh.revocationFile", str(revoked))
    assert found(consortium, signed_by[BREAST]) == Signed("refused")
    assert found(consortium, signed_by[ADA]) == Signed("good", ADA)
    # git would only warn, and take the key again.
    revoked.unlink()
    with pytest.raises(ForgeError, match=r"revocationFile names .*revoked keys, which cannot be read"):
        found(consortium, signed_by[ADA])


def test_what_was_signed_is_what_counts(consortium: Consortium) -> None:
    commit = consortium.commit(BREAST, {"contributions/breast/card.toml": "two\n"})
    text = consortium.git("cat-file", "commit", commit) + "\n"
    start_tree = consortium.git("rev-parse", f"{consortium.start}^{{tree}}")
    head = text.partition("gpgsig ")[0]
    signature = text[len(head) :].partition("-----END SSH SIGNATURE-----")[0]
    changes = {
        "the message": text.replace("A change", "Another"),
        "the tree": text.replace(text.split()[1], start_tree),
        "the date": text.replace("1772366400", "1772366401"),
        "the signature": text.replace(signature, signature.replace("\n U1NIU0lH", "\n U1NIU0lI")),
        "half a signature": head + "gpgsig -----BEGIN SSH SIGNATURE-----\n\nA change\n",
        "no armour": head + "gpgsig -----BEGIN SSH SIGNATURE-----\n garbage\n\nA change\n",
    }
    for what, changed in changes.items():
        assert changed != text, what
        other = hashed(consortium, changed)
        assert found(consortium, other).signature in ("refused", "unknown key"), what
    assert found(consortium, hashed(consortium, text)) == Signed("good", BREAST)


def hashed(consortium: Consortium, text: str) -> str:
    file = consortium.top.parent / "object"
    file.write_text(text)
    return consortium.git("hash-object", "-t", "commit", "-w", "--literally", str(file))


def test_what_ends_git_itself_is_refused_alone(consortium: Consortium, signed_by: dict[str, str]) -> None:
    """ssh-keygen goes before it has read what was signed, which breaks git's pipe; more or less often."""
    text = consortium.git("cat-file", "commit", consortium.start) + "\n"
    head = text.partition("\n\n")[0]
    long = "x" * 500_000  # more than a pipe holds
    armour = "gpgsig -----BEGIN SSH SIGNATURE-----\n garbage"
    broken = [hashed(consortium, f"{head}\n{armour}\n\n{number}{long}\n") for number in range(3)]
    commits = [broken[0], signed_by[ADA], broken[1], signed_by[BREAST], broken[2]]
    assert signatures(consortium.repo, commits, consortium.allowed) == dict.fromkeys(broken, Signed("refused")) | {
        signed_by[ADA]: Signed("good", ADA),
        signed_by[BREAST]: Signed("good", BREAST),
    }


def test_no_other_program_is_started(consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by what a commit calls its signature, nor by this machine's settings."""
    text = consortium.git("cat-file", "commit", consortium.start) + "\n"
    head, _, message = text.partition("\n\n")
    spy = tmp_path / "spy"
    spy.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\necho '[GNUPG:] GOODSIG 0 {ADA}'\n")
    spy.chmod(0o755)
    for name in ("gpg", "gpgsm"):
        shutil.copy(spy, tmp_path / name)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for key in ("gpg.program", "gpg.openpgp.program", "gpg.x509.program"):
        consortium.git("config", key, str(spy))
    consortium.git("config", "gpg.format", "openpgp")
    good = consortium.commit(ADA, {})
    for armour in ("PGP SIGNATURE", "PGP MESSAGE", "SIGNED MESSAGE", "ELSE"):
        signature = f"gpgsig -----BEGIN {armour}-----\n garbage\n -----END {armour}-----"
        commit = hashed(consortium, f"{head}\n{signature}\n\n{message}")
        assert signatures(consortium.repo, [commit, good], consortium.allowed) == {
            commit: Signed("other kind"), good: Signed("good", ADA),
        }  # fmt: skip
    assert not (tmp_path / "started").exists()


def test_the_users_settings_change_nothing(consortium: Consortium, signed_by: dict[str, str], tmp_path: Path) -> None:
    everybody = tmp_path / "everybody"
    everybody.write_text(f"{ADA} {consortium.keys.public(STRANGER)}\n")
    for key, value in {
        "gpg.ssh.allowedSignersFile": str(everybody),
        "gpg.minTrustLevel": "never",
        "log.showSignature": "true",
        "log.follow": "true",
        "i18n.logOutputEncoding": "UTF-16",
        "format.pretty": "oneline",
        "color.ui": "always",
        "core.useReplaceRefs": "true",
    }.items():
        consortium.git("config", key, value)
    assert found(consortium, signed_by[STRANGER]) == Signed("unknown key")
    assert found(consortium, signed_by[ADA]) == Signed("good", ADA)


def test_a_replaced_commit_is_still_itself(consortium: Consortium, signed_by: dict[str, str]) -> None:
    """Anybody may push refs/replace/."""
    consortium.git("replace", signed_by[STRANGER], signed_by[ADA])
    assert found(consortium, signed_by[STRANGER]) == Signed("unknown key")


def test_the_program_is_the_users_own(consortium: Consortium, signed_by: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "my ssh-keygen"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\nexec ssh-keygen \"$@\"\n")
    program.chmod(0o755)
    consortium.git("config", "gpg.ssh.program", str(program))
    assert found(consortium, signed_by[ADA]) == Signed("good", ADA)
    assert (tmp_path / "started").exists()
    program.unlink()
    with pytest.raises(ForgeError, match=r"my ssh-keygen was not found, and the signatures here cannot be checked"):
        found(consortium, signed_by[ADA])
    assert found(consortium, consortium.start) == Signed("none")  # nothing to check


def test_without_openssh(consortium: Consortium, signed_by: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "ssh-keygen" else real(name))
    with pytest.raises(ForgeError, match=r"ssh-keygen was not found") as raised:
        found(consortium, signed_by[ADA])
    assert "install OpenSSH" in str(raised.value.hint)


def test_a_commit_that_is_too_large(consortium: Consortium) -> None:
    text = consortium.git("cat-file", "commit", consortium.start)
    with pytest.raises(ForgeError, match="is no commit of at most 1,048,576 bytes"):
        found(consortium, hashed(consortium, text + "x" * 2**20))
    with pytest.raises(ForgeError, match="is no commit"):
        found(consortium, consortium.git("rev-parse", "HEAD^{tree}"))


def test_a_history_in_sha256(keys: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    consortium = Consortium(tmp_path / "sha256", keys)
    commit = consortium.commit(LUNG, {})
    assert len(commit) == 64
    assert found(consortium, commit) == Signed("good", LUNG)


def test_tags(consortium: Consortium) -> None:
    texts = []
    for who in (ADA, STRANGER, BREAST):
        consortium.git("tag", "--sign", "--force", "-m", "Good", "it", by=who)
        texts.append((consortium.git("cat-file", "tag", "it") + "\n").encode())
    texts.append(texts[0].replace(b"Good", b"Best"))
    texts.append(b"not a tag at all")
    before = consortium.git("count-objects", "-v")
    assert tag_signers(consortium.repo, texts, consortium.allowed) == [ADA, None, BREAST, None, None]
    assert consortium.git("count-objects", "-v") == before
