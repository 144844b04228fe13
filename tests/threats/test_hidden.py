"""What a branch changes without a word: every change is named, and some are none of a model repository's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from story.hospitals import change_settings, forge, git_ok
from threats.attacker import commit

# What is done, the line of review that says so, and whether it is refused besides.
Change = tuple[Callable[[Path], object], str, str]


def settings(old: str, new: str) -> Callable[[Path], object]:
    return lambda top: change_settings(top, old, new)


def write(path: str, content: bytes) -> Callable[[Path], object]:
    def change(top: Path) -> None:
        file = top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    return change


def attributes(top: Path) -> None:
    path = top / ".gitattributes"
    path.write_text(path.read_text() + "* -diff\n")


def other_site_s_card(top: Path) -> None:
    path = top / "contributions" / "breast" / "card.toml"
    path.write_text(path.read_text() + '\n[privacy]\nguarantee = "all is well"\n')


def base_path(top: Path) -> None:
    change_settings(top, 'reference = "local:tiny"', 'reference = "base/elsewhere"')


CHANGES: dict[str, Change] = {
    "gate": (settings("gate = 0.2", "gate = 1.0"), "forge.toml: [merge] gate: 0.2 -> 1.0", ""),
    "consolidate": (settings("consolidate = 0", "consolidate = 400"), "forge.toml: [merge] consolidate: 0 -> 400", ""),
    "limits": (
        settings("distilled_images = 500", "distilled_images = 500000"),
        "forge.toml: [limits] distilled_images: 500 -> 500000", "",
    ),
    "search": (settings("evaluations = 4", "evaluations = 1"), "forge.toml: [search] evaluations: 4 -> 1", ""),
    "base": (base_path, "forge.toml: [base] reference: local:tiny -> base/elsewhere", ""),
    "attributes": (attributes, ".gitattributes: changed", ""),
    "lfsconfig": (write(".lfsconfig", b"[lfs]\nurl = http://127.0.0.1:1/x\n"), ".lfsconfig: added", ""),
    "workflow": (write(".github/workflows/model.yml", b"on: push\n"), ".github/workflows/model.yml: added", ""),
    "a name that acts": (write("a\x1b[2Kb\nok: fine", b""), "a\\x1b[2Kb\\nok: fine: added", ""),
    "link": (lambda top: (top / "docs").symlink_to("/etc"), "", "docs is a link"),
    "link with an unfinished name": (
        lambda top: (top / ".forge-item.json.unfinished").symlink_to(".git/hooks/pre-push"), "",
        ".forge-item.json.unfinished is a link",
    ),
    "submodule": (
        lambda top: git_ok(top, "update-index", "--add", "--cacheinfo", "160000," + "1" * 40 + ",sub"), "",
        "sub is a submodule",
    ),
    "case twin": (write("FORGE.TOML", b"format = 1\n"), "", "FORGE.TOML and forge.toml are one file on many machines"),
    "a picture": (
        write("contributions/breast/scan.png", b"x" * 3_000_000), "", "scan.png is no file of a contribution",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_review_names_it(site: Path, what: str) -> None:
    change, line, refusal = CHANGES[what]
    git_ok(site, "switch", "--quiet", "-c", "eve")
    change(site)
    if what == "submodule":
        git_ok(site, "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-m", "A small fix")
    else:
        commit(site)
    git_ok(site, "switch", "--quiet", "--force", "main")
    said = forge(site, "review", "main", "eve", "--no-scores", "--json")
    found = json.loads(said.out)
    if refusal:
        assert said.code == 1 and any(refusal in problem for problem in found["problems"]), found["problems"]
        assert forge(site, "verify", "eve", "--no-scores").code == 1
    else:
        assert found["also"] == [line] and said.code == 0, found
    text = forge(site, "review", "main", "eve", "--no-scores").out
    assert (line or refusal) in text and "\x1b" not in text and "\nok: fine" not in text


def test_a_link_is_refused_by_commit_and_overwrites_nothing(site: Path) -> None:
    """The next commit wrote its forge item, labels and all, through the link."""
    hook = site / ".git" / "hooks" / "pre-push"
    before = hook.read_bytes()
    (site / ".forge-item.json.unfinished").symlink_to(hook)
    path = site / "contributions" / "breast" / "card.toml"
    path.write_text(path.read_text() + '\n[notes]\ntext = "more"\n')
    assert forge(site, "commit").code == 0  # git does not know the link: it is not in the way either
    git_ok(site, "add", ".forge-item.json.unfinished")
    path.write_text(path.read_text() + "more = 1\n")
    said = forge(site, "commit")
    assert said.code == 128 and ".forge-item.json.unfinished is a link" in said.err
    assert hook.read_bytes() == before


def test_another_site_s_card_and_who_changed_it(site: Path) -> None:
    """What a contribution's row says of who: those of this change, not whoever once brought it."""
    git_ok(site, "switch", "--quiet", "-c", "eve")
    other_site_s_card(site)
    git_ok(site, "-c", "user.name=Eve", "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-am", "A small fix")
    found = json.loads(forge(site, "review", "main", "eve", "--no-scores", "--json").out)
    [row] = found["contributions"]
    assert (row["name"], row["change"], row["parts"], row["by"]) == ("breast", "kept", ["card"], ["Eve"])
    assert "kept (card)  Eve\n" in forge(site, "review", "main", "eve", "--no-scores").out
    (site / ".mailmap").write_text("Hospital Breast <ada@example.org>\nHospital Breast <ada@example.org> Eve\n")
    commit(site)
    found = json.loads(forge(site, "review", "main", "eve", "--no-scores", "--json").out)
    assert found["contributions"][0]["by"] == ["Eve"] and found["also"] == [".mailmap: added"]


def test_trailers_by_hand(site: Path) -> None:
    git_ok(site, "switch", "--quiet", "-c", "eve")
    message = "Better\n\nForge-Score: breast accuracy 0.500 -> 1.000, cross-entropy 1.0 -> 0.0 (distilled images)"
    git_ok(site, "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "--allow-empty", "-m", message)
    forged = git_ok(site, "rev-parse", "HEAD")[:10]
    assert "says what its forge item does not: Forge-Score: breast" in forge(site, "verify", "--no-scores").out
    (site / "README").write_text("Words\n")
    commit(site, "Words")  # on top of it
    assert forge(site, "verify", "--no-scores").code == 0
    said = forge(site, "review", "main", "eve", "--no-scores")
    assert said.code == 1 and f"the message of {forged} says what its forge item does not" in said.out
