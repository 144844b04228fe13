"""The same rights where a server receives a push: new objects are in quarantine, and refs as they were."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from trust.consortium import ADA, BREAST, STRANGER, Consortium

import forge

# What git forge's own pre-receive hook makes of its environment, and then the two questions.
HOOK = """\
import os, sys
for name in ("GIT_OBJECT_DIRECTORY", "GIT_QUARANTINE_PATH"):
    os.environ[name] = os.path.abspath(os.environ[name])
from forge.operations.trusting import approval_problems, trust
from forge.repo.git import find_repository
for line in sys.stdin:
    old, new, ref = line.split()
    if not ref.startswith("refs/heads/"):
        continue
    repo = find_repository()
    found = trust(repo, "main", new).problems
    if ref == "refs/heads/main":
        found += approval_problems(repo, "main", new)
    if found:
        sys.exit("\\n".join(found))
"""


@pytest.fixture
def clone(consortium: Consortium, tmp_path: Path) -> Consortium:
    """A clone of a bare repository with such a hook."""
    server = tmp_path / "server.git"
    consortium.git("clone", "--quiet", "--bare", ".", str(server))
    (tmp_path / "hook.py").write_text(HOOK)
    hook = server / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    place = Path(forge.__file__).parents[1]
    command = shlex.join([sys.executable, str(tmp_path / "hook.py")])
    hook.write_text(f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(place))} exec {command}\n")
    hook.chmod(0o755)
    consortium.git("remote", "add", "origin", str(server))
    return consortium


def pushed(clone: Consortium, *refs: str) -> bool:
    clone.git("push", "--quiet", "origin", *refs, check=False)
    local, _, remote = refs[0].partition(":")
    here, there = clone.git("rev-parse", local), clone.git("ls-remote", "origin", remote or local).split()
    return bool(there) and there[0] == here


def test_a_push_is_held_against_the_rights_that_are_there(clone: Consortium) -> None:
    clone.branch("branch")
    clone.commit(STRANGER, {"contributions/breast/card.toml": "two\n"})
    assert not pushed(clone, "branch")
    clone.git("reset", "--quiet", "--hard", "main")
    clone.commit(BREAST, {"contributions/breast/card.toml": "two\n"})
    assert pushed(clone, "branch")
    # No maintainer stands behind it yet; its approval is known to the server once that has been pushed.
    assert not pushed(clone, "branch:main")
    for key, value in (("gpg.format", "ssh"), ("user.signingKey", str(clone.keys.private(ADA)))):
        clone.git("config", key, value)
    from forge.repo.approvals import NOTES_REF, approve

    approve(clone.repo, clone.git("rev-parse", "branch"))
    assert not pushed(clone, "branch:main")
    clone.git("push", "--quiet", "origin", NOTES_REF)
    assert pushed(clone, "branch:main")


def test_a_push_cannot_bring_replacements_for_what_it_is_judged_by(clone: Consortium) -> None:
    clone.branch("branch")
    sites = clone.git("show", "main:.forge/sites.toml").replace(BREAST, STRANGER)
    clone.commit(STRANGER, {"other": sites + "\n", "keys": clone.keys.allowed(STRANGER)})
    for path, other in ((".forge/sites.toml", "other"), (".forge/allowed_signers", "keys")):
        clone.git("replace", clone.git("rev-parse", f"main:{path}"), clone.git("rev-parse", f"HEAD:{other}"))
    clone.git("push", "--quiet", "origin", "refs/replace/*:refs/replace/*")
    assert clone.git("ls-remote", "origin", "refs/replace/*")
    clone.git("reset", "--quiet", "--hard", "main")
    clone.commit(STRANGER, {"contributions/breast/card.toml": "two\n"})
    assert not pushed(clone, "branch")
