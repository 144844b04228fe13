"""What a name, a path or an option of somebody else's does where nobody thought of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from story.conftest import Files
from story.hospitals import forge, git_ok, item, start_model, write_contribution
from threats.attacker import commit


@pytest.mark.parametrize("name", ["aux", "NUL", "com1.old", "a.", ".hidden", "-x", "a b"])
def test_names_that_are_no_folder_on_some_machine(site: Path, site_files: Files, name: str) -> None:
    """By `git forge train`, `add` and `commit`, and in what a branch brings."""
    for verb in (["train", "--data", "x", "--labels", "a,b"], ["add", "--adapter", "x", "--distilled", "y"]):
        said = forge(site, verb[0], *verb[1:], "--", name)
        assert said.code in (2, 128) and name in said.err, said
        assert not (site / "contributions" / name).exists()
    git_ok(site, "switch", "--quiet", "-c", "eve")
    write_contribution(site, name, site_files["other"])
    assert forge(site, "commit").code in (1, 128)
    commit(site)
    for verb in (["verify", "--no-scores"], ["review", "--no-scores", "main"]):
        said = forge(site, *verb)
        assert said.code == 1 and "cannot be the name of a contribution" in said.out, said


@pytest.mark.parametrize("option", ["--receive-pack=touch ran;", "--upload-pack=x", "-f", "--exec=touch ran;"])
def test_a_remote_that_is_an_option(site: Path, tmp_path: Path, option: str) -> None:
    git_ok(tmp_path, "init", "--quiet", "--bare", "main")
    said = forge(site, "push", "--", option, "main")
    assert (said.code == 128 and f"{option} is not a remote" in said.err) or "no remote" in said.err
    git_ok(site, "remote", "add", "origin", str(tmp_path / "main"))
    said = forge(site, "push", "--", option, "main")
    assert said.code == 128 and f"{option} is not a remote" in said.err
    said = forge(site, "push", "--", "origin", option)
    assert said.code == 128 and "unknown revision" in said.err
    assert git_ok(tmp_path / "main", "for-each-ref") == "" and not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize(
    "verb", [["show"], ["log"], ["diff"], ["verify"], ["review"], ["sites"], ["evaluate", "--data", "."]]
)
def test_a_revision_that_is_an_option(site: Path, verb: list[str]) -> None:
    said = forge(site, *verb, "--", "--output=ran")
    assert said.code == 128 and "unknown revision" in said.err, said
    assert not (site / "ran").exists()


def test_a_branch_that_looks_like_another_is_pushed_as_itself(site: Path, tmp_path: Path) -> None:
    """A tag of the same name, and a name that begins as a forced push is written."""
    git_ok(tmp_path, "init", "--quiet", "--bare", "origin")
    git_ok(site, "remote", "add", "origin", str(tmp_path / "origin"))
    git_ok(site, "tag", "main", "start")
    assert forge(site, "push", "origin", "main", "--no-scores").code == 0
    assert git_ok(tmp_path / "origin", "rev-parse", "refs/heads/main") == git_ok(site, "rev-parse", "refs/heads/main")
    git_ok(site, "branch", "+main", "start")
    assert forge(site, "push", "origin", "+main", "--no-scores").code == 0
    assert git_ok(tmp_path / "origin", "rev-parse", "refs/heads/main") == git_ok(site, "rev-parse", "refs/heads/main")
    assert git_ok(tmp_path / "origin", "rev-parse", "refs/heads/+main") == git_ok(site, "rev-parse", "start")


def test_no_path_of_a_machine_is_committed(base_folder: Path, site_files: Files, tmp_path: Path) -> None:
    """In forge.toml, the forge item, cards, messages and what is said of them."""
    top = start_model(tmp_path / "model", base_folder, "mixture", "--settings", "best")
    write_contribution(top, "other", site_files["other"])
    assert forge(top, "commit").code == 0
    assert item(top)["base"]["reference"] == "local:tiny"
    everything = git_ok(top, "log", "-p", "--all", "--format=fuller")
    assert "local:tiny" in everything and str(base_folder) not in everything and str(tmp_path) not in everything
    assert "/" not in git_ok(top, "log", "--format=%s%n%b").replace(" / ", " ")
