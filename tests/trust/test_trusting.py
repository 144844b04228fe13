"""The target's rights held against a branch, from end to end but for the command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from trust.consortium import ADA, BREAST, LUNG, MAX, SITES, STRANGER, Consortium, Keyring

from forge.errors import ForgeError
from forge.operations.trusting import Trust, approval_problems, approve_as, contribution_signers, trust

CARD, OTHER = "contributions/breast/card.toml", "contributions/lung/card.toml"


@pytest.fixture
def branch(consortium: Consortium) -> Consortium:
    """On a branch of breast's."""
    consortium.branch("branch")
    return consortium


def test_a_contribution_by_its_own_site(branch: Consortium) -> None:
    one = branch.commit(BREAST, {CARD: "two\n", "forge-item.json": "two\n"})
    two = branch.commit(None, {"forge-item.json": "three\n"})
    assert trust(branch.repo, "main", "branch") == Trust(True, {one: BREAST}, (), (), 1)
    branch.switch("main")
    three = branch.commit(ADA, {"README": "x"})
    branch.switch("branch")
    branch.merge("main")
    assert trust(branch.repo, branch.start, "branch").signers == {one: BREAST, three: ADA}
    assert trust(branch.repo, "main", "branch").problems == ()
    assert trust(branch.repo, two, two) == Trust(True, {}, (), (), 1)


def test_everything_that_had_no_right_is_said(branch: Consortium) -> None:
    one = branch.commit(LUNG, {CARD: "two\n"})[:10]
    two = branch.commit(STRANGER, {".forge/sites.toml": SITES.replace(LUNG, STRANGER)})[:10]
    three = branch.commit(None, {".github/workflows/x.yml": "x", OTHER: None})[:10]
    problems = trust(branch.repo, "main", "branch").problems
    maintainers = f"maintainers may change it: {ADA}, {MAX}"
    assert problems == (
        f"{one} contributions/breast: signed by {LUNG}; it belongs to {BREAST}",
        f"{two} .forge/sites.toml: signed by a key that nobody is known by; {maintainers}",
        f"{three} contributions/lung: not signed; it belongs to {LUNG}",
        f"{three} .github/workflows/x.yml: not signed; {maintainers}",
    )


def test_the_branch_has_no_say_in_its_own_rights(branch: Consortium) -> None:
    """Neither by rights that it gives itself, nor by keys, nor by taking both away."""
    for changes in (
        {".forge/sites.toml": SITES.replace(ADA, STRANGER), ".forge/allowed_signers": branch.keys.allowed(STRANGER)},
        {".forge/sites.toml": None, ".forge/allowed_signers": None},
    ):
        branch.git("reset", "--quiet", "--hard", "main")
        branch.commit(STRANGER, changes)
        branch.commit(STRANGER, {CARD: "two\n"})
        assert len(trust(branch.repo, "main", "branch").problems) == 2
        assert trust(branch.repo, "main", "branch").required


def test_a_merge_cannot_roll_back_what_the_target_has(branch: Consortium) -> None:
    branch.commit(LUNG, {OTHER: "two\n"})
    branch.switch("main")
    branch.commit(BREAST, {CARD: "two\n"})
    branch.switch("branch")
    merge = branch.merge("main", by=LUNG, changes={CARD: "one\n"})
    assert trust(branch.repo, "main", "branch").problems == (
        f"{merge[:10]} contributions/breast: signed by {LUNG}; it belongs to {BREAST}",
    )


def test_a_maintainer_takes_a_site_out(branch: Consortium) -> None:
    branch.commit(ADA, {CARD: None, "forge-item.json": "two\n"})
    assert trust(branch.repo, "main", "branch").problems == ()
    branch.git("reset", "--quiet", "--hard", "main")
    branch.commit(ADA, {"contributions/breast/more": "x"})
    assert len(trust(branch.repo, "main", "branch").problems) == 1


def test_a_newcomer_is_brought_in_once(branch: Consortium) -> None:
    branch.switch("main")
    sites = 'newcomers = "signers"\n' + SITES
    branch.commit(ADA, {".forge/sites.toml": sites, ".forge/allowed_signers": branch.keys.allowed(ADA, STRANGER)})
    branch.git("switch", "--quiet", "-C", "branch")
    branch.commit(STRANGER, {"contributions/skin/card.toml": "one\n"})
    branch.commit(STRANGER, {"contributions/skin/card.toml": "two\n"})
    assert trust(branch.repo, "main", "branch").problems == ()
    branch.git("branch", "--force", "main", "branch")
    branch.commit(STRANGER, {"contributions/skin/card.toml": "three\n"})
    (problem,) = trust(branch.repo, "main", "branch").problems
    assert problem.endswith(f"no site owns it, so maintainers may change it: {ADA}, {MAX}")


def test_nothing_is_asked_for_without_rights(keys: Keyring, tmp_path: Path) -> None:
    free = Consortium(tmp_path / "free", keys, sites=None)
    free.branch("branch")
    free.commit(None, {CARD: "two\n", "forge.toml": "two\n"})
    assert trust(free.repo, "main", "branch") == Trust(False)
    assert approval_problems(free.repo, "main", "branch") == ()
    assert contribution_signers(free.repo, "branch", ["breast"]) == {"breast": None}
    # Rights that nobody could read, and so nobody mend, once they are the target's.
    free.commit(None, {".forge/sites.toml": "format = 1\n", ".forge/allowed_signers": ""})
    assert [problem.partition(":")[2] for problem in trust(free.repo, "main", "branch").problems] == [
        ".forge/sites.toml: maintainers must be a list of 1 to 100 principals"
    ]


def no_sites(consortium: Consortium) -> None:
    consortium.write({".forge/sites.toml": None})


def no_keys(consortium: Consortium) -> None:
    consortium.write({".forge/allowed_signers": None})


def a_link(consortium: Consortium) -> None:
    file = consortium.top / ".forge/allowed_signers"
    file.rename(consortium.top / "elsewhere")
    file.symlink_to("../elsewhere")


def a_linked_folder(consortium: Consortium) -> None:
    (consortium.top / ".forge").rename(consortium.top / "elsewhere")
    (consortium.top / ".forge").symlink_to("elsewhere")


def folders(consortium: Consortium) -> None:
    no_sites(consortium)
    no_keys(consortium)
    consortium.write({".forge/sites.toml/x": "x", ".forge/allowed_signers/x": "x"})


def a_submodule(consortium: Consortium) -> None:
    consortium.git("rm", "-rq", ".forge")
    consortium.git("update-index", "--add", "--cacheinfo", f"160000,{consortium.start},.forge")


def no_toml(consortium: Consortium) -> None:
    consortium.write({".forge/sites.toml": "maintainers ="})


def half_a_key(consortium: Consortium) -> None:
    consortium.write({".forge/allowed_signers": f"{ADA} ssh-ed25519 AAAA\n"})


def too_large(consortium: Consortium) -> None:
    consortium.write({".forge/allowed_signers": "#" * (2**20 + 1)})


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (no_sites, r":\.forge/sites\.toml is missing, and the other file of \.forge/ is there"),
        (no_keys, r":\.forge/allowed_signers is missing, and the other file of \.forge/ is there"),
        (a_link, r":\.forge/allowed_signers is not a plain file"),
        (a_linked_folder, r":\.forge is not a folder"),
        (folders, r":\.forge/sites\.toml is a folder"),
        (a_submodule, r":\.forge is not a folder"),
        (no_toml, r":\.forge/sites\.toml: not valid TOML"),
        (half_a_key, r":\.forge/allowed_signers, line 1: not a public key"),
        (too_large, r"has 1,048,577 bytes, more than the limit of 1,048,576"),
    ],
)
def test_rights_that_cannot_be_read_let_nothing_through(
    consortium: Consortium, break_it: Callable[[Consortium], None], message: str
) -> None:
    """As the target's they end everything; as the branch's they are a problem, even if a maintainer brings them."""
    consortium.branch("branch")
    break_it(consortium)
    if break_it is not a_submodule:
        consortium.git("add", "--all")
    consortium.commit(ADA, {})
    (problem,) = trust(consortium.repo, "main", "branch").problems
    with pytest.raises(ForgeError, match=message) as raised:
        trust(consortium.repo, "branch", "branch")
    assert raised.value.message == problem
    for ask in (
        lambda: approval_problems(consortium.repo, "branch", "main"),
        lambda: contribution_signers(consortium.repo, "branch", ["breast"]),
    ):
        with pytest.raises(ForgeError, match=message):
            ask()


def test_other_files_beside_them_are_no_rights(keys: Keyring, tmp_path: Path) -> None:
    free = Consortium(tmp_path / "free", keys, sites=None)
    free.commit(None, {".forge/notes": "x", ".Forge/sites.toml": "x"})
    assert trust(free.repo, free.start, "main") == Trust(False)
    assert trust(free.repo, "main", "main") == Trust(False)


def approve_by(consortium: Consortium, who: str, rev: str) -> str | None:
    for key, value in (("gpg.format", "ssh"), ("user.signingKey", str(consortium.keys.private(who)))):
        consortium.git("config", key, value)
    return approve_as(consortium.repo, consortium.git("rev-parse", rev))


def test_approvals_of_a_protected_branch(branch: Consortium) -> None:
    tip = branch.commit(BREAST, {CARD: "two\n"})
    assert approval_problems(branch.repo, "main", "branch") == (
        f"{tip[:10]} has 0 of 1 maintainers behind it; each signs it or runs: git forge approve {tip[:10]}",
    )
    assert approve_by(branch, BREAST, tip) == BREAST  # no maintainer
    assert approve_by(branch, STRANGER, tip) is None
    assert len(approval_problems(branch.repo, "main", "branch")) == 1
    assert approve_by(branch, MAX, tip) == MAX
    assert approval_problems(branch.repo, "main", "branch") == ()
    assert trust(branch.repo, "main", "branch").approved_by == (MAX,)


@pytest.mark.parametrize("threshold", [0, 1, 2])
def test_the_signer_counts_and_counts_once(consortium: Consortium, threshold: int) -> None:
    consortium.commit(ADA, {".forge/sites.toml": f"threshold = {threshold}\n{SITES}"})
    consortium.branch("branch")
    consortium.commit(BREAST, {CARD: "two\n"})
    assert len(approval_problems(consortium.repo, "main", "branch")) == min(threshold, 1)
    consortium.switch("main")
    merged = consortium.merge("branch", by=ADA)
    assert approve_by(consortium, ADA, merged) == ADA
    found = approval_problems(consortium.repo, "main^1", merged)
    said = (
        f"{merged[:10]} has 1 of 2 maintainers behind it: {ADA}; each signs it or runs: git forge approve {merged[:10]}"
    )
    assert found == ((said,) if threshold == 2 else ())
    assert approve_by(consortium, MAX, merged) == MAX
    assert approval_problems(consortium.repo, "main^1", merged) == ()
    assert trust(consortium.repo, "main^1", merged) == Trust(
        True,
        {merged: ADA, consortium.git("rev-parse", "branch"): BREAST},
        (),
        (ADA, MAX),
        threshold,
    )


def test_the_branch_cannot_lower_the_threshold(branch: Consortium) -> None:
    branch.commit(STRANGER, {".forge/sites.toml": f"threshold = 0\n{SITES}"})
    assert len(approval_problems(branch.repo, "main", "branch")) == 1


def test_who_signed_a_contribution(consortium: Consortium) -> None:
    """The last change of each, on whatever branch it was made; not the merge that brought it."""
    assert contribution_signers(consortium.repo, "main", ["breast", "lung", "none"]) == {
        "breast": None, "lung": None, "none": None,
    }  # fmt: skip
    consortium.branch("branch")
    consortium.commit(BREAST, {CARD: "two\n"})
    consortium.commit(STRANGER, {"contributions/skin/card.toml": "x"})
    consortium.switch("main")
    consortium.commit(LUNG, {OTHER: "two\n"})
    consortium.merge("branch", by=ADA)
    consortium.commit(MAX, {"README": "x"})
    assert contribution_signers(consortium.repo, "HEAD", ["skin", "lung", "breast"]) == {
        "skin": None, "lung": LUNG, "breast": BREAST,
    }  # fmt: skip
    assert contribution_signers(consortium.repo, "HEAD~2", ["breast"]) == {"breast": None}
    consortium.commit(MAX, {CARD: "three\n"})
    assert contribution_signers(consortium.repo, "HEAD", ["breast"]) == {"breast": MAX}


def test_replaced_rights_are_not_looked_at(branch: Consortium) -> None:
    """Anybody may push refs/replace/, also for the blobs of the target."""
    bad: Mapping[str, str] = {"sites": SITES.replace(ADA, STRANGER), "signers": branch.keys.allowed(STRANGER)}
    for name, content in bad.items():
        file = branch.top.parent / name
        file.write_text(content)
        blob = branch.git("hash-object", "-w", str(file))
        path = ".forge/sites.toml" if name == "sites" else ".forge/allowed_signers"
        branch.git("replace", branch.git("rev-parse", f"main:{path}"), blob)
    branch.commit(STRANGER, {"forge.toml": "two\n"})
    assert len(trust(branch.repo, "main", "branch").problems) == 1


def test_without_torch(consortium: Consortium) -> None:
    code = (
        "import sys, forge.operations.trusting\nassert not {'torch', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=consortium.top)
