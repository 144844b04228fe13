"""docs/erasure.md is true: its commands, with git filter-repo, end as it says."""

from __future__ import annotations

from pathlib import Path

from trust.document import Shell, steps

DOCUMENT = Path(__file__).parents[2] / "docs" / "erasure.md"


def test_every_command_ends_as_the_document_says(shell: Shell) -> None:
    done = 0
    for step in steps(DOCUMENT.read_text(encoding="utf-8")):
        wrong = shell.do(step)
        assert wrong is None, wrong
        done += step.kind == "command"
    assert done > 20
