"""To look at any branch opens no socket, touches nothing outside the clone and acts on no terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from storage.listener import listening
from story.hospitals import copy_repository, forge_ok, git_ok
from threats.hostile import Target, make_outside, spoil
from threats.touching import STRACE, Touched, forge_command, touched

SEEDS = int(os.environ.get("FORGE_TEST_HOSTILE_TREES", "2"))
# The branch is looked at from main, and then where it is checked out.
BY_NAME = (
    ("show", "eve"), ("log", "eve"), ("diff", "main", "eve"), ("verify", "eve"), ("review", "main", "eve"),
    ("show", "eve", "--json"), ("review", "main", "eve", "--json"),
)  # fmt: skip
CHECKED_OUT = (("show",), ("log",), ("diff",), ("status",), ("verify",), ("status", "--json"))


def well_behaved(found: Touched, top: Path, outside: Path) -> None:
    """Nothing on a network, nothing outside, nothing written but in the clone (and in folders for temporary files)."""
    assert found.reached == ()
    assert [path for path in found.read | found.written if Path(path).is_relative_to(outside)] == []
    own = (str(top), "/dev/null", "/dev/tty")
    assert [path for path in found.written if not path.startswith(own)] == []
    assert [c for c in found.text if not c.isprintable() and c != "\n"] == [], found.text
    assert "Traceback" not in found.text and "this is a bug" not in found.text, found.text
    assert found.code in (0, 1, 128), found.text


def everything_below(folder: Path) -> list[tuple[str, int, int]]:
    return sorted(
        (str(path.relative_to(folder)), path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")
    )


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_hostile_tree(site: Path, tmp_path: Path, isolated_home: Path, seed: int) -> None:
    outside = make_outside(tmp_path / "outside")
    forge_ok(site, "install")  # what git starts is watched as well: the quick git forge works elsewhere
    eve = copy_repository(site, tmp_path / "eve")
    git_ok(eve, "switch", "--quiet", "-c", "eve")
    before, home = everything_below(outside), everything_below(isolated_home)
    with listening() as listener:
        evils = spoil(Target(eve, outside, f"{listener.url}/"), seed)
        git_ok(site, "fetch", "--quiet", str(eve), "eve:eve")
        for number, args in enumerate(BY_NAME):
            print(seed, evils, args)
            well_behaved(touched(site, forge_command(*args), tmp_path / f"by-name-{number}"), site, outside)
        assert git_ok(site, "status", "--porcelain") == ""
        # git-lfs is not set up in this clone, so that git leaves pointers alone.
        git_ok(site, "-c", "core.hooksPath=/dev/null", "switch", "--quiet", "eve")
        for number, args in enumerate(CHECKED_OUT):
            print(seed, evils, args)
            well_behaved(touched(site, forge_command(*args), tmp_path / f"checked-out-{number}"), site, outside)
        assert listener.requests == []
    assert everything_below(outside) == before
    assert everything_below(isolated_home) == home


def test_an_honest_tree_is_looked_at_all_the_same(site: Path, tmp_path: Path) -> None:
    """Scores, a merge in a work tree that is thrown away and a search: and still nothing leaves the clone."""
    forge_ok(site, "install")
    git_ok(site, "switch", "--quiet", "-c", "honest")
    git_ok(site, "mv", "contributions/breast", "contributions/bosom")
    forge_ok(site, "commit")
    git_ok(site, "switch", "--quiet", "main")
    for number, args in enumerate((("verify", "honest"), ("review", "main", "honest"))):
        found = touched(site, forge_command(*args), tmp_path / str(number))
        assert found.code == 0, found.text
        well_behaved(found, site, tmp_path / "outside")
        left = [path.name for path in (tmp_path / str(number) / "tmp").iterdir()]
        assert [name for name in left if not name.startswith("torchinductor")] == []  # torch's own


def test_the_watcher_sees(tmp_path: Path) -> None:
    """What this file asserts could come out otherwise."""
    outside = make_outside(tmp_path / "outside")
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(outside / "secret")
    seen = {
        "open('link').read()": lambda found: str(outside / "secret") in found.read,
        "open('link', 'a')": lambda found: str(outside / "secret") in found.written,
        "import os; os.mkdir('../outside/new')": lambda found: str(outside / "new") in found.written,
        "import os; os.symlink('x', '../outside/l')": lambda found: str(outside / "l") in found.written,
        "import os; os.listdir('../outside')": lambda found: str(outside) in found.read,
        "import socket as s; s.socket().connect_ex(('127.0.0.1', 9))": lambda found: found.reached,
        "import socket as s; s.getaddrinfo('localhost', 9)": lambda found: found.reached,
    }
    for number, (code, is_seen) in enumerate(seen.items()):
        found = touched(top, [sys.executable, "-c", code], tmp_path / str(number))
        assert found.code == 0 and is_seen(found), (code, found)
    if STRACE:
        found = touched(top, ["git", "hash-object", "link"], tmp_path / "git")
        assert found.code == 0 and str(outside / "secret") in found.read
