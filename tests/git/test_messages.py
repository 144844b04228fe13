"""What git and hooks say, as an error."""

from __future__ import annotations

import pytest

from forge.git.messages import failure, verb_of, what_git_said

TRAVERSE = (
    "fatal: detected dubious ownership in repository at '/srv/our models'\nTo add an exception, call:\n\n\tgit x\n"
)


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ("fatal: no such thing\n", "no such thing", None),
        ("error: one\nerror: two\nfatal: three\n", "one\nerror: two\nfatal: three", None),
        ("hook: one.....Passed\n  two....Failed\n\nfile x is too large\n",
         "hook: one.....Passed\n  two....Failed\n\nfile x is too large", None),
        ("warning: LF\nfatal: stopped\n", "stopped\nwarning: LF", None),
        ("error: inflate: data stream error\nerror: unable to unpack\nfatal: loose object x is corrupt\n",
         "unable to unpack\nfatal: loose object x is corrupt\nerror: inflate: data stream error", None),
        ("fatal: stopped\nhint: do this\nhint:\nhint: or that\n", "stopped", "do this\n\nor that"),
        ("fatal: Unable to create '/m/.git/index.lock': File exists.\n\nAnother git process seems to be running\n",
         "Unable to create '/m/.git/index.lock': File exists.\n\nAnother git process seems to be running",
         "if a git is at work here, wait for it; if none is, one that was killed has left this file: "
         "rm '/m/.git/index.lock'"),
        (TRAVERSE, "detected dubious ownership in repository at '/srv/our models'",
         "it belongs to another user; if you trust it: git config --global --add safe.directory '/srv/our models'"),
        ("", "", None),
    ],
)  # fmt: skip
def test_all_of_it_is_shown(said: str, message: str, hint: str | None) -> None:
    assert what_git_said(said.encode()) == (message, hint)


def test_a_git_that_says_it_on_standard_output_is_heard() -> None:
    assert failure(["commit"], 1, b"", b"nothing to commit\n").message == "nothing to commit"
    assert failure(["-c", "a=b", "commit"], 1, b"").message == "git commit ended with 1 and said nothing"


@pytest.mark.parametrize(
    ("args", "verb"), [(["log", "-1"], "log"), (["-c", "a=b", "-c", "c=d", "tag"], "tag"), ([], "")]
)
def test_the_verb_stands_after_the_settings(args: list[str], verb: str) -> None:
    assert verb_of(args) == verb
