"""Starting git forge in this process, and all of a repository that a look at it must leave as it is; no torch."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from story.hospitals import forge


def everything(top: Path) -> dict[str, bytes]:
    """Work tree, settings, hooks, refs and index of a repository; not its objects, nor the note of how it is set up."""

    def git(*args: str) -> bytes:
        return subprocess.run(["git", *args], cwd=top, capture_output=True, check=True).stdout

    found = {
        path.relative_to(top).as_posix(): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and not {"objects", "index", "set-up"} & set(path.relative_to(top).parts)
    }
    return found | {"status": git("status", "--porcelain", "-uall"), "staged": git("ls-files", "--stage")}


def reviewed(top: Path, *args: str, code: int = 0) -> dict[str, Any]:
    """`git forge review ARGS` as JSON; nothing of the repository has changed but that there are more objects in it."""
    before = everything(top)
    said = forge(top, "review", *args, "--json")
    assert said.code == code, said
    assert everything(top) == before
    found = json.loads(said.out)
    assert isinstance(found, dict) and found["ok"] == (code == 0)
    return found


def by_name(rows: list[dict[str, Any]], key: str = "name") -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in rows}
