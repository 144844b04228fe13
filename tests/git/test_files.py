"""Files in a work tree that a branch has filled: links lead nowhere, devices are not read, nothing is predictable."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from forge.errors import ForgeError
from forge.git.files import UNFINISHED, is_plain_file, read_plain_file, write_whole


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that no link may lead to."""
    file = tmp_path / "outside"
    file.write_bytes(b"secret")
    return file


def odd_files(folder: Path, outside: Path) -> dict[str, Path]:
    """What may stand where a file should be, by what it is."""
    folder.mkdir()
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "zero").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe")
    return {name: folder / name for name in ("folder", "link", "dangling", "zero", "pipe")}


def test_what_is_not_a_file_is_refused_by_name_and_without_waiting(tmp_path: Path, outside: Path) -> None:
    for name, path in odd_files(tmp_path / "work", outside).items():
        with pytest.raises(ForgeError, match=f"{name} is not a plain file"):
            read_plain_file(path, 100, name)
        assert not is_plain_file(path)


def test_a_file_of_the_limit_is_read_and_one_more_byte_is_too_much(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert read_plain_file(path, 4) is None
    assert read_plain_file(path / "below", 4) is None
    path.write_bytes(b"1234")
    assert read_plain_file(path, 4) == b"1234"
    with pytest.raises(ForgeError, match="has 4 bytes, more than the limit of 3"):
        read_plain_file(path, 3)
    with pytest.raises(ForgeError, match=r"a\\nok: x"):
        read_plain_file(path, 3, "a\nok: x")


def test_a_link_in_place_of_the_target_is_replaced_and_not_followed(tmp_path: Path, outside: Path) -> None:
    for path in odd_files(tmp_path / "work", outside).values():
        if path.is_dir():
            continue
        write_whole(path, b"new")
        assert is_plain_file(path) and path.read_bytes() == b"new"
    assert outside.read_bytes() == b"secret"


def test_what_is_written_first_has_a_name_that_nobody_can_know(
    tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anything left of a write that fails."""
    seen: list[str] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.append(self.name)
        if len(seen) > 2:
            raise OSError("no room")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    for _ in range(2):
        write_whole(tmp_path / "item.json", b"x")
    with pytest.raises(OSError, match="no room"):
        write_whole(tmp_path / "item.json", b"y")
    assert len(set(seen)) == 3
    assert all(name.startswith(".item.json.") and name.endswith(UNFINISHED) for name in seen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["item.json", "outside"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_are_as_this_process_makes_them(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "file", b"x")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    write_whole(tmp_path / "hook", b"x", mode=0o755)
    assert stat.S_IMODE((tmp_path / "hook").stat().st_mode) == 0o755
