"""The index of what log and show print: the same words with it and without, and never in the way of anybody."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sample_models import SampleModel

from forge.cli import run
from forge.operations.log import log_lines
from forge.operations.show import show
from forge.recipe.layout import ITEM_FILE
from forge.repo import version_index
from forge.repo.version_index import VersionIndex, about
from forge.repo.versions import ItemReader

Printed = Callable[..., str]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SampleModel:
    """Contributions that come, change and go, a merge, and a forge item that somebody has edited by hand."""
    model = SampleModel(tmp_path_factory.mktemp("original"))
    model.add_contribution("lung", {"lung": 0.5})
    model.git("checkout", "-q", "-b", "side")
    model.add_contribution("breast", {"lung": 0.4, "breast": -0.6})
    model.git("checkout", "-q", "main")
    model.git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
    whole = (model.top / ITEM_FILE).read_text()
    model.write(ITEM_FILE, whole.replace("0.4", "0.45").encode())
    model.commit("Edit by hand")
    model.write(ITEM_FILE, whole.encode())
    model.commit("Mend it")
    return model


@pytest.fixture
def model(original: SampleModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SampleModel:
    model = original.copy(tmp_path / "model")
    monkeypatch.chdir(model.top)
    return model


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    def of(*args: str) -> str:
        capsys.readouterr()
        assert run(args) == 0
        return capsys.readouterr().out

    return of


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The forge items that a log takes apart."""
    texts: list[bytes] = []
    read = ItemReader.read

    def counted(self: ItemReader, text: bytes) -> object:
        texts.append(text)
        return read(self, text)

    monkeypatch.setattr(ItemReader, "read", counted)
    return texts


def index_of(model: SampleModel) -> Path:
    return model.repo.common_dir / "forge" / version_index.FILE


VERBS = [
    ("log",),
    ("log", "-n", "2"),
    ("log", "--all-parents"),
    ("log", "HEAD~2"),
    ("show", "HEAD~2"),
    ("show", "--json", "side"),
]


@pytest.mark.parametrize("args", VERBS, ids=" ".join)
def test_the_same_words_with_it_and_without(model: SampleModel, printed: Printed, args: tuple[str, ...]) -> None:
    first = printed(*args)
    assert index_of(model).is_file()
    assert printed(*args) == first
    version_index.forget(model.repo)
    assert printed(*args) == first


def test_a_version_that_was_shown_is_not_read_again(model: SampleModel, printed: Printed, reads: list[bytes]) -> None:
    printed("log")
    assert reads
    reads.clear()
    printed("log")
    # The one that was edited by hand is looked at each time: its message names the commit.
    assert [text.count(b"0.45") for text in reads] == [1, 0]
    model.add_contribution("colon", {"lung": 0.4, "breast": -0.6, "colon": 0.1})
    reads.clear()
    assert "+colon 0.100" in printed("log", "-n", "1")
    assert len(reads) == 2


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def damage_rows(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE answers SET answer = x'00'")
    database.close()


def other_rows(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE answers")
    database.close()


def another_version(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE made_by SET name = '0 of long ago'")
        database.execute("DELETE FROM answers")
    database.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: overwrite(path, b""),
        lambda path: overwrite(path, b"x" * 5000),
        lambda path: overwrite(path, path.read_bytes()[:5000]),
        lambda path: overwrite(path, path.read_bytes()[:4096] + os.urandom(path.stat().st_size - 4096)),
        damage_rows,
        other_rows,
        another_version,
    ],
    ids=["empty", "no database", "cut off", "overwritten", "rows", "other tables", "another version"],
)
def test_one_that_is_damaged_or_not_ours_is_made_again(
    model: SampleModel, printed: Printed, reads: list[bytes], damage: Callable[[Path], None]
) -> None:
    before = printed("log"), printed("show")
    damage(index_of(model))
    reads.clear()
    assert (printed("log"), printed("show")) == before
    assert len(reads) > 2  # nothing of it was believed
    reads.clear()
    assert (printed("log"), printed("show")) == before
    printed("log")
    reads.clear()
    printed("log")
    assert len(reads) == 2


def test_no_branch_can_put_one_there(model: SampleModel, printed: Printed, tmp_path: Path) -> None:
    """An index of another clone, brought along at every path where one could be looked for, is not read."""
    printed("log")
    with sqlite3.connect(index_of(model)) as database:
        forged = version_index.zlib.compress(b'["+everything 1.000", null, 1.0]')
        database.execute("UPDATE answers SET answer = ?", (forged,))
    database.close()
    for path in (f"forge/{version_index.FILE}", version_index.FILE):
        model.write(path, index_of(model).read_bytes())
    model.commit("Bring an index along")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(model.top), str(clone)], check=True)
    os.chdir(clone)
    assert "everything" not in printed("log")
    os.chdir(model.top)
    assert "everything" in printed("log")  # who may write into .git may say what he likes


def test_a_git_folder_that_may_only_be_read(
    model: SampleModel, printed: Printed, monkeypatch: pytest.MonkeyPatch, reads: list[bytes]
) -> None:
    first = printed("log", "-n", "2")
    before = index_of(model).read_bytes()
    access = os.access  # by which root is told so, too
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and ".git/forge" not in str(path))
    index_of(model).chmod(0o444)
    all_of_it = printed("log")
    assert all_of_it.splitlines()[1].split() == first.splitlines()[1].split()
    reads.clear()
    assert printed("log") == all_of_it
    assert len(reads) > 2  # nothing could be kept
    assert index_of(model).read_bytes() == before
    version_index.forget(model.repo)
    assert printed("log") == all_of_it
    assert not index_of(model).exists()


def test_nowhere_to_write(model: SampleModel, printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    first = printed("log")
    shutil.rmtree(index_of(model).parent)
    index_of(model).parent.write_text("in the way")
    assert printed("log") == first
    assert printed("show").startswith("Version")


def test_a_disk_that_is_full(model: SampleModel, printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    first = printed("log")
    version_index.forget(model.repo)

    def full(*args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(VersionIndex, "_write", full)
    assert printed("log") == first


def test_a_python_without_sqlite(model: SampleModel, printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    first = printed("log")
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    assert printed("log") == first
    assert printed("show").startswith("Version")


def test_one_that_another_process_has_locked(
    model: SampleModel, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = printed("log")
    monkeypatch.setattr(version_index, "_PATIENCE", 0.0)
    database = sqlite3.connect(index_of(model), isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    assert printed("log") == first
    database.execute("COMMIT")
    database.close()
    assert printed("log") == first
    assert index_of(model).is_file()


def test_several_processes_at_once(model: SampleModel, printed: Printed) -> None:
    first = printed("log")
    version_index.forget(model.repo)
    command = [sys.executable, "-m", "forge", "log"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0] for process in running] == [first] * 4
    assert printed("log") == first


def test_it_grows_no_larger_than_it_may(model: SampleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_index, "MAX_BYTES", 256 << 10)
    monkeypatch.setattr(version_index, "_HELD", 8 << 10)
    ids = [f"{number * 2654435761 % 2**32:08x}" * 5 for number in range(4000)]
    for start in range(0, len(ids), 500):
        index = VersionIndex(model.repo)
        for each in ids[start : start + 500]:
            index.keep(about("line", each), [os.urandom(100).hex(), None, 0.5])
        index.close()
        assert index_of(model).stat().st_size < 320 << 10
    index = VersionIndex(model.repo)
    known = index.find(about("line", each) for each in ids)
    index.close()
    assert 500 < len(known) < 4000
    newest = sum(about("line", each) in known for each in ids[-500:])
    assert newest > 0  # those that come later still find room


def test_what_is_not_known_for_good_is_not_kept(model: SampleModel, tmp_path: Path) -> None:
    """In a shallow clone the same commit may get more ancestors, and other people may have changed what last."""
    clone = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{model.top}", str(clone)], check=True)
    from forge.git.running import find_repository

    repo = find_repository(clone)
    assert show(repo, "HEAD").details == show(repo, "HEAD").details
    index = VersionIndex(repo)
    assert index.find([about("details", model.git("rev-parse", "HEAD"))]) == {}
    index.close()


def test_a_walk_that_is_given_up_keeps_what_it_has_read(model: SampleModel, reads: list[bytes]) -> None:
    walk = log_lines(model.repo)
    next(walk)
    walk.close()  # type: ignore[attr-defined]
    reads.clear()
    next(log_lines(model.repo))
    assert reads == []


def test_gc_lists_and_removes_it(model: SampleModel, printed: Printed) -> None:
    printed("log")
    assert "index of git forge log and show" in printed("gc")
    assert "removed" in printed("gc", "--prune", "now")
    assert not index_of(model).exists()
