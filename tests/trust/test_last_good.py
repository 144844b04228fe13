"""A branch that has gone back on a server is noticed by every clone that has seen it further on."""

from __future__ import annotations

import pytest
from trust.consortium import ADA, Consortium

from forge.errors import ForgeError
from forge.trust.last_good import full_name, gone_back, remember

MAIN = "refs/remotes/origin/main"


def test_forwards_is_well_and_back_is_not(consortium: Consortium) -> None:
    repo = consortium.repo
    one, two = consortium.commit(ADA, {"README": "1"}), consortium.commit(ADA, {"README": "2"})
    assert gone_back(repo, MAIN, consortium.start) is None  # nothing is known
    remember(repo, MAIN, one)
    assert gone_back(repo, MAIN, one) is None
    assert gone_back(repo, MAIN, two) is None
    assert gone_back(repo, "refs/heads/main", consortium.start) is None  # another branch
    message = gone_back(repo, MAIN, consortium.start)
    kept = "refs/forge/good/remotes/origin/main"
    assert message == (
        f"{MAIN} has gone back: {consortium.start[:10]} does not contain {one[:10]}, which was good here before; "
        f"if that is meant: git update-ref -d {kept}"
    )
    remember(repo, MAIN, consortium.start)  # not forgotten by looking at an older one
    assert consortium.git("rev-parse", kept) == one
    remember(repo, MAIN, two)
    assert gone_back(repo, MAIN, one) is not None
    consortium.git("update-ref", "-d", kept)
    assert gone_back(repo, MAIN, consortium.start) is None


def test_nothing_is_kept_where_nothing_is_asked_for(consortium: Consortium) -> None:
    bare = consortium.commit(ADA, {".forge/sites.toml": None, ".forge/allowed_signers": None})
    remember(consortium.repo, MAIN, bare)
    assert consortium.git("for-each-ref", "refs/forge") == ""
    # But a branch that had rights must not lose them by going back.
    remember(consortium.repo, MAIN, consortium.start)
    other = consortium.git("commit-tree", "-m", "Without", f"{bare}^{{tree}}")
    assert gone_back(consortium.repo, MAIN, other) is not None
    assert gone_back(consortium.repo, MAIN, bare) is None


def test_names_of_refs(consortium: Consortium) -> None:
    consortium.git("update-ref", MAIN, "HEAD")
    assert full_name(consortium.repo, "main") == "refs/heads/main"
    assert full_name(consortium.repo, "HEAD") == "refs/heads/main"
    assert full_name(consortium.repo, "origin/main") == MAIN
    for other in (consortium.start, "main~0", "nowhere", "--all"):
        assert full_name(consortium.repo, other) is None
    with pytest.raises(ForgeError, match="not the full name of a ref: main"):
        remember(consortium.repo, "main", consortium.start)
