"""The script of the recipes that posts a review: what it refuses, and what it says where a host does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from living.hosts import BOT, TOKEN, Host, running_host
from living.runners import MARKER, RECIPES


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with running_host(tmp_path) as found:
        yield found


@pytest.mark.parametrize("code", [302, 403, 500])
def test_a_host_that_says_no(host: Host, tmp_path: Path, code: int) -> None:
    host.broken = code
    file = tmp_path / "review.md"
    file.write_text(MARKER)
    variables = {
        "GITHUB_API_URL": host.url,
        "GITHUB_REPOSITORY": "clinics/model",
        "PULL_REQUEST": "5",
        "GITHUB_TOKEN": TOKEN,
    }
    done = post(file, variables)
    assert done.returncode == 1 and f"HTTP {code}" in done.stderr
    assert TOKEN not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert len(host.requests) == 1 and host.comments == {}


def test_what_is_no_review_or_too_long(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "review.md"
    for content in (b"", b"\xff\xfe", b"<!-- git forge\n" + MARKER.encode()):
        file.write_bytes(content)
        done = post(file, {})
        assert done.returncode == 1 and "holds no review" in done.stderr
    done = post(tmp_path, {})
    assert done.returncode == 1 and done.stderr.startswith(f"error: {tmp_path}: ")
    # What does not fit is not even read: a file without end is one that does not fit.
    with file.open("w") as stream:
        stream.write(MARKER + "\nline" * 20_000)
        stream.truncate(1 << 40)
    done = post(file, {"GITHUB_API_URL": host.url, "GITHUB_REPOSITORY": "clinics/model", "GITHUB_TOKEN": TOKEN})
    assert done.returncode == 1 and done.stderr == "error: PULL_REQUEST is not set\n"
    done = post(
        file,
        {
            "GITHUB_API_URL": host.url,
            "GITHUB_REPOSITORY": "clinics/model",
            "GITHUB_TOKEN": TOKEN,
            "PULL_REQUEST": "5",
        },
    )
    assert (done.returncode, done.stdout) == (0, "wrote a comment\n")
    [(author, text)] = host.comments.values()
    assert author == BOT and len(text) < 65_536 and text.endswith("line\n\nThe rest is in the artifact of the job.\n")


def post(file: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("CI_", "GIT"))}
    return subprocess.run(
        [sys.executable, str(RECIPES / "post_review.py"), str(file)],
        env=known | variables,
        capture_output=True,
        text=True,
        check=False,
    )
