"""Runs the ```console blocks of a document, each command by a real shell, and compares what they print.

HTML comments, which nobody sees, say who is at the keyboard (`as:`, each with a home and a folder to stand in), what is
done beside the document (`run:`), what time it is (`date:`) and that the last command of the next block ends with
another code than 0 (`ends:`).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

Kind = Literal["as", "run", "date", "command"]

_PART = re.compile(r"<!--(?P<comment>.*?)-->|^```console\n(?P<block>.*?)^```$", re.DOTALL | re.MULTILINE)
_DIRECTIVE = re.compile(r"(as|run|date|ends): (.+)")
# What differs from one run to the next: ids, keys, figures; and with them the width of columns.
_MASKS = ((r"SHA256:[\w+/]{43}", "<key>"), (r"\b[0-9a-f]{7,64}\b", "<id>"), (r"-?\b\d+\.\d{3,}\b", "<figure>"))


@dataclass(frozen=True)
class Step:
    """One thing to do; of a command also what it prints, and with which code it ends."""

    kind: Kind
    text: str
    output: tuple[str, ...] = ()
    ends: int = 0


def steps(document: str) -> Iterator[Step]:
    """What a document does, in its order."""
    ends = 0
    for part in _PART.finditer(document):
        if part["block"] is None:
            for line in part["comment"].splitlines():
                directive = _DIRECTIVE.fullmatch(line.strip())
                if directive and directive[1] == "ends":
                    ends = int(directive[2])
                elif directive:
                    yield Step(directive[1], directive[2])  # type: ignore[arg-type]  # one of the three others
            continue
        commands = re.split(r"^\$ ", part["block"], flags=re.MULTILINE)[1:]
        for number, command in enumerate(commands, 1):
            first, *rest = command.splitlines()
            more = [line[2:] for line in rest if line.startswith("> ") or line == ">"]
            yield Step(
                "command", "\n".join([first, *more]), tuple(rest[len(more) :]), ends if number == len(commands) else 0
            )
        ends = 0


class Shell:
    """The people of a document, each in a home of their own below `folder`."""

    def __init__(self, folder: Path, path: str, settings: str, start: str) -> None:
        """path: of the programs. settings: everybody's .gitconfig to begin with. start: when the first command runs."""
        self.folder, self.path, self.settings = folder, path, settings
        self.places: dict[str, Path] = {}
        self.who = ""
        self.now = datetime.fromisoformat(start)

    def do(self, step: Step) -> str | None:
        """Take a step; what is wrong with how it ended, None where it is as the document says."""
        if step.kind == "as":
            self.who = step.text
            if step.text not in self.places:
                self.places[step.text] = self.folder / step.text
                (self.folder / step.text).mkdir()
                (self.folder / step.text / ".gitconfig").write_text(self.settings)
            return None
        if step.kind == "date":
            self.now = datetime.fromisoformat(step.text)
            return None
        code, printed = self.run(step.text)
        if step.kind == "run":
            return None if code == 0 else f"run: {step.text}\nended with {code}:\n{printed}"
        if code == step.ends and agree(step.output, tuple(printed.splitlines())):
            return None
        said = "\n".join(step.output)
        return f"$ {step.text}\nended with {code} instead of {step.ends} and said:\n{printed}\ninstead of:\n{said}"

    def run(self, command: str) -> tuple[int, str]:
        """(exit code, all that it printed) of a command, a minute after the one before."""
        self.now += timedelta(minutes=1)
        place = self.folder / "place"
        script = f'{command}\ncode=$?\npwd > "$PLACE"\nexit $code\n'
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.places[self.who], env=self.variables(place), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        self.places[self.who] = Path(place.read_text().strip())
        return done.returncode, done.stdout

    def variables(self, place: Path) -> Mapping[str, str]:
        home = self.folder / self.who
        return os.environ | {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
            "GIT_AUTHOR_DATE": self.now.isoformat(),
            "GIT_COMMITTER_DATE": self.now.isoformat(),
            "PATH": self.path,
            "PLACE": str(place),
        }


def agree(expected: tuple[str, ...], printed: tuple[str, ...]) -> bool:
    """Whether lines are those that were expected.

    There a line "..." stands for any number of them, and " ..." at the end of one for the rest of it.
    """
    if not expected:
        return not printed
    if expected[0] == "...":
        return any(agree(expected[1:], printed[start:]) for start in range(len(printed) + 1))
    return bool(printed) and _same(masked(expected[0]), masked(printed[0])) and agree(expected[1:], printed[1:])


def _same(expected: str, printed: str) -> bool:
    return expected == printed or (expected.endswith(" ...") and printed.startswith(expected.removesuffix("...")))


def masked(line: str) -> str:
    for pattern, instead in _MASKS:
        line = re.sub(pattern, instead, line)
    return " ".join(line.split())
