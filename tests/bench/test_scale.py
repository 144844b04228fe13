"""Looking at a model takes as many processes for thirty contributions as for three, and reads no item twice."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.bench.scale import Case as Compared
from examples.bench.scale import Runs, exponent, measure, table
from forge.cli import run
from forge.git.running import find_repository
from forge.recipe.item import ForgeItem
from forge.repo import history, items, version_index, versions

Started = Callable[[], Counter[str]]
PROBE = """
import sys
from forge.cli import run
code = run(sys.argv[1:])
print("LOADED", code, *sorted(sys.modules), file=sys.stderr)
"""


@pytest.fixture
def parsed(consortia: dict[int, Path], monkeypatch: pytest.MonkeyPatch) -> list[ForgeItem]:
    """Every forge item that is read from its text from now on, in their order; nothing is known of any yet."""
    read: list[ForgeItem] = []
    from_text = items.from_json

    def counted(text: bytes, *source: str) -> ForgeItem:
        item = from_text(text, *source)
        read.append(item)
        return item

    items._whole.cache_clear()
    items._texts.clear()
    for top in consortia.values():
        version_index.forget(find_repository(top))
    monkeypatch.setattr(items, "from_json", counted)
    monkeypatch.setattr(versions.ItemReader, "read", lambda self, text: counted(text))
    return read


@pytest.mark.parametrize(
    "args", [("log", "-n", "2"), ("log",), ("status",), ("show",), ("verify", "--no-scores")], ids=" ".join
)
def test_as_many_processes_for_thirty_contributions_as_for_three(
    consortia: dict[int, Path], started: Started, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    counts = {}
    for size, top in consortia.items():
        monkeypatch.chdir(top)
        started()
        assert run(args) == 0
        counts[size] = started()
    assert counts[3] == counts[30]
    assert counts[3].total() > 0


@pytest.mark.parametrize(
    "args", [("log", "-n", "10"), ("log", "-n", "10", "--json"), ("log", "-n", "10", "--all-parents")], ids=" ".join
)
def test_the_versions_that_are_shown_are_read_once(
    consortia: dict[int, Path],
    parsed: list[ForgeItem],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
) -> None:
    monkeypatch.chdir(consortia[30])
    assert run(args) == 0
    # Ten, and what the oldest of them was made from.
    assert [len(item.names) for item in parsed] == [*range(30, 19, -1)]


def test_a_whole_history_is_read_once(
    consortia: dict[int, Path], parsed: list[ForgeItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(consortia[30])
    monkeypatch.setattr(history, "_BATCH", 4)
    assert run(["log"]) == 0
    assert [len(item.names) for item in parsed] == [*range(30, -1, -1)]


@pytest.mark.parametrize(
    ("args", "sizes"), [(("status",), [30]), (("show",), [30, 29]), (("verify", "--no-scores"), [30])]
)
def test_a_command_reads_each_item_once(
    consortia: dict[int, Path],
    parsed: list[ForgeItem],
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    sizes: list[int],
) -> None:
    monkeypatch.chdir(consortia[30])
    assert run(args) == 0
    assert [len(item.names) for item in parsed] == sizes


def test_a_version_that_was_shown_is_let_go_of(consortia: dict[int, Path]) -> None:
    walk = versions.versions(find_repository(consortia[30]))
    item = next(walk).item
    assert item is not None
    newest = weakref.ref(item)
    del item
    for _ in range(2):
        next(walk)
    gc.collect()
    assert newest() is None


def test_a_consortium_is_what_it_says(consortia: dict[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(consortia[30])
    for rev in ("HEAD", "HEAD~1", "HEAD~29", "HEAD~30"):
        assert run(["verify", "--no-scores", rev]) == 0
    git = ["git", "-C", str(consortia[30]), "rev-list", "--count", "HEAD"]
    assert subprocess.run(git, capture_output=True, check=True).stdout == b"31\n"


@pytest.mark.parametrize(
    ("path", "reads"), [("README", False), ("forge-item.json", True)], ids=["another file", "the forge item"]
)
def test_the_hook_reads_a_forge_item_that_is_committed_only(
    consortia: dict[int, Path], tmp_path: Path, path: str, reads: bool
) -> None:
    top = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(consortia[3]), str(top)], check=True)
    if reads:
        subprocess.run(["git", "checkout", "--quiet", "HEAD~1", "--", path], cwd=top, check=True)
    else:
        (top / path).write_text("x\n")
    subprocess.run(["git", "add", path], cwd=top, check=True)
    message = tmp_path / "message"
    message.write_text("Say\n\nForge-Score: made up\n")
    command = [sys.executable, "-c", PROBE, "hook", "prepare-commit-msg", str(message), "message"]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, check=True)
    _, code, *modules = done.stderr.splitlines()[-1].split()
    assert code == "0"
    assert ("forge.recipe.item" in modules) == reads
    assert ("Forge-Contribution: site-00000" in message.read_text()) == reads
    assert "made up" not in message.read_text()


@pytest.mark.parametrize("args", [("-h",), ("hook", "post-merge"), ("filter-process",)], ids=" ".join)
def test_what_git_starts_imports_nothing_that_only_errors_and_tables_need(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    command = [sys.executable, "-c", PROBE, *args]
    done = subprocess.run(command, cwd=tmp_path, input="", capture_output=True, text=True, check=True)
    modules = set(done.stderr.splitlines()[-1].split())
    assert "forge.cli" in modules
    assert modules.isdisjoint({"subprocess", "tempfile", "traceback", "json", "csv", "html", "forge.recipe.layout"})


def test_the_figures_of_a_command_are_its_own_and_grow_as_fitted(tmp_path: Path) -> None:
    runs = Runs()
    measure("echo x > made", tmp_path, {}, runs)
    assert (tmp_path / "made").read_text() == "x\n"
    assert len(runs.cpu) == len(runs.wall) == len(runs.memory) == 1
    with pytest.raises(RuntimeError, match="ended with 3"):
        measure("exit 3", tmp_path, {}, Runs())
    assert exponent([10, 100, 1000], [0.5 + 1e-4 * size**1.5 for size in (10, 100, 1000)], 0.5) == pytest.approx(1.5)
    rows = table(
        [10, 100],
        [Compared("verb", "", "")],
        {
            "plain": {("verb", size): Runs([0.1], [0.1], [1.0]) for size in (10, 100)},
            "forge": {("verb", 10): Runs([0.2], [0.2], [2.0]), ("verb", 100): Runs([0.4], [0.4], [3.0])},
        },
    ).splitlines()
    assert rows[1].split() == ["verb", "10", "0.100", "0.200", "0.200", "2.00", "2"]
    assert rows[2].split()[:6] == ["verb", "100", "0.100", "0.400", "0.400", "4.00"]
