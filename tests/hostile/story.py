"""One story of a model, told with git and git forge as programs, and what was said in it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from histories.conftest import Files
from sample_models import adapter
from story.hospitals import write_contribution

Environment = Mapping[str, str | None]

# git's own log, without what is not of the model.
LOG = ("log", "--no-show-signature", "--no-color", "--encoding=UTF-8")
_ID = re.compile(r"\b[0-9a-f]{7,64}\b")


@dataclass
class Teller:
    """Tells a story in the work tree `top`. variables: of the environment, None for one that is not there."""

    top: Path
    program: Path
    variables: Environment = field(default_factory=dict)
    umask: int = 0o022
    said: list[str] = field(default_factory=list)

    def git(self, *args: str, code: int = 0, heard: bool = False) -> None:
        """`git ARGS`; what it says is git's own affair, unless it is to be heard."""
        self._run("git", *args, code=code, heard=heard)

    def forge(self, *args: str, code: int = 0) -> None:
        """`git forge ARGS`, by its own place: a program that starts git may have a PATH without it."""
        self._run(str(self.program), *args, code=code, heard=True)

    def _run(self, *command: str, code: int, heard: bool) -> None:
        merged: dict[str, str | None] = {**os.environ, **self.variables}
        if "stash" in command:  # git itself cannot bring back untracked files under GIT_LITERAL_PATHSPECS
            merged["GIT_LITERAL_PATHSPECS"] = None
        done = subprocess.run(
            command,
            cwd=self.top,
            env={name: value for name, value in merged.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            umask=self.umask,
        )
        encoding = self.variables.get("PYTHONIOENCODING") if command[0] == str(self.program) else None
        out, err = done.stdout.decode(encoding or "utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        told = " ".join([Path(command[0]).name, *command[1:]])
        assert done.returncode == code, f"{told}: {done.returncode} instead of {code}\n{out}{err}"
        assert "Traceback" not in err and "this is a bug" not in err, f"{told}:\n{err}"
        self.said.append(f"$ {told}\n{out if heard else ''}")

    def told(self) -> str:
        """All that was said. Ids are numbered as they come: those of other hashes, or of signed commits, are others."""
        numbers: dict[str, int] = {}
        return _ID.sub(lambda found: f"<{numbers.setdefault(found[0][:7], len(numbers))}>", "\n".join(self.said))


def tell(teller: Teller, contributions: Files) -> str:
    """Look, merge, put aside, contribute, disagree, settle, take back and push."""
    top = teller.top
    for verb in ("status", "log"):
        teller.forge(verb)
    teller.git("merge", "--quiet", "--no-edit", "breast")
    teller.git("merge", "--quiet", "--no-edit", "colon")
    for words in (["log"], ["show"], ["show", "--json"], ["diff", "HEAD~1", "HEAD"], ["verify", "--no-scores"]):
        teller.forge(*words)

    write_contribution(top, "lung", contributions["lung"])
    teller.forge("status")
    teller.git("stash", "push", "--quiet", "--include-untracked")
    teller.forge("status")
    teller.git("stash", "pop", "--quiet")
    teller.forge("commit", "-m", "Lungs, größer")
    teller.git(*LOG, "-1", "--format=%b", heard=True)

    for branch, version in (("other", 5), ("main", 6)):
        teller.git("switch", "--quiet", *(["-c"] if branch == "other" else []), branch)
        write_contribution(top, "breast", {"adapter_model.safetensors": adapter(version, name="breast")})
        teller.forge("commit")
    teller.git("merge", "--quiet", "--no-edit", "other", code=1)
    teller.forge("status")
    teller.forge("resolve", code=1)
    teller.forge("resolve", "--theirs")
    teller.git("commit", "--quiet", "--no-edit")
    teller.forge("verify", "--no-scores")

    teller.git("revert", "--no-edit", "-m", "1", "HEAD")
    teller.git("revert", "--no-edit", "HEAD~2")
    teller.forge("log")
    teller.forge("verify", "--no-scores")
    teller.forge("push", "--no-scores", "origin", "main")
    teller.git("rev-parse", "HEAD", "origin/main", heard=True)
    teller.git("status", "--porcelain", heard=True)
    teller.git("ls-tree", "-r", "HEAD", heard=True)
    teller.git(*LOG, "--format=%P%n%B", heard=True)
    return teller.told()
