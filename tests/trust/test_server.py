"""The same rights where a server receives a push: the real hook, new objects in quarantine, refs as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_models import SampleModel
from story.hospitals import forge_ok
from trust.consortium import ADA, BREAST, LUNG, MAX, STRANGER, Consortium

from forge.trust.approvals import NOTES_REF, approve


@pytest.fixture
def clone(model: Consortium, tmp_path: Path) -> Consortium:
    """A clone of a bare repository that checks pushes; on main, and `branch` is not pushed yet."""
    server = tmp_path / "server.git"
    model.switch("main")
    model.git("clone", "--quiet", "--bare", "--single-branch", ".", str(server))
    assert "where the model asks for rights: main (" in forge_ok(server, "install", "--server").out
    model.git("remote", "add", "origin", str(server))
    return model


def refused(clone: Consortium, *args: str) -> str:
    """What the server has against a push, which leaves all its refs as they were; nothing if it was taken."""
    before = clone.git("ls-remote", "origin")
    said = clone.git("push", "--quiet", "--porcelain", "origin", *args, check=False, errors=True)
    if clone.git("ls-remote", "origin") != before:
        return ""
    assert "the push was refused:" in said or "denied" in said or "deletion" in said, said
    return said


def sample(clone: Consortium) -> SampleModel:
    found = SampleModel.__new__(SampleModel)
    found.top, found.hour = clone.top, 9
    return found


def contribute(clone: Consortium, by: str | None, name: str, version: int = 1) -> str:
    """A contribution and its forge item in one commit, signed by whoever."""
    made = sample(clone)
    made.write_contribution(name, version)
    names = sorted(path.parent.name for path in (clone.top / "contributions").glob("*/card.toml"))
    made.write_item(made.item(dict.fromkeys(names, 1.0)))
    clone.git("add", "--all")
    return clone.commit(by, {})


def sign_as(clone: Consortium, who: str) -> None:
    for key, value in (("gpg.format", "ssh"), ("user.signingKey", str(clone.keys.private(who)))):
        clone.git("config", key, value)


def test_rights_and_approvals_of_the_protected_branch(clone: Consortium) -> None:
    """Anybody's branch is taken, for others to look at; main is not set to what has no right to be there."""
    clone.branch("eve")
    contribute(clone, STRANGER, "breast")
    assert not refused(clone, "eve")
    assert "contributions/breast" in refused(clone, "eve:main")
    clone.switch("branch")
    assert "0 of 1 maintainers behind it" in refused(clone, "branch:main")
    sign_as(clone, ADA)
    approve(clone.repo, clone.git("rev-parse", "branch"))
    assert "0 of 1 maintainers" in refused(clone, "branch:main")  # the server knows of none
    assert not refused(clone, NOTES_REF)
    assert not refused(clone, "branch:main")
    clone.git("switch", "--quiet", "main")
    clone.git("merge", "--quiet", "branch")
    clone.branch("next")
    contribute(clone, LUNG, "lung")
    clone.commit(MAX, {"README.md": "Words\n"})  # who signs the tip stands behind all of it
    assert not refused(clone, "next:main")


def test_nobody_gets_at_rights_or_settings(clone: Consortium) -> None:
    clone.branch("eve")
    sites = (clone.top / ".forge" / "sites.toml").read_text()
    clone.commit(BREAST, {".forge/sites.toml": sites.replace(ADA, STRANGER)})
    clone.commit(STRANGER, {"README.md": "By a maintainer, says the branch\n"})
    assert ".forge/sites.toml" in refused(clone, "eve:main")


def test_back_away_and_beside(clone: Consortium) -> None:
    """Neither set back to where other keys counted, nor deleted, nor replaced by a branch of another name."""
    start = clone.git("rev-parse", "main~1")  # before there were any rights
    assert "denied" in refused(clone, "--force", f"{start}:main") or "it goes back" in refused(clone, f"+{start}:main")
    clone.git("-C", str(clone.top.parent / "server.git"), "config", "receive.denyNonFastForwards", "false")
    assert "it goes back" in refused(clone, "--force", f"{start}:refs/heads/main")
    clone.git("-C", str(clone.top.parent / "server.git"), "config", "receive.denyDeletes", "false")
    assert "a protected branch is not deleted" in refused(clone, "--delete", "main")
    clone.git("-C", str(clone.top.parent / "server.git"), "config", "--add", "forge.protected", "release")
    clone.git("-C", str(clone.top.parent / "server.git"), "config", "--add", "forge.protected", "main")
    clone.branch("eve")
    contribute(clone, STRANGER, "breast")
    assert "contributions/breast" in refused(clone, "eve:refs/heads/release")  # the first push to it
    assert not refused(clone, "main:refs/heads/release")
    assert "contributions/breast" in refused(clone, "eve:refs/heads/release")


def test_a_push_cannot_bring_replacements_for_what_it_is_judged_by(clone: Consortium) -> None:
    clone.branch("eve")
    sites = clone.git("show", "main:.forge/sites.toml").replace(BREAST, STRANGER)
    clone.commit(STRANGER, {"other": sites + "\n", "keys": clone.keys.allowed(STRANGER)})
    for path, other in ((".forge/sites.toml", "other"), (".forge/allowed_signers", "keys")):
        clone.git("replace", clone.git("rev-parse", f"main:{path}"), clone.git("rev-parse", f"HEAD:{other}"))
    clone.git("push", "--quiet", "origin", "refs/replace/*:refs/replace/*")
    assert clone.git("ls-remote", "origin", "refs/replace/*")
    clone.git("reset", "--quiet", "--hard", "main")
    contribute(clone, STRANGER, "breast")
    assert "contributions/breast" in refused(clone, "eve:main")


def test_a_branch_that_nobody_protects_asks_for_nothing(clone: Consortium) -> None:
    clone.git("-C", str(clone.top.parent / "server.git"), "config", "forge.protected", "refs/heads/other")
    clone.branch("eve")
    contribute(clone, None, "breast")
    assert not refused(clone, "eve:main")
