"""The limit of the filter is that of forge.toml, whether or not that is parsed for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.formats.safetensors import Limits
from forge.operations import filter_process
from forge.recipe.item import Base
from forge.recipe.settings import LimitSettings, Settings, read_settings, to_toml

WRITTEN = to_toml(Settings(Base("embedded", "sha256:" + "0" * 64)))
LINE = "file_mebibytes = 256\n"


def test_the_default_is_one() -> None:
    assert Limits().file == LimitSettings().file_bytes
    assert LINE in WRITTEN


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (None, False),
        (WRITTEN, False),
        (WRITTEN.replace(LINE, ""), False),
        (WRITTEN.replace(LINE, "file_mebibytes = 3\n"), True),
        (WRITTEN.replace(LINE, "file_mebibytes=3\n"), True),
        (WRITTEN.replace(LINE, "'file_mebibytes' = 3\n"), True),
        (WRITTEN.replace(LINE, '"file\\u005fmebibytes" = 3\n'), True),
        (WRITTEN.replace(LINE, '"file_meb\\u0069bytes" = 3\n'), True),
        (WRITTEN.replace(LINE, "file_mebi" + LINE + "bytes = 3\n"), True),
        (WRITTEN.replace(LINE, "").replace("[limits]", "[limits]\nfile_mebibytes = 256 # as ever"), True),
        (f"# {'x' * 70000}\n{WRITTEN}", True),
        (WRITTEN.replace("\n", "\r\n"), True),
        ("not toml", False),
    ],
)
def test_it_is_what_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, parsed: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = Limits().file
    if text is not None:
        (tmp_path / "forge.toml").write_bytes(text.encode())
        try:
            expected = read_settings(text.encode()).limits.file_bytes
        except filter_process.ForgeError:
            expected = Limits().file
    assert filter_process._limits().file == expected
    assert filter_process._leaves_the_limit(256) is not parsed


def test_a_link_is_not_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").write_text(WRITTEN)
    (tmp_path / "forge.toml").symlink_to("elsewhere")
    assert not filter_process._leaves_the_limit(256)
    assert filter_process._limits() == Limits()
