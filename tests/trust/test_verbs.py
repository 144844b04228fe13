"""git forge sites, approve and verify --since: what they say, and how they end."""

from __future__ import annotations

import json

import pytest
from story.hospitals import forge, forge_ok
from trust.consortium import ADA, BREAST, PEOPLE, STRANGER, Consortium


def test_who_may_do_what(model: Consortium) -> None:
    said = forge_ok(model.top, "sites", "main")
    assert [" ".join(line.split()) for line in said.out.splitlines()] == [
        "What Who",
        "contributions/breast p@h1",
        "contributions/lung q@h2",
        "everything else ada@c, max@c",
        "",
        "newcomers = maintainers: maintainers alone bring a contribution that no site owns",
        "threshold = 1: how many maintainers stand behind what a protected branch is set to",
        "",
        "Principal Key Kind Valid after Valid before",
        *(f"{who} {model.keys.fingerprint(who)} ssh-ed25519 - -" for who in PEOPLE),
        f"*@h3 {model.keys.fingerprint('authority')} ssh-ed25519 (signs others' keys) - 20270101",
    ]
    found = json.loads(forge_ok(model.top, "sites", "--json").out)
    assert found["required"] is True and found["sites"] == {"breast": [BREAST], "lung": ["q@h2"]}
    assert (found["maintainers"], found["threshold"], found["newcomers"]) == (["ada@c", "max@c"], 1, "maintainers")
    assert found["keys"][-1] == {
        "principals": ["*@h3"],
        "kind": "ssh-ed25519",
        "fingerprint": model.keys.fingerprint("authority"),
        "authority": True,
        "valid_after": None,
        "valid_before": "20270101",
        "namespaces": None,
    }


def test_who_has_no_key_is_named(model: Consortium) -> None:
    model.commit(ADA, {".forge/allowed_signers": model.keys.allowed(ADA, STRANGER)})
    assert forge_ok(model.top, "sites").out.endswith("\nWithout a key: max@c, p@h1, q@h2\n")


def test_without_rights_nothing_is_asked_for(model: Consortium) -> None:
    start = "main~1"
    assert "There is no .forge/ in main~1: nothing is asked for" in forge_ok(model.top, "sites", start).out
    assert json.loads(forge_ok(model.top, "sites", start, "--json").out)["required"] is False
    said = forge_ok(model.top, "verify", "--no-scores", "--since", start, "branch")
    assert said.out.startswith("signatures: not required\nok: ")
    assert "signatures" not in forge_ok(model.top, "verify", "--no-scores", "branch").out


def test_verify_since(model: Consortium) -> None:
    said = forge_ok(model.top, "verify", "--no-scores", "--since", "main", "branch")
    assert said.out.startswith("signatures: 1 commit signed by p@h1\nok: ")
    commit = model.git("rev-parse", "branch")
    assert json.loads(forge_ok(model.top, "verify", "--no-scores", "--json", "--since", "main").out) == {
        "rev": "HEAD",
        "commit": commit,
        "ok": True,
        "problems": [],
        "signatures": {"required": True, "signers": {commit: BREAST}, "approved_by": [], "threshold": 1},
    }
    bad = model.commit(None, {"forge.toml": (model.top / "forge.toml").read_text() + "# changed\n"})
    found = forge(model.top, "verify", "--no-scores", "--since", "main")
    assert found.code == 1
    assert found.out == (
        "signatures: 1 commit signed by p@h1\n"
        f"problem: {bad[:10]} forge.toml: not signed; maintainers may change it: ada@c, max@c\n"
    )
    assert json.loads(forge(model.top, "verify", "--no-scores", "--since", "main", "--json").out)["ok"] is False
    assert forge(model.top, "verify", "--since", "nowhere").code == 128


def test_approve(model: Consortium, monkeypatch: pytest.MonkeyPatch) -> None:
    said = forge(model.top, "approve", "branch")
    assert said.code == 128 and "hint: git signs with an SSH key as soon as it is told so:" in said.err
    for key, value in (("gpg.format", "ssh"), ("user.signingKey", str(model.keys.private(ADA)))):
        model.git("config", key, value)
    short = model.git("rev-parse", "--short", "branch")
    assert forge_ok(model.top, "approve", "branch").out == (
        f"Approved as ada@c: {short} A change\n"
        "To hand it on, after taking in what others have approved:\n"
        "    git fetch origin +refs/notes/forge-approvals:refs/notes/origin/forge-approvals\n"
        "    git notes --ref=refs/notes/forge-approvals merge refs/notes/origin/forge-approvals\n"
        "    git push origin refs/notes/forge-approvals\n"
    )
    assert "; behind it: ada@c\n" in forge_ok(model.top, "verify", "--no-scores", "--since", "main", "branch").out
    model.git("config", "user.signingKey", str(model.keys.private(STRANGER)))
    said = forge_ok(model.top, "approve", "branch")
    assert said.err == "warning: your key is none of .forge/allowed_signers there, so this counts for nobody yet\n"
    assert forge(model.top, "approve", "nowhere").code == 128
